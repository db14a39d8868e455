"""The sampler that draws whole images, over and over, until nothing changes any more."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from smoothctl.architectures.base import Progress
from smoothctl.architectures.pixelcnnpp.head import PixelNoise, draw
from smoothctl.architectures.pixelcnnpp.network import Network
from smoothctl.architectures.pixelcnnpp.samplers import Canvas

__all__ = ["Filled", "ParallelSampler", "fill"]

_ROUNDING = 8
"""Changes of so many units in the last place are none: another size of the batch makes as many."""


class Filled(NamedTuple):
    """Filled images, and what that took."""

    images: Tensor
    """(n, C, H, W)"""

    passes: Tensor
    """Passes through the network that each image took part in: int64 (n,), on the CPU."""


class ParallelSampler:
    """Draws what `NaiveSampler` draws, in as many passes over whole images as `fill` needs."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        """What each image took of those that were drawn so far."""

    def __call__(
        self, network: Network, canvas: Canvas, progress: Progress | None = None
    ) -> Tensor:
        """Returns the filled images; see `Sampler`."""
        filled = fill(network, canvas, progress)
        self.passes += filled.passes.tolist()
        return filled.images


def fill(network: Network, canvas: Canvas, progress: Progress | None = None) -> Filled:
    """Fills a canvas by Jacobi's iteration, xₖ₊₁ = draw(network(xₖ), noise).

    The noise being fixed, the draw is the only solution of x = draw(network(x), noise), in which a
    pixel depends on earlier ones alone. So a pass settles all pixels up to the first that it
    changes, and that one: there are at most as many passes as unknown pixels, from any start, and
    mostly far fewer (Song, Meng, Liao & Ermon 2021, "Accelerating feedforward computation via
    parallel nonlinear equation solving", ICML). A settled image leaves the batch.

    Args:
        network: in evaluation mode.
        canvas: what is to be filled, from what stands in its unknown pixels.
        progress: told (rows that are settled in every image, rows).
    """
    passes = torch.zeros(len(canvas.images), dtype=torch.int64)
    if canvas.known.all():
        return Filled(canvas.images, passes)
    with parametrize.cached(), torch.inference_mode():
        filled, going = canvas.images.clone(), _Going.of(canvas)
        last, rows = going.canvas.images.shape[2], going.rows()
        while len(going.numbers):
            passes[going.numbers.cpu()] += 1
            going = going.after(network)
            filled[going.numbers, :, :last] = going.canvas.images
            going = going.unsettled()
            if progress is not None:
                progress(rows - going.rows(), rows)
    return Filled(filled.clone(), passes)  # outside, so that gradients can start from it


class _Going(NamedTuple):
    """The images that may still change."""

    numbers: Tensor
    """Of the images in the whole canvas, (n,)."""

    canvas: Canvas
    """The images so far, and what determines them but for the noise. Its first row is the first
    that has an unknown pixel, and there is none below the last that has one."""

    noise: PixelNoise
    """Of the pixels from that row on: (n, rows, W, K) and (n, rows, W, C)."""

    settled: Tensor
    """How many pixels, from that row on, no pass can change any more: (n,)."""

    unknown: Tensor
    """How many pixels there are from that row to the last unknown one: (n,)."""

    @classmethod
    def of(cls, canvas: Canvas) -> "_Going":
        """Returns those images of a canvas that have an unknown pixel; there is one."""
        n, _, _, width = canvas.images.shape
        rows = (~canvas.known).any(3).flatten(0, 1).any(0).nonzero().flatten().tolist()
        first, last = rows[0], rows[-1] + 1
        known = canvas.known.expand(n, -1, -1, -1)[:, :, :last]
        unknown = ~known[:, :, first:].flatten(1)
        position = torch.arange(1, unknown.shape[1] + 1, device=unknown.device)
        below = slice(first - canvas.first_row, last - canvas.first_row)
        pixels = slice(below.start * width, below.stop * width)
        everything = cls(
            torch.arange(n, device=unknown.device),
            replace(
                canvas,
                images=canvas.images[:, :, :last],
                known=known,
                centre=None if canvas.centre is None else canvas.centre[:, :, below],
                first_row=first,
            ),
            PixelNoise(*(_by_image(each[pixels], width) for each in canvas.noise)),
            unknown.int().argmax(1),
            torch.where(unknown, position, 0).amax(1),
        )
        return everything.unsettled()

    def rows(self) -> int:
        """Returns how many rows are not settled in all images."""
        if not len(self.numbers):
            return 0
        rows = self.canvas.images.shape[2] - self.canvas.first_row
        return rows - int(self.settled.amin()) // self.canvas.images.shape[3]

    def after(self, network: Network) -> "_Going":
        """Returns the images after one more pass."""
        canvas, top = self.canvas, self.canvas.first_row
        old = canvas.images[:, :, top:]
        position = torch.arange(old[0, 0].numel(), device=old.device).view(old.shape[2:])
        fixed = canvas.known[:, :, top:] | (position < self.settled[:, None, None, None])
        new = torch.where(fixed, old, self._drawn(network))
        rounding = _ROUNDING * torch.finfo(new.dtype).eps
        same = torch.isclose(new, old, rounding, rounding, equal_nan=True).all(1).flatten(1)
        changed_first = same.int().argmin(1)
        return self._replace(
            canvas=replace(canvas, images=torch.cat([canvas.images[:, :, :top], new], dim=2)),
            settled=torch.where(same.all(1), same.shape[1], changed_first + 1),
        )

    def _drawn(self, network: Network) -> Tensor:
        """Returns draws of all pixels given the images as they are: (n, C, rows, W)."""
        canvas, centre = self.canvas, self.canvas.centre
        parameters = network(canvas.images, canvas.condition, canvas.first_row, canvas.features)
        centre = None if centre is None else centre.permute(0, 2, 3, 1)
        drawn = draw(parameters, self.noise, canvas.components, canvas.levels, centre)
        return drawn.permute(0, 3, 1, 2)

    def unsettled(self) -> "_Going":
        """Returns those images that may still change."""
        kept = self.settled < self.unknown
        if kept.all():
            return self
        canvas = self.canvas
        return _Going(
            self.numbers[kept],
            replace(
                canvas,
                images=canvas.images[kept],
                known=canvas.known[kept],
                condition=canvas.condition.rows(kept),
                features=[each[kept] for each in canvas.features],
                centre=None if canvas.centre is None else canvas.centre[kept],
            ),
            PixelNoise(*(part[kept] for part in self.noise)),
            self.settled[kept],
            self.unknown[kept],
        )


def _by_image(noise: Tensor, width: int) -> Tensor:
    """Turns the noise of pixels, (rows·W, n, …), into that of images, (n, rows, W, …)."""
    by_image: Tensor = noise.unflatten(0, (-1, width)).movedim(2, 0)
    return by_image
