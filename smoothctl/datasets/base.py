"""The dataset contract: an event shape, three views, and the true density where it is known."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from smoothctl.errors import NotAvailable
from smoothctl.rng import generator

__all__ = ["LARGEST_EVENT", "ArrayView", "Dataset", "Domain", "FiniteView", "Note", "View"]

Domain = Literal["vector", "image"]
Note = Callable[[str], None]
"""Is told in one sentence what a person should know."""

LARGEST_EVENT = 2**22
"""Coordinates of an event: more than 1024×1024 pixels in three colours."""


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

    def rows(self, indices: Tensor) -> Tensor:
        """Returns the examples at storage indices (k,), shape (k, *event), in data units."""

    def labels(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Returns the classes of `batch` with the same arguments, int64 (stop − start,).

        Raises:
            NotAvailable: the dataset has no classes.
        """

    def head_labels(self, limit: int | None = None) -> Tensor:
        """Returns the classes of `head` with the same argument, int64.

        Raises:
            NotAvailable: the dataset has no classes.
        """


class FiniteView(ABC):
    """Stored examples, permuted anew every epoch: a subclass says how many and reads rows.

    Args:
        labels: the class of each example, int64 (n,); None where there are no classes.
    """

    def __init__(self, labels: Tensor | None = None) -> None:
        self._labels = labels
        self._key: tuple[int, int] | None = None
        self._order = torch.empty(0, dtype=torch.int64)

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of examples."""

    @abstractmethod
    def rows(self, indices: Tensor) -> Tensor:
        """Returns the examples at storage indices (k,), shape (k, *event)."""

    def batch(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Returns examples start … stop of the epoch's permutation."""
        return self.rows(self._permutation(seed, epoch)[start:stop])

    def head(self, limit: int | None = None) -> Tensor:
        """Returns the first `limit` examples in storage order."""
        return self.rows(torch.arange(len(self))[:limit])

    def labels(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Returns the classes of `batch` with the same arguments."""
        return self._classes()[self._permutation(seed, epoch)[start:stop]]

    def head_labels(self, limit: int | None = None) -> Tensor:
        """Returns the classes of `head` with the same argument."""
        return self._classes()[:limit]

    def files(self, indices: Sequence[int]) -> list[str] | None:
        """Returns the files that examples at storage indices came from; None without any."""
        del indices
        return None

    def _permutation(self, seed: int, epoch: int) -> Tensor:
        if self._key != (seed, epoch):
            self._order = torch.randperm(len(self), generator=generator(seed, "order", epoch))
            self._key = (seed, epoch)
        return self._order

    def _classes(self) -> Tensor:
        if self._labels is None:
            raise NotAvailable("These examples have no labels.")
        return self._labels


class ArrayView(FiniteView):
    """A finite view over a tensor of examples.

    Args:
        examples: shape (n, *event).
        labels: the class of each example, int64 (n,); None where there are no classes.
    """

    def __init__(self, examples: Tensor, labels: Tensor | None = None) -> None:
        super().__init__(labels)
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def rows(self, indices: Tensor) -> Tensor:
        """Returns the examples at storage indices."""
        return self._examples[indices]


class Dataset(ABC):
    """Data with an event shape and, where it is known, the density that it was drawn from."""

    summary: ClassVar[str]
    """One sentence for `smoothctl datasets list`."""

    source: ClassVar[str]
    """Where the definition or the data comes from."""

    licence: ClassVar[str]

    Config: ClassVar[type[Any] | None] = None
    """The settings that `--data` takes; such a dataset is made by cls(options, note)."""

    remote: ClassVar[bool] = False
    """Whether a host is asked for the examples."""

    suggestion: ClassVar[str] = "suggested for this dataset"
    """What `suggested_sigma` is."""

    domain: Domain = "vector"
    levels: int | None = None
    """Number of values per coordinate for 8-bit data (256); None for real numbers."""

    suggested_sigma: float | None = None
    """The smoothing that the paper used, or that works well here; None: use the heuristic."""

    classes: int | None = None
    """Number of classes that the examples are labelled with; None where there are no labels."""

    options: Mapping[str, Any] = MappingProxyType({})
    """The settings that differ from this dataset's defaults because the user said so."""

    name: str
    event_shape: tuple[int, ...]

    @property
    def slug(self) -> str:
        """A short name for folders."""
        return self.name.replace(":", "-")

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
        raise NotAvailable(f"The true density of {self.slug} is not known.")

    def true_entropy(self) -> float:
        """Returns the differential entropy of the true density in nats.

        Raises:
            NotAvailable: the density is not known.
        """
        raise NotAvailable(f"The true entropy of {self.slug} is not known.")

    def off_support(self, x: Tensor) -> Tensor:
        """Returns which samples lie where true data practically never do: bool, (batch,).

        Raises:
            NotAvailable: the density is not known.
        """
        del x
        raise NotAvailable(f"The support of {self.slug} is not known.")
