"""The kernel distance (KID) between two sets of features."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smoothctl.errors import UsageError
from smoothctl.metrics.two_sample import check_pair

__all__ = ["KernelDistance", "kernel_distance"]


class KernelDistance(NamedTuple):
    """A kernel distance, averaged over random subsets."""

    value: float
    """The squared maximum mean discrepancy; zero on average for equal distributions."""

    standard_error: float
    """Of the mean over subsets, the two sets being given: nan where every subset is the whole of
    both. Subsets share examples, so it says nothing of what other sets would have given."""

    subsets: int
    """How many."""

    subset_size: int
    """Examples of each set in a subset."""


def kernel_distance(
    x: Tensor, y: Tensor, seed: int = 0, subsets: int = 100, subset_size: int = 1000
) -> KernelDistance:
    r"""Returns the unbiased squared MMD with the kernel k(x, y) = (x·y/d + 1)³.

    (Bińkowski et al. 2018.) The kernel inception distance, where the features are those
    of Inception: with subsets of m examples each, the mean of

    Σ_{i≠j} [k(xᵢ, xⱼ) + k(yᵢ, yⱼ)] / (m (m − 1)) − 2 Σ_{ij} k(xᵢ, yⱼ) / m².

    Draws its subsets in clean-fid's order: `numpy.random.seed(seed)` before
    `cleanfid.fid.kernel_distance` gives the same value. In float64, a subset at a time. Within
    a set half of the inner products are computed, and once where each subset is the whole set.

    Args:
        x: features, (n, d).
        y: features, (m, d).
        seed: chooses the subsets.
        subsets: how many.
        subset_size: examples in each; that of the smaller set, where it has fewer.

    Raises:
        DataError: fewer than two examples, unequal widths, or values that are not finite.
        UsageError: fewer than one subset, or of fewer than two examples.
    """
    check_pair(x, y)
    if subsets < 1 or subset_size < 2:
        raise UsageError(
            "A kernel distance takes at least one subset of at least two examples, not "
            f"{subsets} of {subset_size}."
        )
    size = min(len(x), len(y), subset_size)
    random = np.random.RandomState(seed % 2**32)
    whole_x, whole_y = (_within(z.double().cpu()) if len(z) == size else None for z in (x, y))
    values = np.empty(subsets)
    for index in range(subsets):
        second, first = _subset(y, size, random), _subset(x, size, random)
        within_x = _within(first) if whole_x is None else whole_x
        within_y = _within(second) if whole_y is None else whole_y
        between = _cubic(first @ second.T, x.shape[1])
        values[index] = within_x + within_y - 2 * float(between.mean())
    varied = subsets > 1 and max(len(x), len(y)) > size
    error = float(values.std(ddof=1) / subsets**0.5) if varied else float("nan")
    return KernelDistance(float(values.mean()), error, subsets, size)


def _subset(features: Tensor, size: int, random: np.random.RandomState) -> Tensor:
    chosen = random.choice(len(features), size, replace=False)
    return features[torch.from_numpy(chosen)].double().cpu()


def _within(x: Tensor) -> float:
    """Returns the mean of k(xᵢ, xⱼ) over i ≠ j; NumPy multiplies by the own transpose in half."""
    values = x.numpy()
    kernel = _cubic(torch.from_numpy(values @ values.T), x.shape[1])
    return float(kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))


def _cubic(inner: Tensor, width: int) -> Tensor:
    """Returns (inner/d + 1)³, in the place of inner products of vectors of a width d."""
    inner.div_(width).add_(1)
    return inner.square().mul_(inner)
