"""Score matching at all noise levels at once, one loss for each example."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from smoothctl.rng import normal

__all__ = [
    "LevelScore",
    "Score",
    "denoising_score_matching",
    "sliced_loss",
    "sliced_score_matching",
]

Score = Callable[[Tensor], Tensor]
"""s(x): (batch, *event) to the same shape."""

LevelScore = Callable[[Tensor, Tensor], Tensor]
"""s(x, i): (batch, *event) and level indices, int64 (batch,), to (batch, *event)."""


def denoising_score_matching(
    score: LevelScore,
    x: Tensor,
    levels: Tensor,
    weights: Tensor,
    generator: Generator | None = None,
) -> Tensor:
    r"""Returns ½ λ(σ) ‖s(x + σz, σ) + z/σ‖² at a random level an example.

    NCSN eq. 5 and 6; in expectation least where s is the score of the smoothed data (Vincent
    2011).

    Args:
        score: the model.
        x: clean examples, (batch, *event).
        levels: σ₁ > … > σ_L, (L,).
        weights: λ(σ)/σ² of each level, (L,): ones in NCSN.
        generator: draws levels and noise.

    Returns:
        (batch,).
    """
    index, sigma = _draw_levels(x, levels, generator)
    noise = normal(x.shape, x, generator)
    error = sigma * score(x + sigma * noise, index) + noise
    return 0.5 * weights[index] * error.flatten(1).square().sum(1)


def sliced_score_matching(
    score: LevelScore,
    x: Tensor,
    levels: Tensor,
    weights: Tensor,
    generator: Generator | None = None,
) -> Tensor:
    r"""Returns λ(σ) [vᵀ ∇s(x̃, σ) v + ½ ‖s(x̃, σ)‖²] with v ~ N(0, I) at a random level an example.

    That is `sliced_loss` at x̃ = x + σz. It needs no known noise, but a second derivative.

    Args:
        score: the model.
        x: clean examples, (batch, *event).
        levels: σ₁ > … > σ_L, (L,).
        weights: λ(σ)/σ² of each level, (L,): ones in NCSN.
        generator: draws levels, noise and projections.

    Returns:
        (batch,).
    """
    index, sigma = _draw_levels(x, levels, generator)
    noisy = x + sigma * normal(x.shape, x, generator)
    losses = sliced_loss(lambda x: score(x, index), noisy, generator)
    return weights[index] * sigma.flatten().square() * losses


def sliced_loss(score: Score, x: Tensor, generator: Generator | None = None) -> Tensor:
    r"""Returns vᵀ ∇s(x) v + ½ ‖s(x)‖² with v ~ N(0, I).

    The variance-reduced form of sliced score matching (Song et al. 2019b; NCSN eq. 3). It is
    bounded below only where the data fill the space: on a manifold s may grow without end.

    Args:
        score: the model.
        x: the examples whose score is learnt, (batch, *event).
        generator: draws the projections.

    Returns:
        (batch,).
    """
    projection = normal(x.shape, x, generator)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        found = score(x)
        (gradient,) = torch.autograd.grad((found * projection).sum(), x, create_graph=True)
    return (gradient * projection + 0.5 * found.square()).flatten(1).sum(1)


def _draw_levels(x: Tensor, levels: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Returns level indices, (batch,), and their σ, broadcastable to x."""
    device = x.device if generator is None else generator.device
    index = torch.randint(len(levels), (len(x),), generator=generator, device=device)
    index = index.to(x.device)
    return index, levels.to(x)[index].view(-1, *[1] * (x.ndim - 1))
