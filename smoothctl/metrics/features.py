"""The feature-extractor contract and its registry, `smoothctl.features`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from torch import Tensor

from smoothctl.datasets.base import Note
from smoothctl.metrics.image_sets import ImageSet
from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Registry

__all__ = ["Extracted", "Features", "Pixels", "Request", "load", "names", "registry"]


def _silent(message: str) -> None:
    """Says nothing."""
    del message


@dataclass(frozen=True)
class Request:
    """What an extractor is made from.

    Args:
        reference: the images that samples will be compared with.
        weights: file of the extractor's weights, for one that needs a file.
        sha256: what that file's SHA-256 must be, where it is not the one that is known.
        download: whether it may fetch its weights.
        device: where it computes.
        note: told in one sentence what a person should know.
    """

    reference: ImageSet
    weights: Path | None = None
    sha256: str | None = None
    download: bool = False
    device: str = "cpu"
    note: Note = _silent


class Extracted(NamedTuple):
    """What an extractor says of some images."""

    features: Tensor
    """Floats (n, d) on the CPU."""

    probabilities: Tensor | None = None
    """Class probabilities (n, classes) on the CPU; None where it has no classes."""


class Features(ABC):
    """Maps images to feature vectors, whose distributions are then compared.

    Args:
        request: the reference, and where weights may come from.

    Raises:
        NotAvailable: it cannot be had for this reference, or its weights are not at hand.
        DataError: its weights are damaged or not the expected ones.
    """

    summary: ClassVar[str]
    """One sentence for `smoothctl features list`."""

    preprocessing: ClassVar[str] = "none"
    """What is done to the 8-bit images first; part of every result."""

    batch: ClassVar[int] = 256
    """Images to take at once."""

    takes_weights: ClassVar[bool] = False
    """Whether `Request.weights`, `sha256` and `download` mean something to it."""

    def __init__(self, request: Request) -> None:
        del request

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Changes whenever the features of the same images would: a hash of weights and method."""

    @property
    def details(self) -> dict[str, float | str]:
        """What else a reader of the figures should know, such as a classifier's accuracy."""
        return {}

    @abstractmethod
    def __call__(self, images: Tensor) -> Extracted:
        """Returns features of images, uint8 (n, C, H, W)."""


class Pixels(Features):
    """The images themselves, as vectors of values in [−1, 1]."""

    summary = "the pixels themselves, as vectors"
    preprocessing = "8 bits to [−1, 1]"

    @property
    def sha256(self) -> str:
        """There is one way to do this."""
        return "pixels-1"

    def __call__(self, images: Tensor) -> Extracted:
        """Flattens: uint8 (n, C, H, W) -> float32 (n, C·H·W)."""
        return Extracted(images.flatten(1).float() / 127.5 - 1)


registry: Registry[type[Features]] = REGISTRIES["smoothctl.features"]
load = registry.load
names = registry.names
