"""The σ heuristic: half the typical distance between data points per coordinate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smoothctl.datasets.base import Dataset
from smoothctl.errors import DataError
from smoothctl.randomness import generator

__all__ = ["SigmaEstimate", "sigma_heuristic"]

_EXACT = 2048
_CHUNK = 2**15


@dataclass(frozen=True)
class SigmaEstimate:
    """The heuristic's σ in data units, its standard error, and how it was found."""

    sigma: float
    standard_error: float
    pairs: int
    exact: bool


def sigma_heuristic(
    dataset: Dataset, seed: int = 0, tolerance: float = 0.005, max_pairs: int = 2**20
) -> SigmaEstimate:
    """Returns the median Euclidean distance between two data points over 2√D (ARDS app. C.1).

    Up to 2,048 training examples all pairs count; beyond, independent random pairs are drawn
    until the standard error is at most `tolerance` of the estimate. That error comes from the
    order statistics around the median, whose rank has standard deviation √pairs / 2.

    Args:
        dataset: the data; its training view is used.
        seed: seed of the pairs.
        tolerance: relative standard error to stop at.
        max_pairs: pairs to stop at all the same.

    Raises:
        DataError: fewer than two distinct examples.
    """
    examples = dataset.train.head().flatten(1)
    scale = 1 / (2 * math.sqrt(examples.shape[1]))
    if len(examples) <= _EXACT:
        distances = torch.nn.functional.pdist(examples.double())
        estimate = SigmaEstimate(_median(distances) * scale, 0.0, len(distances), exact=True)
    else:
        estimate = _from_random_pairs(examples, seed, tolerance, max_pairs, scale)
    if not estimate.sigma > 0:
        raise DataError(f"{dataset.name} gives sigma 0: most of its examples are equal.")
    return estimate


def _from_random_pairs(
    examples: Tensor, seed: int, tolerance: float, max_pairs: int, scale: float
) -> SigmaEstimate:
    draws, distances = generator(seed, "pairs"), torch.empty(0)
    while True:
        first = torch.randint(len(examples), (_CHUNK,), generator=draws)
        shift = torch.randint(1, len(examples), (_CHUNK,), generator=draws)
        second = (first + shift) % len(examples)
        new = (examples[first] - examples[second]).norm(dim=1).float()
        distances = torch.cat([distances, new]).sort().values
        n = len(distances)
        low, high = (math.floor(n / 2 + sign * math.sqrt(n) / 2) for sign in (-1, 1))
        error = float(distances[high] - distances[low]) / 2 * scale
        sigma = float(distances[n // 2]) * scale
        if error <= tolerance * sigma or n >= max_pairs:
            return SigmaEstimate(sigma, error, n, exact=False)


def _median(values: Tensor) -> float:
    ordered = values.sort().values
    n = len(ordered)
    return float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2 if n else 0.0
