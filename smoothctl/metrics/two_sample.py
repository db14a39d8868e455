"""Distances between two sets of vectors."""

import math

import torch
from torch import Generator, Tensor

from smoothctl.errors import DataError
from smoothctl.randomness import normal

__all__ = ["check_pair", "energy_distance", "sliced_wasserstein"]


def energy_distance(x: Tensor, y: Tensor) -> float:
    r"""Returns 2 E|X − Y| − E|X − X′| − E|Y − Y′| without bias (Székely & Rizzo 2013).

    Zero in expectation for equal distributions, and then as often negative as positive.

    Args:
        x: samples, (n, D).
        y: samples, (m, D).

    Raises:
        DataError: fewer than two samples, unequal widths, or values that are not finite.
    """
    check_pair(x, y)
    x, y = x.double(), y.double()
    between = _mean_distance(x, y)
    within = [_mean_distance(z, z) * len(z) / (len(z) - 1) for z in (x, y)]
    return 2 * between - sum(within)


def sliced_wasserstein(
    x: Tensor, y: Tensor, projections: int = 256, generator: Generator | None = None
) -> float:
    r"""Returns the mean over random directions of the 1-d Wasserstein-1 distance, in data units.

    (Bonneel et al. 2015.) In one dimension it is the Wasserstein-1 distance itself.

    Args:
        x: samples, (n, D).
        y: samples, (m, D); both are compared at the quantiles of the smaller set.
        projections: number of directions.
        generator: draws the directions.

    Raises:
        DataError: fewer than two samples, unequal widths, or values that are not finite.
    """
    check_pair(x, y)
    x, y = x.double(), y.double()
    count = 1 if x.shape[1] == 1 else projections
    directions = normal((x.shape[1], count), x, generator)
    directions = directions / directions.norm(dim=0)
    quantiles = (torch.arange(min(len(x), len(y)), dtype=x.dtype) + 0.5) / min(len(x), len(y))
    total = 0.0
    for block in directions.split(32, dim=1):
        gap = _quantiles(x @ block, quantiles) - _quantiles(y @ block, quantiles)
        total += float(gap.abs().mean(0).sum())
    return total / count


def _quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """Returns the empirical quantiles of each column: (n, k) -> (levels, k)."""
    ordered = values.sort(dim=0).values
    return ordered[(levels * len(ordered)).long().clamp(max=len(ordered) - 1)]


def _mean_distance(x: Tensor, y: Tensor) -> float:
    total = math.fsum(float(torch.cdist(rows, y).sum()) for rows in x.split(1024))
    return total / (len(x) * len(y))


def check_pair(x: Tensor, y: Tensor) -> None:
    """Checks that x and y are two sets of vectors that can be compared, (n, D) and (m, D).

    Raises:
        DataError: fewer than two vectors, unequal widths, or values that are not finite.
    """
    if min(len(x), len(y)) < 2 or x.shape[1:] != y.shape[1:] or x.ndim != 2:
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise DataError(f"Two sets of at least two vectors of one width are needed, not {shapes}.")
    for name, z in (("first", x), ("second", y)):
        bad = int((~z.isfinite()).any(1).sum())
        if bad:
            raise DataError(f"{bad} of the {len(z)} samples of the {name} set are not finite.")
    if math.prod(x.shape[1:]) == 0:
        raise DataError("The vectors have no coordinates.")
