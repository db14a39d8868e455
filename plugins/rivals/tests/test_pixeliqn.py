"""PixelIQN: quantiles of known distributions, samples, and what there is not."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from smoothctl_rivals.pixeliqn import PixelIQN, quantile_huber

from smoothctl.config import build
from smoothctl.errors import NotAvailable
from smoothctl.rng import generator, normal, uniform
from smoothctl.testing.contract import AnyDensityContract, OfImages

SMALL = {"filters": 6, "layers": 1, "first_reach": 1, "waves": 8, "context_layers": 2}
FAST = ["--steps", "20", "--batch-size", "16", "--device", "cpu"]


class TestPixelIQN(OfImages, AnyDensityContract):
    density_class = PixelIQN
    options: ClassVar = SMALL

    def test_there_is_neither_likelihood_nor_score(self) -> None:
        """Each is refused in a sentence; nothing is guessed."""
        density, x = self.build(), torch.zeros(2, *self.shape, dtype=torch.float64).to(self.device)
        assert not density.loss_in_nats()
        for missing in (density.log_prob, density.bound, density.score_function):
            with pytest.raises(NotAvailable, match=r"\w{3,} \w+.* "):
                missing(x)


@pytest.mark.slow
class TestPixelIQNInColour(TestPixelIQN):
    shape: ClassVar = (3, 3, 2)


@pytest.mark.parametrize("tau", [0.05, 0.5, 0.8])
def test_the_loss_is_least_at_the_quantile(tau: float) -> None:
    """Of 1,000 normal numbers, and a κ that is small beside their spread."""
    x = normal((1000,), torch.zeros((), dtype=torch.float64), generator("x"))
    guesses = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None]
    losses = quantile_huber(x - guesses, torch.full((), tau).double(), 1e-3).mean(1)
    assert guesses[losses.argmin()].item() == pytest.approx(x.quantile(tau).item(), abs=0.02)


def test_a_small_error_counts_by_its_square() -> None:
    """κ is where the loss turns from quadratic to linear."""
    error, tau = torch.tensor([0.1, -0.1, 4.0, -4.0]), torch.tensor(0.25)
    expected = torch.tensor([0.25 * 0.0025, 0.75 * 0.0025, 0.25 * 3, 0.75 * 3])
    assert torch.allclose(quantile_huber(error, tau, 2.0), expected)


@pytest.mark.slow
def test_quantiles_are_learnt() -> None:
    """Of the first pixel, and of the second given the first: x₂ = x₁/2 and uniform noise."""
    torch.manual_seed(0)
    config = build(PixelIQN.Config, {**SMALL, "filters": 16, "draws": 8}, "options")
    density = PixelIQN((1, 1, 2), config=config)
    adam, draws = torch.optim.Adam(density.parameters(), lr=1e-2), generator("draws")
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 300)
    for _ in range(300):
        first, noise = (2 * uniform((256, 2), torch.zeros(()), draws) - 1).unbind(1)
        x = torch.stack([first, first / 2 + 0.4 * noise], dim=1).view(-1, 1, 1, 2)
        adam.zero_grad()
        density.training_loss(x, None, None, draws).mean().backward()
        adam.step()
        schedule.step()
    tau = torch.linspace(0.1, 0.9, 9)
    for value in (-0.5, 0.5):
        x = torch.tensor([value, 0.0]).expand(9, 1, 1, 2)
        with torch.no_grad():
            first, second = density.quantile(x, tau.view(9, 1, 1, 1).expand_as(x)).view(9, 2).T
        assert torch.allclose(first, 2 * tau - 1, atol=0.1)
        assert torch.allclose(second, value / 2 + 0.4 * (2 * tau - 1), atol=0.1)


def test_a_two_step_run_has_samples_and_sentences(cli) -> None:
    """Over its prior there is a denoiser; no single step, no bound, and no traceback."""
    small = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    cli.output(
        "fit-prior", "--arch", "pixeliqn", "--dataset", "digits", "--out", "r", *small, *FAST
    )
    tiny = ["--set", "filters=2", "--set", "blocks=1", "--set", "scales=1"]
    cli.output("fit-denoiser", "--arch", "pixelcnnpp", "--out", "r", *tiny, *FAST)
    cli.output("sample", "r", "-n", "3", "--method", "all", "--out", "all.npz")
    drawn = set(np.load("all.npz"))
    assert {"two_step", "smoothed"} <= drawn
    assert "single_step" not in drawn
    code, _, err = cli("sample", "r", "-n", "3", "--method", "single-step", "--out", "s.npz")
    assert code == 1
    assert "has no score" in " ".join(err.split())
    scored = " ".join(cli.output("score", "r", "--limit", "20", "--samples", "20").split())
    assert "energy distance" in scored
    assert "has no score" in scored
    cli.output("inpaint", "test", "r", "-n", "2", "--out", "i.npz")
    assert np.isfinite(np.load("i.npz")["samples"]).all()
