"""Score matching at noise levels."""

from collections.abc import Callable

import pytest
import torch
from smoothctl_ncsn.losses import denoising_score_matching, sliced_loss, sliced_score_matching
from torch import Tensor

from smoothctl.rng import generator

LEVELS = torch.tensor([2.0, 0.7, 0.2], dtype=torch.float64)
ONES = torch.ones(3, dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)
Loss = Callable[..., Tensor]


def data(n: int) -> Tensor:
    noise = torch.randn(n, 2, dtype=torch.float64, generator=generator("data"))
    return noise @ torch.linalg.cholesky(COVARIANCE).T


def true_score(x: Tensor, index: Tensor, scale: float = 1.0) -> Tensor:
    """The score of N(0, Σ + σ²I), times a factor."""
    eye = torch.eye(2, dtype=x.dtype)
    precision = torch.linalg.inv(COVARIANCE + LEVELS[index].square()[:, None, None] * eye)
    return -scale * (precision @ x[:, :, None])[:, :, 0]


@pytest.mark.parametrize("loss", [denoising_score_matching, sliced_score_matching])
def test_the_smoothed_score_is_the_minimiser(loss: Loss) -> None:
    """Shrinking or stretching the true score costs; one loss an example."""
    x = data(100_000)

    def mean(scale: float) -> float:
        losses = loss(lambda y, i: true_score(y, i, scale), x, LEVELS, ONES, generator("loss"))
        assert losses.shape == (len(x),)
        return losses.mean().item()

    best = mean(1.0)
    assert best < mean(0.9)
    assert best < mean(1.1)


@pytest.mark.parametrize("loss", [denoising_score_matching, sliced_score_matching])
def test_excess_is_the_fisher_divergence(loss: Loss) -> None:
    """L(s) − L(true) = ½ E λ(σ) ‖s − true‖², exactly known for a scaled score."""
    x, scale = data(400_000), 1.5
    losses = [
        loss(lambda y, i, k=k: true_score(y, i, k), x, LEVELS, ONES, generator("loss")).mean()
        for k in (scale, 1.0)
    ]
    eye = torch.eye(2, dtype=torch.float64)
    traces = [torch.linalg.inv(COVARIANCE + s**2 * eye).trace() * s**2 for s in LEVELS]
    exact = 0.5 * (scale - 1) ** 2 * torch.stack(traces).mean()
    assert (losses[0] - losses[1]).item() == pytest.approx(exact.item(), rel=0.05)


def test_both_losses_have_the_same_gradient() -> None:
    """Towards the same minimum: they differ by a constant."""
    x = data(400_000)
    gradients = []
    for loss in (denoising_score_matching, sliced_score_matching):
        scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        loss(
            lambda y, i, k=scale: true_score(y, i, k), x, LEVELS, ONES, generator("g")
        ).mean().backward()
        assert scale.grad is not None
        gradients.append(scale.grad.item())
    assert gradients[0] == pytest.approx(gradients[1], rel=0.1)


def test_every_level_is_drawn() -> None:
    seen: list[Tensor] = []

    def score(x: Tensor, index: Tensor) -> Tensor:
        seen.append(index)
        return torch.zeros_like(x)

    denoising_score_matching(score, torch.zeros(200, 1, 2, 2), LEVELS, ONES, generator("levels"))
    assert seen[0].unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize("loss", [denoising_score_matching, sliced_score_matching])
def test_weights_scale_the_loss_of_their_level(loss: Loss) -> None:
    x, twice = data(50), torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)
    plain, weighted = (loss(true_score, x, LEVELS, w, generator("w")) for w in (ONES, twice))
    factors = (weighted / plain).round(decimals=6)
    assert factors.unique().tolist() == [1.0, 2.0]


def test_without_noise_a_score_across_the_data_gains_without_end() -> None:
    """On the line (t, 0) the score −k x₂ costs −k (NCSN section 3.1)."""
    flat = data(50_000) * torch.tensor([1.0, 0.0], dtype=torch.float64)
    for slope in (1.0, 100.0):
        across = slope * torch.tensor([0.0, 1.0], dtype=torch.float64)
        mean = sliced_loss(lambda x, k=across: -k * x, flat, generator("v")).mean().item()
        assert mean == pytest.approx(-slope, rel=0.03)
