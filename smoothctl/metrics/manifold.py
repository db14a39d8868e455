"""Precision, recall, density and coverage of samples among a reference's neighbourhoods."""

from typing import NamedTuple

import torch
from torch import Tensor

from smoothctl.errors import DataError, UsageError
from smoothctl.metrics.two_sample import check_pair
from smoothctl.smoothing.batching import spans

__all__ = ["ManifoldScores", "manifold_scores"]

_ENTRIES = 2**23
"""Distances in memory at once: 64 MiB."""

_ROUNDING = 1e-12
"""Of squared norms: a point this near to a sphere counts as on it, and so as inside."""


class ManifoldScores(NamedTuple):
    """How samples and reference lie among each other's neighbours."""

    precision: float
    """Share of samples inside some reference ball, 0 to 1."""

    recall: float
    """Share of reference points inside some sample's ball, 0 to 1."""

    density: float
    """Mean number of reference balls around a sample, over k: about 1 for equal distributions."""

    coverage: float
    """Share of reference balls that hold a sample, 0 to 1."""

    k: int
    """A ball around a point reaches to its k-th nearest neighbour in its own set."""


def manifold_scores(
    samples: Tensor, reference: Tensor, k: int = 5, entries: int = _ENTRIES
) -> ManifoldScores:
    r"""Returns precision and recall, density and coverage.

    With reference points xᵢ (n of them), samples yⱼ (m of them), and the closed ball B(z) around z
    that reaches to its k-th nearest neighbour in its own set:

    - precision (1/m) Σⱼ 1[yⱼ ∈ ∪ᵢ B(xᵢ)] and recall (1/n) Σᵢ 1[xᵢ ∈ ∪ⱼ B(yⱼ)]
      (Kynkäänniemi et al. 2019, who take k = 3);
    - density (1/km) Σⱼ Σᵢ 1[yⱼ ∈ B(xᵢ)] and coverage (1/n) Σᵢ 1[∃ j: yⱼ ∈ B(xᵢ)]
      (Naeem et al. 2020, who take k = 5 for all four).

    Euclidean distances in float64, in blocks: beside the sets themselves at most 200 MB.

    Args:
        samples: (m, d).
        reference: (n, d).
        k: which neighbour a ball reaches to.
        entries: distances in memory at once; the result does not depend on it.

    Raises:
        DataError: no more than k points in a set, unequal widths, or values that are not finite.
        UsageError: k is below 1.
    """
    _check(samples, reference, k)
    centre = reference.double().mean(0)  # small norms keep |x|² + |y|² − 2x·y exact
    y, x = (z.double() - centre for z in (samples, reference))
    reach_y, reach_x = (_squared_reach(z, k, entries) for z in (y, x))
    covering = 0
    precise = 0
    recalled = torch.zeros(len(x), dtype=torch.bool)
    covered = torch.zeros(len(x), dtype=torch.bool)
    for start, stop in spans(len(y), max(1, entries // len(x))):
        squared = _squared_distances(y[start:stop], x, 1 - _ROUNDING)
        in_reference = squared <= reach_x
        precise += int(in_reference.any(1).sum())
        covering += int(in_reference.sum())
        covered |= in_reference.any(0)
        recalled |= (squared <= reach_y[start:stop, None]).any(0)
    return ManifoldScores(
        precision=precise / len(y),
        recall=float(recalled.double().mean()),
        density=covering / (k * len(y)),
        coverage=float(covered.double().mean()),
        k=k,
    )


def _squared_reach(x: Tensor, k: int, entries: int) -> Tensor:
    """Returns each point's squared distance to its k-th nearest other: (n, d) -> (n,)."""
    # The point itself is the nearest of all: k others and itself are k + 1.
    return torch.cat([
        _squared_distances(x[start:stop], x).topk(k + 1, largest=False).values[:, -1]
        for start, stop in spans(len(x), max(1, entries // len(x)))
    ])  # fmt: skip


def _squared_distances(x: Tensor, y: Tensor, norms: float = 1.0) -> Tensor:
    """Returns (|x|² + |y|²) · norms − 2x·y, not below zero: (n, d), (m, d) -> (n, m)."""
    squares = norms * (x.square().sum(1)[:, None] + y.square().sum(1))
    return squares.addmm_(x, y.T, alpha=-2).clamp_(min=0)


def _check(samples: Tensor, reference: Tensor, k: int) -> None:
    check_pair(samples, reference)
    if k < 1:
        raise UsageError(f"The neighbour that a ball reaches to must be at least 1, not {k}.")
    if min(len(samples), len(reference)) <= k:
        raise DataError(
            f"A ball to the {k}th neighbour needs more than {k} images in each set, not "
            f"{len(samples)} and {len(reference)}: draw more images or ask for fewer neighbours."
        )
