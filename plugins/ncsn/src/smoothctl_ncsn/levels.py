"""Geometric noise levels, and the rules that choose them and the step size from the data."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["PUBLISHED_RATIO", "geometric", "largest_distance", "level_count", "ratio", "step_size"]

PUBLISHED_RATIO = 100 ** (1 / 9)
"""Between neighbouring levels of NCSN: ten from 1 to 0.01."""


def geometric(first: float, last: float, count: int) -> Tensor:
    """Returns σ₁ > … > σ_L with a constant ratio (NCSN section 3.1): float64, (count,)."""
    if count == 1:
        return torch.tensor([last], dtype=torch.float64)
    steps = torch.linspace(0, 1, count, dtype=torch.float64)
    levels = first * (last / first) ** steps
    levels[-1] = last
    return levels


def largest_distance(x: Tensor) -> float:
    """Returns the largest Euclidean distance of two rows: σ₁ by technique 1 of NCSNv2.

    The paper takes it over the whole training set; over a batch it is a little less.

    Args:
        x: data, (batch, *event).
    """
    flat = x.flatten(1)
    return max(float(torch.cdist(rows, flat).max()) for rows in flat.split(256))


def ratio(dims: int) -> float:
    r"""Returns γ = σᵢ₋₁/σᵢ by technique 2 of NCSNv2, at most `PUBLISHED_RATIO`.

    The γ whose Φ(√(2D)(γ − 1) + 3γ) − Φ(√(2D)(γ − 1) − 3γ) is ½: as much of the mass of one
    level lies where the next one puts its own. In few dimensions, D < 5, any ratio overlaps by
    more than that, and up to about 28 the solution exceeds what NCSN itself took; hence the cap.

    Args:
        dims: D, the coordinates of an event.
    """
    root = math.sqrt(2 * dims)

    def overlap(gamma: float) -> float:
        centre = root * (gamma - 1)
        return _phi(centre + 3 * gamma) - _phi(centre - 3 * gamma)

    if overlap(PUBLISHED_RATIO) > 0.5:
        return PUBLISHED_RATIO
    return _bisect(lambda gamma: overlap(gamma) - 0.5, 1.0, PUBLISHED_RATIO)


def level_count(first: float, last: float, dims: int) -> int:
    """Returns how many levels reach from σ₁ to σ_L with at most `ratio(dims)` between two."""
    if first <= last:
        return 1
    return 1 + math.ceil(math.log(first / last) / math.log(ratio(dims)) - 1e-9)


def step_size(levels: Tensor, steps: int) -> float:
    r"""Returns ε in units of σ_L² by technique 4 of NCSNv2, for the image code's convention.

    With e = ε/σ_L², T steps on N(0, γ²σᵢ²) leave at level σᵢ the variance

        s_T²/σᵢ² = (1 − e)^{2T} (γ² − 1/(1 − e/2)) + 1/(1 − e/2),

    which is never below 1; e is where it comes closest. In the paper's own convention, where a
    step is α/2, ε is twice as much.

    Args:
        levels: σ₁ > … > σ_L, (L,).
        steps: T, Langevin steps a level.
    """
    gamma = float(levels[0] / levels[1]) if len(levels) > 1 else PUBLISHED_RATIO
    e = torch.logspace(-6, 0, 10_001, dtype=torch.float64)[:-1]
    floor = 1 / (1 - e / 2)
    variance = (1 - e) ** (2 * steps) * (gamma**2 - floor) + floor
    return float(e[variance.argmin()])


def _phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _bisect(decreasing: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if decreasing(middle) > 0 else (low, middle)
    return (low + high) / 2
