"""The dataset contract: an event shape, three views, and the true density where it is known."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from smoothctl.errors import NotAvailable
from smoothctl.randomness import generator

__all__ = ["ArrayView", "Dataset", "Domain", "View"]

Domain = Literal["vector", "image"]


class View(Protocol):
    """Examples in an order that is a pure function of (seed, epoch).

    A finite view permutes its examples; a stream draws fresh ones. Both repeat exactly, so that
    a run that was killed sees the same batches when it starts again.
    """

    def __len__(self) -> int:
        """Returns the number of examples in one epoch."""

    def batch(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Returns examples start … stop of an epoch, shape (stop − start, *event)."""

    def head(self, limit: int | None = None) -> Tensor:
        """Returns the first `limit` examples in storage order; all of them if None."""


class ArrayView:
    """A finite view over a tensor of examples, permuted anew every epoch.

    Args:
        examples: shape (n, *event).
    """

    def __init__(self, examples: Tensor) -> None:
        self._examples = examples
        self._key: tuple[int, int] | None = None
        self._order = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Returns examples start … stop of the epoch's permutation."""
        if self._key != (seed, epoch):
            order = generator(seed, "order", epoch)
            self._order = torch.randperm(len(self._examples), generator=order)
            self._key = (seed, epoch)
        return self._examples[self._order[start:stop]]

    def head(self, limit: int | None = None) -> Tensor:
        """Returns the first `limit` examples in storage order."""
        return self._examples[:limit]


class Dataset(ABC):
    """Data with an event shape and, where it is known, the density that it was drawn from."""

    summary: ClassVar[str]
    """One sentence for `smoothctl datasets list`."""

    source: ClassVar[str]
    """Where the definition or the data comes from."""

    licence: ClassVar[str]

    domain: Domain = "vector"
    levels: int | None = None
    """Number of values per coordinate for 8-bit data (256); None for real numbers."""

    suggested_sigma: float | None = None
    """The smoothing that the paper used, or that works well here; None: use the heuristic."""

    name: str
    event_shape: tuple[int, ...]

    @property
    def fingerprint(self) -> str | None:
        """The SHA-256 of the data where it is a file that may change; None for a definition."""
        return None

    @property
    @abstractmethod
    def train(self) -> View:
        """The examples to fit."""

    @property
    @abstractmethod
    def validation(self) -> View:
        """Examples for choosing among models while fitting; neither fitted nor scored."""

    @property
    @abstractmethod
    def test(self) -> View:
        """The examples to score; the same for every seed."""

    def reference(self, n: int, seed: int) -> Tensor:
        """Returns n true examples that are not the test view's, for the floor of a statistic.

        Returns:
            Shape (min(n, available), *event).
        """
        return self.train.batch(seed, 0, 0, min(n, len(self.train)))

    def true_log_prob(self, x: Tensor) -> Tensor:
        """Returns log p(x) in nats under the true density: (batch, *event) -> (batch,).

        Raises:
            NotAvailable: the density is not known.
        """
        del x
        raise NotAvailable(f"The true density of {self.name} is not known.")

    def true_entropy(self) -> float:
        """Returns the differential entropy of the true density in nats.

        Raises:
            NotAvailable: the density is not known.
        """
        raise NotAvailable(f"The true entropy of {self.name} is not known.")

    def off_support(self, x: Tensor) -> Tensor:
        """Returns which samples lie where true data practically never do: bool, (batch,).

        Raises:
            NotAvailable: the density is not known.
        """
        del x
        raise NotAvailable(f"The support of {self.name} is not known.")
