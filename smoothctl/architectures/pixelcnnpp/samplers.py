"""The interface of samplers, and the plainest one."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.architectures.pixelcnnpp.network import Network

__all__ = ["Draw", "NaiveSampler", "Sampler"]

Draw = Callable[[int, int, Tensor], Tensor]
"""Maps row, column and the pixel's parameters (n, K·P) to its values (n, C)."""


class Sampler(Protocol):
    """Fills in the unknown pixels of a canvas in raster order."""

    def __call__(
        self,
        network: Network,
        canvas: Tensor,
        known: Tensor,
        draw: Draw,
        labels: Tensor | None = None,
        features: Sequence[Tensor] = (),
        progress: Progress | None = None,
    ) -> Tensor:
        """Returns the filled canvas.

        Args:
            network: in evaluation mode.
            canvas: images, (n, C, H, W), zero where unknown.
            known: bool, (n or 1, 1, H, W).
            draw: draws one pixel of all images from its parameters.
            labels: classes, (n,), where the network has them.
            features: of x̃ at each scale, as the network takes them.
            progress: told (rows done, rows).
        """


class NaiveSampler:
    """One full forward pass for each pixel: the published sampler, and the test oracle."""

    def __call__(
        self,
        network: Network,
        canvas: Tensor,
        known: Tensor,
        draw: Draw,
        labels: Tensor | None = None,
        features: Sequence[Tensor] = (),
        progress: Progress | None = None,
    ) -> Tensor:
        """Returns the filled canvas; see `Sampler`."""
        canvas = canvas.clone()
        height, width = canvas.shape[2:]
        for row in range(height):
            for column in range(width):
                if known[:, :, row, column].all():
                    continue
                drawn = draw(
                    row, column, network(canvas, labels, features=features)[:, row, column]
                )
                kept = known[:, :, row, column]
                canvas[:, :, row, column] = drawn.where(~kept, canvas[:, :, row, column])
            if progress is not None:
                progress(row + 1, height)
        return canvas
