"""The gain from x̃: exact for a known denoiser, zero for one that is blind, told by each verb."""

import json
import math
import shutil
from html import unescape
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smoothctl.evaluation.likelihood import gain_estimate
from smoothctl.metrics.gain import gain_from_context, gain_note
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_denoiser, fit_prior
from tests.conftest import SMALL, TINY


@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
def test_it_is_what_the_posterior_gives(sigma: float) -> None:
    """X ~ N(0, 1), x̃ = x + σ n: p(x|x̃) = N(x̃/(1 + σ²), σ²/(1 + σ²))."""
    x = torch.randn(200_000, dtype=torch.float64, generator=generator("x"))
    x_smooth = x + sigma * torch.randn(len(x), dtype=torch.float64, generator=generator("n"))
    mean, variance = 1 / (1 + sigma**2), sigma**2 / (1 + sigma**2)

    def log_prob(x_smooth: Tensor) -> Tensor:
        return -0.5 * (x - mean * x_smooth) ** 2 / variance

    gain = gain_from_context(log_prob, x_smooth)
    expected = (1 + mean - variance) / (2 * variance)
    error = gain.std().item() / math.sqrt(len(gain))
    assert gain.mean().item() == pytest.approx(expected, abs=5 * error)
    assert expected > 0.5 * math.log(1 + 1 / sigma**2)  # the information


def test_a_blind_denoiser_gains_nothing() -> None:
    gain = gain_from_context(lambda x_smooth: torch.ones(len(x_smooth)), torch.randn(5, 3))
    assert torch.equal(gain, torch.zeros(5))


def test_a_sentence_where_it_is_small() -> None:
    shape, bit = (1, 8, 8), 64 * math.log(2)
    assert gain_note(0.2 * bit, shape) is None
    said = gain_note(0.0005 * bit, shape)
    assert said is not None
    assert "does not use x̃ yet (gain 0.0005 bits a dimension): fit longer" in said


class TestFits:
    """A denoiser's validations have it."""

    def test_the_log_of_a_denoiser_alone(self, trained_run: Run) -> None:
        logs = {name: trained_run.stage(name).log() for name in trained_run.stages()}
        for name, log in logs.items():
            validations = [entry for entry in log if "validation" in entry]
            assert all(("gain" in entry) == (name == "denoiser") for entry in validations)
        gains = [entry["gain"] for entry in logs["denoiser"] if "gain" in entry]
        assert gains[-1] > 1

    def test_it_is_that_of_the_weights(self, trained_run: Run) -> None:
        method = trained_run.two_step()
        assert method is not None
        x = trained_run.dataset().test.head(1000)
        estimate = gain_estimate("two-step", method, x, seed=0)
        assert estimate is not None
        logged = trained_run.stage("denoiser").log()[-1]["gain"]
        assert estimate.nats == pytest.approx(logged, abs=5 * estimate.standard_error)
        assert estimate.bits_per_dim is None

    def test_a_denoiser_that_cannot_learn_is_told(self, cli, trained_run: Run) -> None:
        shutil.copytree(trained_run.path, "run")
        flags = ["--steps", 2, "--learning-rate", "1e-9", "--batch-size", 32, "--overwrite"]
        code, out, err = cli("fit-denoiser", "--out", "run", *flags, "--set", "offset=false")
        assert code == 0, err
        assert "The denoiser does not use x̃ yet" in err
        assert "gain from x̃, nats" in out
        _, out, err = cli("score", "run", "--samples", 0, "--limit", 50, "--quadrature", 0)
        assert "Gain from x̃, an example's own against another's: " in out
        assert "nats (50 examples, higher is better)" in out
        assert "does not use x̃ yet" in err
        cli("report", "run")
        page = unescape(Path("run/report.html").read_text())
        assert "does not use x̃ yet" in page
        assert "Gain from x̃, an example's own against another's" in page

    def test_images_are_told_in_bits(self, cli) -> None:
        tiny = ["--steps", 2, "--batch-size", 8, "--set", "training.validation_limit=8"]
        tiny += ["--set", "filters=4", "--set", "blocks=1"]
        cli("fit-prior", "--arch", "pixelcnnpp", *tiny, "--out", "run")
        code, out, err = cli("fit-denoiser", *tiny, "--out", "run", "--json")
        assert code == 0, err
        found = json.loads(out)
        for key in ("validation", "gain"):
            bits = found[f"{key}_nats"] / (64 * math.log(2))
            assert found[f"{key}_bits_per_dim"] == pytest.approx(bits)
        _, out, _ = cli("score", "run", "--samples", 0, "--limit", 4, "--draws", 2, "--json")
        gain = json.loads(out)["gain"]
        assert gain["bits_per_dim"] == pytest.approx(gain["nats"] / (64 * math.log(2)))

    def test_classes_go_with_their_images(self, class_run: Run) -> None:
        run = class_run
        assert "gain" in run.stage("denoiser").log()[-1]
        method, data = run.two_step(), run.dataset().test
        assert method is not None
        assert gain_estimate("two-step", method, data.head(5), 0, data.head_labels(5)) is not None

    def test_it_does_not_depend_on_how_validation_is_cut(self, tmp_path: Path) -> None:
        common = {"options": SMALL, "device": "cpu", "precision": "float64"}
        gains = []
        for parts in (1, 4):
            training = {**TINY, "steps": 3, "accumulate": parts}
            out = tmp_path / str(parts)
            fit_prior(dataset="two-moons", sigma=0.3, out=out, training=training, **common)
            run = fit_denoiser(out=out, training=training, **common)
            gains.append(run.stage("denoiser").log()[-1]["gain"])
        assert gains[0] == pytest.approx(gains[1], abs=1e-6)
