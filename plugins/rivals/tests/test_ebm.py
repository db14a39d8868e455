"""EBM: its score is that of its energy, its dynamics draw, its loss repeats."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from smoothctl_rivals.ebm import EBM, langevin
from torch import Tensor

from smoothctl.errors import NotAvailable
from smoothctl.rng import generator, normal
from smoothctl.testing import CommandLine, ImageScoreModelContract

OPTIONS = {"filters": 2, "steps": 3}
FAST = ["--batch-size", "16", "--device", "cpu", "--set", "filters=2", "--set", "steps=2"]


class TestEBM(ImageScoreModelContract):
    density_class = EBM
    options: ClassVar = OPTIONS


@pytest.mark.slow
class TestOfOddImages(TestEBM):
    shape: ClassVar = (2, 4, 3)
    options: ClassVar = {"filters": 4, "blocks": 0, "steps": 5}


class TestOfTwoPixels(TestEBM):
    shape: ClassVar = (1, 1, 2)
    options: ClassVar = {"filters": 2, "steps": 2}


def _model(levels: int | None = None, **options: float) -> EBM:
    """Returns a model of 1×4×3 images with random weights."""
    torch.manual_seed(0)
    model = EBM((1, 4, 3), None, levels, EBM.Config(**OPTIONS | options)).double()
    model.initialize_prior(*[torch.randn(200, 1, 4, 3).double()] * 2, 0.3)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def test_the_score_is_minus_the_gradient_of_the_energy() -> None:
    model, x = _model(), torch.randn(3, 1, 4, 3).double()
    steps = 1e-5 * torch.eye(12).double().view(12, 1, 4, 3)
    with torch.no_grad():
        slopes = [(model.energy(x + step) - model.energy(x - step)) / 2e-5 for step in steps]
    score = model.score_function(x).flatten(1)
    assert torch.allclose(-score, torch.stack(slopes, dim=1), rtol=1e-6, atol=1e-6)
    reference = (model.loc - x) / model.scale**2
    assert not torch.allclose(score, reference.flatten(1))


def test_before_it_has_learnt_anything_it_is_normal_with_the_data_s_moments() -> None:
    model = EBM((1, 4, 3), config=EBM.Config(filters=1, blocks=0)).double()
    x = 2 + 3 * torch.randn(500, 1, 4, 3).double()
    model.initialize_prior(x, x, 0.3)
    assert torch.allclose(model.score_function(x), (x.mean(0) - x) / x.var(0, correction=0))
    drawn = model.sample(2000, generator=generator("normal"))
    assert torch.allclose(drawn.mean(0), x.mean(0), atol=0.3)
    assert torch.allclose(drawn.std(0), x.std(0), rtol=0.1)


def test_the_dynamics_draw_from_a_normal_distribution() -> None:
    """Of step ε the variance of N(m, v) is that of x ↦ m + (1 − ε/2v)(x − m) + √ε n."""
    mean, variance, step = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 2.0]), 0.4
    start, source = torch.zeros(20_000, 2).double(), generator("normal")
    *_, x = langevin(
        lambda x: (mean - x) / variance,
        start,
        step,
        150,
        lambda: normal(start.shape, start, source),
    )
    expected = step**2 / (1 - (1 - step**2 / (2 * variance)) ** 2)
    assert torch.allclose(x.mean(0), mean, atol=0.05)
    assert torch.allclose(x.var(0), expected.double(), rtol=0.05)


def test_the_loss_changes_nothing_and_repeats() -> None:
    """Neither in training nor in evaluation: there is no state but the weights."""
    model, x = _model(), torch.randn(6, 1, 4, 3).double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for mode in (True, False):
        losses = [model.train(mode).training_loss(x, generator=generator("l")) for _ in range(2)]
        assert torch.equal(*losses)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
def test_a_fit_lowers_the_energy_of_data_relative_to_noise() -> None:
    """Two kinds of images, which no normal distribution tells from what lies between."""
    torch.manual_seed(0)
    kinds = torch.tensor([-1.0, 1.0]).repeat(64).view(-1, 1, 1, 1) * torch.ones(1, 4, 4)
    x = kinds + 0.3 * torch.randn(128, 1, 4, 4)
    model = EBM((1, 4, 4), config=EBM.Config(filters=4, blocks=0, steps=20))
    model.initialize_prior(kinds, x, 0.3)
    noise = model.loc + model.scale * torch.randn_like(x)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)

    def gap() -> float:
        with torch.no_grad():
            return float((model.energy(noise) - model.energy(x)).mean())

    start = gap()
    for step in range(40):
        loss = model.prior_loss(kinds, x, 0.3, None, generator("fit", step)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert abs(start) < 2
    assert gap() > start + 10
    drawn = model.sample(200, generator=generator("drawn"))
    brightness, before = (images.mean((1, 2, 3)) for images in (drawn, noise))
    assert brightness.abs().mean() > 1.3 * before.abs().mean()


def test_samples_of_levels_are_levels() -> None:
    x = _model(levels=5).sample(3, generator=generator("levels"))
    assert torch.equal(x, (2 * x).round() / 2)
    assert x.abs().max() <= 1


def test_there_is_no_likelihood() -> None:
    with pytest.raises(NotAvailable, match="constant"):
        _model().log_prob(torch.zeros(1, 1, 4, 3).double())


def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the sixth step, after the checkpoint of the fourth."""
    fit = ["fit-baseline", "--arch", "ebm", "--dataset", "digits", *FAST, "--steps", "8"]
    every = ["--set", "training.checkpoint_every=2"]
    cli.output(*fit, *every, "--out", "whole")
    calls, loss = [], EBM.training_loss

    def stopped(self: EBM, *arguments: Tensor) -> Tensor:
        calls.append(self.training)
        if sum(calls) == 6:
            raise KeyboardInterrupt
        return loss(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(EBM, "training_loss", stopped)
        assert cli(*fit, *every, "--out", "again")[0] != 0
    assert not list(Path("again").rglob("model.safetensors"))
    _, _, err = cli(*fit, *every, "--out", "again")
    assert "Resumes" in err
    whole, again = (next(Path(run).rglob("model.safetensors")) for run in ("whole", "again"))
    assert whole.read_bytes() == again.read_bytes()


@pytest.mark.slow
def test_a_run_of_both_stages(cli: CommandLine) -> None:
    """A prior that is drawn from, denoised both ways, scored, and no denoiser."""
    fit = ["fit-prior", "--arch", "ebm", "--dataset", "digits", "--out", "run"]
    cli.output(*fit, *FAST, "--steps", "3")
    small = ["--set", "filters=4", "--set", "blocks=1", "--batch-size", "16", "--device", "cpu"]
    cli.output("fit-denoiser", "--arch", "pixelcnnpp", "--out", "run", *small, "--steps", "2")
    for method in ("smoothed", "single-step", "two-step"):
        cli.output("sample", "run", "-n", "3", "--method", method, "--out", f"{method}.npz")
        assert np.isfinite(np.load(f"{method}.npz")["samples"]).all()
    cli.output("inpaint", "test", "run", "-n", "2", "--out", "inpainted.npz")
    few = ["--limit", "8", "--samples", "8", "--draws", "2"]
    scores = json.loads(cli.output("score", "run", *few, "--json"))
    assert "two-step bound" in scores["not_available"]
    code, _, err = cli("fit-denoiser", "--arch", "ebm", "--out", "run", "--overwrite", *FAST)
    assert code == 2
    assert "no denoiser" in err
