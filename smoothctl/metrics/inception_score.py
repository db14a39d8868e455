"""The Inception score of class probabilities that come in blocks."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from smoothctl.errors import DataError, UsageError

__all__ = ["InceptionScore", "SplitScore"]

_ROUNDING = 1e-3


class SplitScore(NamedTuple):
    """An Inception score over consecutive splits of the images."""

    value: float
    """Mean over splits; from 1 to the number of classes, higher is better."""

    deviation: float
    """Standard deviation over splits, as published (divided by the number of splits)."""

    splits: int
    """How many."""


class InceptionScore:
    r"""Gathers exp(E_x KL(p(y|x) ‖ p(y))) over consecutive splits (Salimans et al. 2016).

    p(y) is the mean of p(y|x) over a split, and E_x KL = H(p(y)) − E_x H(p(y|x)): of each split
    only the sums of probabilities and of entropies are kept.

    Args:
        count: how many images will come; where the splits end depends on it.
        splits: how many splits, 10 in the paper.

    Raises:
        DataError: fewer images than splits.
        UsageError: fewer than one split.

    Example:
        >>> score = InceptionScore(count=4, splits=1)
        >>> score.update(torch.eye(4))
        >>> round(score.result().value, 6)
        4.0
    """

    def __init__(self, count: int, splits: int = 10) -> None:
        if splits < 1:
            raise UsageError(f"An Inception score takes at least one split, not {splits}.")
        if count < splits:
            raise DataError(
                f"An Inception score over {splits} splits needs at least {splits} images, not "
                f"{count}: draw more images or ask for fewer splits."
            )
        self._ends = [count * (split + 1) // splits for split in range(splits)]
        self._seen = 0
        self._probabilities: list[Tensor] = []
        self._entropies = [0.0] * splits

    def update(self, probabilities: Tensor) -> None:
        """Takes in p(y|x) of the next images, (k, classes).

        Raises:
            DataError: more images than were announced, another number of classes, or rows that
                are no probabilities; the message names the first such image.
        """
        self._check(probabilities)
        block = probabilities.detach().cpu().double()
        if not self._probabilities:
            self._probabilities = [block.new_zeros(block.shape[1]) for _ in self._ends]
        for split, end in enumerate(self._ends):
            part, block = block[: max(0, end - self._seen)], block[max(0, end - self._seen) :]
            self._probabilities[split] += part.sum(0)
            self._entropies[split] += _entropy(part)
            self._seen += len(part)

    def result(self) -> SplitScore:
        """Returns mean and standard deviation over the splits.

        Raises:
            DataError: fewer images came than were announced.
        """
        if self._seen < self._ends[-1]:
            raise DataError(f"{self._seen} of {self._ends[-1]} images came.")
        starts = [0, *self._ends[:-1]]
        sizes = [end - start for start, end in zip(starts, self._ends, strict=True)]
        parts = zip(sizes, self._probabilities, self._entropies, strict=True)
        scores = torch.tensor(
            [math.exp(_entropy(total / n) - entropy / n) for n, total, entropy in parts],
            dtype=torch.float64,
        )
        deviation = scores.std(correction=0)
        return SplitScore(float(scores.mean()), float(deviation), len(scores))

    def _check(self, probabilities: Tensor) -> None:
        shape, known = tuple(probabilities.shape), self._probabilities
        if len(shape) != 2 or (known and shape[1] != len(known[0])):
            raise DataError(
                f"Class probabilities are (images, {len(known[0]) if known else 'classes'}), "
                f"not {shape}."
            )
        if self._seen + len(probabilities) > self._ends[-1]:
            raise DataError(f"More than the {self._ends[-1]} announced images came.")
        whole = (probabilities.double().sum(1) - 1).abs() < _ROUNDING  # False for nan
        bad = (~(whole & (probabilities >= 0).all(1))).nonzero()
        if len(bad):
            image = self._seen + int(bad[0])
            raise DataError(f"The class probabilities of image {image} are not probabilities.")


def _entropy(probabilities: Tensor) -> float:
    """Returns −Σ p log p in nats over all entries; 0 log 0 = 0."""
    return -float(torch.special.xlogy(probabilities, probabilities).sum())
