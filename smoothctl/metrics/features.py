"""Feature extractors for sample quality, found through `smoothctl.features`."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from smoothctl.registry import Registry

__all__ = ["Features", "Pixels", "load", "names", "registry"]


class Features(ABC):
    """Maps images to feature vectors, whose distributions are then compared."""

    summary: ClassVar[str]

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Returns features: (n, C, H, W) in [-1, 1] -> (n, d)."""


class Pixels(Features):
    """The images themselves, as vectors."""

    summary = "the pixels themselves, as vectors"

    def __call__(self, images: Tensor) -> Tensor:
        """Flattens: (n, C, H, W) -> (n, C·H·W)."""
        return images.flatten(1)


registry: Registry[Features] = Registry("smoothctl.features", "feature extractor", lambda: Features)
load = registry.load
names = registry.names
