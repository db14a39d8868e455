"""Fitting PixelCNN++: presets, classes, what a denoiser inherits, and exact repetition."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.errors import Interrupted, RunError, UsageError
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_joint, fit_prior
from smoothctl.training.reporter import Quiet
from smoothctl.training.settings import FitSettings, resolve
from tests.test_training import StopAt, same, weights

TINY = {"blocks": 1, "filters": 4, "mixtures": 2}
TRAINING = {"steps": 6, "batch_size": 8, "warmup": 2, "checkpoint_every": 2, "validation_limit": 16}


def fit(out: Path, reporter: Any = None, **changes: Any) -> Run:
    settings = {"dataset": "digits", "architecture": "pixelcnnpp", "options": TINY}
    settings |= {"training": TRAINING, "device": "cpu", "sigma": 0.4, "out": out}
    return fit_prior(reporter, **{**settings, **changes})


def test_dropout_and_initialisation_repeat(tmp_path: Path) -> None:
    """Nothing that is random is left to the global generator."""
    torch.manual_seed(1)
    first = weights(fit(tmp_path / "a"))
    torch.manual_seed(2)
    assert same(first, weights(fit(tmp_path / "b")))


@pytest.mark.parametrize("step", [1, 4])
def test_a_stopped_run_ends_in_the_same_weights(tmp_path: Path, step: int) -> None:
    """Mirrored images, dropout and noise go on where they stopped."""
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 6, 3)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images)
    settings = {"dataset": str(tmp_path / "images.npz"), "data": {"flip": True}}
    whole = weights(fit(tmp_path / "whole", **settings))
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", StopAt(step, signal.SIGTERM), **settings)
    assert same(whole, weights(fit(tmp_path / "cut", **settings)))


@pytest.mark.slow
def test_a_denoiser_inherits_its_priors_settings(tmp_path: Path) -> None:
    fit(tmp_path, options={**TINY, "classes": 10})
    run = fit_denoiser(out=tmp_path, training=TRAINING, options={"mixtures": 3}, device="cpu")
    options = run.stage("denoiser").config().options
    assert (options["filters"], options["mixtures"], options["classes"]) == (4, 3, 10)


def test_settings_win_over_a_preset(tmp_path: Path) -> None:
    chosen = {"mixtures": 2, "filters": 4, "blocks": 1}
    run = fit(tmp_path, preset="paper-mnist", options=chosen)
    config = run.stage("prior")
    found = config.config()
    assert (found.options["mixtures"], found.options["filters"]) == (2, 4)
    assert found.options["dropout"] == 0.5
    assert found.training.learning_rate == 2e-4
    assert found.training.steps == 6
    assert "preset paper-mnist" in config.config_file.read_text()


class TestNoise:
    """A prior's mixtures are smoothed by the noise that its data have, and no other stage's."""

    @staticmethod
    def noise(stage: Any, **settings: Any) -> float:
        given = {"dataset": "digits", "architecture": "pixelcnnpp", **settings}
        return float(resolve(stage, FitSettings(**given), Quiet()).config.options["noise"])

    def test_of_a_prior_is_the_runs(self) -> None:
        assert self.noise("prior", sigma=0.4) == 0.4
        assert self.noise("prior", sigma=0.4, options={"lowest_sigma": 0.1}) == 0.1
        assert self.noise("prior", sigma=0.4, options={"noise": 0.2}) == 0.2
        assert self.noise("baseline") == 0

    @pytest.mark.parametrize(
        "settings", [{"kernel": "laplace"}, {"preset": "paper-mnist"}], ids=str
    )
    def test_of_others_is_none(self, settings: dict[str, Any]) -> None:
        assert self.noise("prior", sigma=0.4, **settings) == 0

    @pytest.mark.parametrize(
        ("smoothing", "lowest", "at_most"),
        [
            ({"sigma": 0.2}, 0.0, "0.2"),
            ({"sigma": 0.9}, 0.1, "0.1"),
            ({"sigma": 0.4, "kernel": "laplace"}, 0.0, "0"),
        ],
        ids=["sigma", "range", "kernel"],
    )
    def test_is_not_of_another_fit(
        self, tmp_path: Path, smoothing: dict[str, Any], lowest: float, at_most: str
    ) -> None:
        begun = fit(tmp_path).stage("prior").config().options
        with pytest.raises(UsageError, match=f"noise=0.4.*more.*take at most {at_most}[.]$"):
            self.noise("prior", **smoothing, options={**begun, "lowest_sigma": lowest})

    def test_is_no_denoisers(self, tmp_path: Path) -> None:
        run = fit(tmp_path)
        assert run.stage("prior").config().options["noise"] == 0.4
        denoiser = resolve("denoiser", FitSettings(out=tmp_path), Quiet())
        assert denoiser.config.options["noise"] == 0
        with pytest.raises(UsageError, match="grid"):
            fit_denoiser(out=tmp_path, training=TRAINING, options={"noise": 0.3})


@pytest.mark.slow
def test_a_denoiser_inherits_the_preset_and_what_won_over_it(tmp_path: Path) -> None:
    fit(tmp_path, preset="paper-mnist", options=TINY)
    run = fit_denoiser(out=tmp_path, training=TRAINING, device="cpu")
    config = run.stage("denoiser").config()
    assert (config.preset, config.training.learning_rate) == ("paper-mnist", 2e-4)
    assert config.options["filters"] == 4


def test_stages_of_one_run_share_their_classes(tmp_path: Path) -> None:
    fit(tmp_path, options={**TINY, "classes": 10})
    for fit_other, changes in [(fit_denoiser, {"classes": 0}), (fit_baseline, {})]:
        with pytest.raises(RunError, match="the same classes, or none"):
            fit_other(
                dataset="digits",
                architecture="pixelcnnpp",
                out=tmp_path,
                training=TRAINING,
                options={**TINY, **changes},
                device="cpu",
            )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "paper-minst"}, "did you mean paper-mnist"),
        ({"architecture": "made", "dataset": "rings", "options": {}, "preset": "x"}, "has none"),
        ({"options": {**TINY, "classes": 5}}, "set classes=10"),
        ({"dataset": "rings"}, "models images"),
        ({"architecture": "made", "options": {}}, "models vectors"),
        ({"options": {"filters": 0}}, "filters"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fit(tmp_path, **changes)


def test_classes_need_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(UsageError, match="no labels"):
        fit(tmp_path / "run", dataset=str(tmp_path / "images.npy"), options={**TINY, "classes": 2})


def test_there_is_no_joint_network(tmp_path: Path) -> None:
    from smoothctl.errors import NotAvailable

    with pytest.raises(NotAvailable, match="fit-prior and fit-denoiser"):
        fit_joint(dataset="digits", architecture="pixelcnnpp", out=tmp_path, device="cpu")


@pytest.mark.slow
def test_a_baseline_learns_its_classes(tmp_path: Path) -> None:
    """With labels that decide the image, the right label becomes likelier than a wrong one."""
    labels = np.arange(200) % 2
    images = (labels[:, None, None] * 200 + 20) * np.ones((1, 3, 3))
    noise = np.random.default_rng(0).integers(-10, 10, images.shape)
    np.savez(
        tmp_path / "images.npz",
        train=(images + noise).astype(np.uint8)[:160],
        test=(images + noise).astype(np.uint8)[160:],
        train_labels=labels[:160],
        test_labels=labels[160:],
    )
    training = {**TRAINING, "steps": 60, "batch_size": 32, "learning_rate": 2e-2}
    run = fit_baseline(
        dataset=str(tmp_path / "images.npz"),
        architecture="pixelcnnpp",
        options={**TINY, "classes": 2, "dropout": 0.0},
        training=training,
        out=tmp_path / "run",
        device="cpu",
    )
    density, dataset = run.density("baseline"), run.dataset()
    assert isinstance(density, PixelCNNpp)
    x, right = dataset.test.head(), dataset.test.head_labels()
    gap = density.log_prob(x, labels=right) - density.log_prob(x, labels=1 - right)
    assert gap.mean() > 0.5


@pytest.mark.slow
def test_precisions_mix(tmp_path: Path) -> None:
    """A denoiser of another precision than its prior's still takes its samples."""
    fit(tmp_path, precision="float64")
    run = fit_denoiser(out=tmp_path, training=TRAINING, device="cpu")
    method = run.two_step()
    assert method is not None
    assert method.sample(2).shape == (2, 1, 8, 8)
