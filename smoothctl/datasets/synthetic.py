"""Data whose density and entropy are known: what all of it has in common."""

import math
from abc import abstractmethod
from functools import cached_property

import torch
from torch import Generator, Tensor

from smoothctl.datasets.base import ArrayView, Dataset
from smoothctl.datasets.grid import Grid
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.rng import generator

__all__ = ["Stream", "Synthetic", "check_width", "choose", "log_normal_density"]

_EPOCH = 2**16
_HELD_OUT = 10_000
_SUPPORT_MASS = 0.9973  # what lies within three standard deviations of a Gaussian


class Synthetic(Dataset):
    """Data drawn from a known density: training never sees the same sample twice.

    A subclass gives `sample`, `true_log_prob` and the `grid` that resolves the density.
    """

    licence = "none needed: a formula"

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """A grid that covers the density and resolves its finest structure."""

    @abstractmethod
    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n samples, shape (n, *event), in the default dtype."""

    @property
    def train(self) -> "Stream":
        """An endless stream; one epoch is 65,536 fresh draws."""
        return self._train

    @cached_property
    def _train(self) -> "Stream":
        return Stream(self)

    @cached_property
    def validation(self) -> ArrayView:
        """10,000 draws, the same for every seed."""
        return ArrayView(self.sample(_HELD_OUT, generator(self.name, "validation")))

    @cached_property
    def test(self) -> ArrayView:
        """10,000 draws, the same for every seed."""
        return ArrayView(self.sample(_HELD_OUT, generator(self.name, "test")))

    def reference(self, n: int, seed: int) -> Tensor:
        """Draws n fresh true samples."""
        return self.sample(n, generator(self.name, "reference", seed))

    def true_entropy(self) -> float:
        """Returns −∫ p log p in nats, by the trapezoid rule on `grid`."""
        return self._entropy

    @cached_property
    def _entropy(self) -> float:
        return self.grid.entropy(self.true_log_prob)

    def off_support(self, x: Tensor) -> Tensor:
        """Returns which samples lie outside the densest region that holds 99.73 % of the mass.

        For Gaussian noise around a curve that is about three standard deviations; true samples
        fall outside with probability 0.0027 (0 for a uniform density).
        """
        return self.true_log_prob(x) < self._support_threshold

    @cached_property
    def _support_threshold(self) -> Tensor:
        draws = self.sample(200_000, generator(self.name, "support"))
        threshold = torch.quantile(self.true_log_prob(draws), 1 - _SUPPORT_MASS)
        return threshold - 1e-6 * threshold.abs()


class Stream:
    """Fresh draws every epoch, a pure function of (seed, epoch)."""

    def __init__(self, dataset: Synthetic) -> None:
        self._dataset = dataset
        self._key: tuple[int, int] | None = None
        self._drawn = torch.empty(0)

    def __len__(self) -> int:
        return _EPOCH

    def batch(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Returns draws start … stop of an epoch."""
        if self._key != (seed, epoch):
            order = generator(self._dataset.name, "train", seed, epoch)
            self._drawn = self._dataset.sample(_EPOCH, order)
            self._key = (seed, epoch)
        return self._drawn[start:stop]

    def head(self, limit: int | None = None) -> Tensor:
        """Returns the first draws of seed 0."""
        return self.batch(0, 0, 0, min(limit or _EPOCH, _EPOCH))

    def rows(self, indices: Tensor) -> Tensor:
        """Returns draws of seed 0 by their position in its first epoch."""
        return self.batch(0, 0, 0, _EPOCH)[indices]

    def labels(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Raises NotAvailable: a density has no classes."""
        del seed, epoch, start, stop
        raise NotAvailable(f"{self._dataset.name} has no labels.")

    def head_labels(self, limit: int | None = None) -> Tensor:
        """Raises NotAvailable: a density has no classes."""
        del limit
        raise NotAvailable(f"{self._dataset.name} has no labels.")


def choose(n: int, choices: int, generator: Generator | None) -> Tensor:
    """Draws n indices below `choices`, all equally likely."""
    return torch.randint(choices, (n,), generator=generator)


def log_normal_density(squared: Tensor, sd: float, dims: int) -> Tensor:
    """Returns log N(x; 0, sd² I) in nats from the squared distance |x|², elementwise."""
    return -squared / (2 * sd**2) - dims * math.log(sd * math.sqrt(2 * math.pi))


def check_width(x: Tensor, dataset: Dataset) -> None:
    """Checks that x is (batch, dims) as the dataset's events.

    Raises:
        UsageError: it is not.
    """
    if x.ndim != 2 or tuple(x.shape[1:]) != dataset.event_shape:
        expected = f"(batch, {dataset.event_shape[0]})"
        raise UsageError(f"{dataset.name} takes samples of shape {expected}, not {tuple(x.shape)}.")
