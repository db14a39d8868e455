"""The σ heuristic: half the typical distance between data points per coordinate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smoothctl.datasets.base import Dataset, View
from smoothctl.errors import DataError
from smoothctl.rng import generator

__all__ = ["SigmaEstimate", "sigma_heuristic"]

_EXACT = 2048
_EXACT_VALUES = 2**23
_CHUNK, _FEWEST, _CHUNK_VALUES = 2**15, 2**10, 2**27
"""Pairs to draw before looking at the error: fewer where they have many values."""

_BLOCK_BYTES = 2**24
_BYTES_A_PAIR = 20
"""For each dimension: two values as bytes and as float32, their difference, and room."""


@dataclass(frozen=True)
class SigmaEstimate:
    """The heuristic's σ in data units, its standard error, and how it was found."""

    sigma: float
    standard_error: float
    pairs: int
    exact: bool


def sigma_heuristic(
    dataset: Dataset,
    seed: int = 0,
    tolerance: float = 0.005,
    max_pairs: int = 2**20,
    scale: Sequence[float] | None = None,
) -> SigmaEstimate:
    """Returns the median Euclidean distance between two data points over 2√D (ARDS app. C.1).

    Up to 2,048 training examples (fewer above 4,096 dimensions) all pairs count; beyond,
    independent random pairs are drawn until the standard error is at most `tolerance` of the
    estimate. That error comes from the order statistics around the median, whose rank has
    standard deviation √pairs / 2. Examples are read a few at a time.

    Args:
        dataset: the data; its training view is used.
        seed: seed of the pairs.
        tolerance: relative standard error to stop at.
        max_pairs: pairs to stop at all the same.
        scale: of each coordinate of vectors, which are divided by it; σ is in its units.

    Raises:
        DataError: fewer than two distinct examples.
    """
    dims = math.prod(dataset.event_shape)
    view = dataset.train if scale is None else _Scaled(dataset.train, torch.tensor(scale))
    unit = 1 / (2 * math.sqrt(dims))
    if len(view) <= _EXACT and len(view) * dims <= _EXACT_VALUES:
        distances = torch.nn.functional.pdist(view.head().flatten(1).double())
        estimate = SigmaEstimate(_median(distances) * unit, 0.0, len(distances), exact=True)
    else:
        estimate = _from_random_pairs(view, dims, seed, tolerance, max_pairs)
    if not estimate.sigma > 0:
        raise DataError(f"{dataset.name} gives sigma 0: most of its examples are equal.")
    return estimate


class _Scaled:
    """The rows of a view, divided by the scale of each coordinate."""

    def __init__(self, view: View, scale: Tensor) -> None:
        self.view, self.scale = view, scale

    def __len__(self) -> int:
        return len(self.view)

    def head(self) -> Tensor:
        """Returns all rows, (n, D)."""
        rows = self.view.head()
        return rows / self.scale.to(rows)

    def rows(self, indices: Tensor) -> Tensor:
        """Returns some rows, (k, D)."""
        rows = self.view.rows(indices)
        return rows / self.scale.to(rows)


def _from_random_pairs(
    view: View | _Scaled, dims: int, seed: int, tolerance: float, max_pairs: int
) -> SigmaEstimate:
    draws, distances = generator(seed, "pairs"), torch.empty(0)
    chunk = min(_CHUNK, max(_FEWEST, _CHUNK_VALUES // dims))
    scale, block = 1 / (2 * math.sqrt(dims)), max(1, _BLOCK_BYTES // (_BYTES_A_PAIR * dims))
    while True:
        first = torch.randint(len(view), (chunk,), generator=draws)
        shift = torch.randint(1, len(view), (chunk,), generator=draws)
        new = _distances(view, first, (first + shift) % len(view), block)
        distances = torch.cat([distances, new]).sort().values
        n = len(distances)
        low, high = (math.floor(n / 2 + sign * math.sqrt(n) / 2) for sign in (-1, 1))
        error = float(distances[high] - distances[low]) / 2 * scale
        sigma = float(distances[n // 2]) * scale
        if error <= tolerance * sigma or n >= max_pairs:
            return SigmaEstimate(sigma, error, n, exact=False)


def _distances(view: View | _Scaled, first: Tensor, second: Tensor, block: int) -> Tensor:
    """Returns the distances of pairs, float32, reading `block` pairs at a time."""
    distances = torch.empty(len(first))
    for i in range(0, len(first), block):
        a, b = (view.rows(indices[i : i + block]) for indices in (first, second))
        distances[i : i + block] = (a - b).flatten(1).norm(dim=1)
    return distances


def _median(values: Tensor) -> float:
    ordered = values.sort().values
    n = len(ordered)
    return float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2 if n else 0.0
