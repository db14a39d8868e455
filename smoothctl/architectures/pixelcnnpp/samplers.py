"""Samplers: the plainest one, and the one that evaluates every layer once for each pixel."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothctl.architectures.base import Progress
from smoothctl.architectures.pixelcnnpp.caches import (
    Grow,
    HorizontalCache,
    Seen,
    Shrink,
    VerticalCache,
    bias,
    last_rows,
    pair_of,
    taps,
    weight_of,
)
from smoothctl.architectures.pixelcnnpp.head import Components, PixelNoise, draw
from smoothctl.architectures.pixelcnnpp.network import (
    NOTHING,
    Block,
    Condition,
    Network,
    Resample,
    Scale,
    Stem,
)

__all__ = ["CachedSampler", "Canvas", "NaiveSampler", "RowClass", "Runner", "Sampler"]

_TO_NONE, _TO_SOME, _TO_ALL = range(3)
"""In how many images a pixel is known."""


@dataclass(frozen=True)
class Canvas:
    """Images to be filled in, and all that determines how.

    Args:
        images: (n, C, H, W), zero where unknown.
        known: bool, (n or 1, 1, H, W).
        noise: of `PixelNoise.of_images`, but for the rows above `first_row`, which are known.
        components: of each pixel's mixture.
        levels: of the values; None for real numbers.
        condition: of each image, where the network has any.
        features: of x̃ at each scale, as the network takes them.
        centre: what the means are offsets from, (n, C, rows below `first_row`, W).
        first_row: see `noise`.
    """

    images: Tensor
    known: Tensor
    noise: PixelNoise
    components: Components
    levels: int | None = None
    condition: Condition = NOTHING
    features: Sequence[Tensor] = ()
    centre: Tensor | None = None
    first_row: int = 0

    def image(self, filled: Tensor) -> Tensor:
        """Returns the images without the rows above them: (n, C, rows below `first_row`, W)."""
        return filled[:, :, self.first_row :].contiguous()

    def draw(self, row: int, column: int, parameters: Tensor) -> Tensor:
        """Maps the parameters of a pixel of all images, (n, K·P), to its values, (n, C)."""
        row -= self.first_row
        noise = self.noise.at(row * self.images.shape[3] + column)
        centre = None if self.centre is None else self.centre[:, :, row, column]
        return draw(parameters, noise, self.components, self.levels, centre)


class Sampler(Protocol):
    """Fills in the unknown pixels of a canvas in raster order."""

    def __call__(
        self, network: Network, canvas: Canvas, progress: Progress | None = None
    ) -> Tensor:
        """Returns the filled images, (n, C, H, W).

        Args:
            network: in evaluation mode.
            canvas: what is to be filled.
            progress: told (rows done, rows).
        """


class NaiveSampler:
    """One full forward pass for each pixel: the published sampler, and the test oracle."""

    def __call__(
        self, network: Network, canvas: Canvas, progress: Progress | None = None
    ) -> Tensor:
        """Returns the filled images; see `Sampler`."""
        images = canvas.images.clone()
        height, width = images.shape[2:]
        for row in range(height):
            for column in range(width):
                known = canvas.known[:, :, row, column]
                if known.all():
                    continue
                parameters = network(images, canvas.condition, features=canvas.features)
                drawn = canvas.draw(row, column, parameters[:, row, column])
                images[:, :, row, column] = images[:, :, row, column].where(known, drawn)
            if progress is not None:
                progress(row + 1, height)
        return images


class RowClass(NamedTuple):
    """What the work on a row depends on, but for the numbers that it reads and writes."""

    like: int
    """The first row at which the same scales are active, each with the same parity."""

    known: tuple[int, ...]
    """To how many images each pixel is known: none, some or all."""

    @classmethod
    def of(cls, row: int, known: Sequence[int], scales: int) -> "RowClass":
        """Returns the class of a row: the lowest of its bits, of which `scales` count."""
        return cls(min(row & -row, 1 << scales), tuple(known))


Runner = Callable[[RowClass, Callable[[], None]], None]
"""Does a row's work, which is the same operations on the same memory for each row of a class."""


def _directly(row: RowClass, work: Callable[[], None]) -> None:
    del row
    work()


class CachedSampler:
    """Draws what `NaiveSampler` draws, at about the cost of one forward pass over the batch.

    The known rows on top (the x̃ half of a stacked denoiser's canvas, the given part of an
    inpainting) pass through the network all at once. From there on the vertical stream is computed
    a row at a time and the horizontal one a pixel at a time. A scale that was halved s times does
    something at every 2ˢ-th row and column only.
    """

    def runner(self) -> Runner:
        """Returns what runs the rows of one canvas."""
        return _directly

    def __call__(
        self, network: Network, canvas: Canvas, progress: Progress | None = None
    ) -> Tensor:
        """Returns the filled images; see `Sampler`."""
        known = canvas.known[:, 0]
        known_to = (known.any(0).int() + known.all(0).int()).tolist()
        unknown_rows = [row for row, to in enumerate(known_to) if min(to) != _TO_ALL]
        if not unknown_rows:
            return canvas.images
        first, last = unknown_rows[0], unknown_rows[-1]
        with torch.inference_mode():
            state, run = _State(network, canvas), self.runner()
            if first:
                state.load(network, first)
            for row in range(first, last + 1):
                what = RowClass.of(row, known_to[row], state.scales)
                state.enter(row)
                run(what, partial(state.run, what))
                state.leave(row)
                if progress is not None:
                    progress(row - first + 1, last - first + 1)
            filled = state.stem.image()
        return filled.clone()  # outside, so that gradients can start from it


class _Way(NamedTuple):
    """Both streams of one scale, on the way down or up."""

    vertical: VerticalCache
    horizontal: HorizontalCache
    vertical_blocks: list[Block]
    horizontal_blocks: list[Block]

    @classmethod
    def of(cls, scale: Scale, width: int, n: int, condition: Condition, upward: bool) -> "_Way":
        """Makes the caches; the blocks of the way up are listed in the order of their skips."""
        streams = []
        for blocks in (scale.vertical, scale.horizontal):
            listed = cast(list[Block], list(blocks))
            streams.append(listed[::-1] if upward else listed)
        rest = (width, n, condition, upward)
        return cls(VerticalCache(streams[0], *rest), HorizontalCache(streams[1], *rest), *streams)

    def load(self, row: int, seen: Seen) -> None:
        """Takes over the last row of a parallel pass, whose number at this scale is given."""
        self.vertical.load(row, self.vertical_blocks, seen)
        self.horizontal.load(self.horizontal_blocks, seen)


class _State:
    """Everything that the network knows of the pixels so far.

    The work on a row, `run`, reads and writes the same memory for every row of a class: what
    belongs to a row is copied there by `enter`, and what came of it is copied out by `leave`.
    """

    def __init__(self, network: Network, canvas: Canvas) -> None:
        n, _, _, width = canvas.images.shape
        self.canvas = canvas
        self.features = [each.permute(2, 3, 0, 1).contiguous() for each in canvas.features]
        self.features_now = [each[0].clone() for each in self.features]
        self.stem = _StemCache(network.stem, canvas.images, canvas.known)
        self.line = replace(
            canvas,
            images=canvas.images[:, :, :1],
            noise=PixelNoise(*(each[:width].clone() for each in canvas.noise)),
            centre=None if canvas.centre is None else canvas.centre[:, :, :1].clone(),
            first_row=0,
        )
        self.scales = len(network.down)
        widths = [width]
        for _ in range(1, self.scales):
            widths.append((widths[-1] + 1) // 2)
        self.down = _ways(network.down, widths, n, canvas.condition, upward=False)
        self.up = _ways(network.up, widths, n, canvas.condition, upward=True)
        self.shrink = [
            Shrink(cast(Resample, r), w, n) for r, w in zip(network.shrink, widths, strict=False)
        ]
        self.grow = [
            Grow(cast(Resample, r), w, n) for r, w in zip(network.grow, widths, strict=False)
        ]
        self.skips_at = [
            [skips[: up.horizontal.blocks] for skips in down.horizontal.skips_at]
            for down, up in zip(self.down, self.up, strict=True)
        ]
        self.w_out = weight_of(network.out).mT.contiguous()
        self.b_out = bias(network.out)

    def load(self, network: Network, rows: int) -> None:
        """Runs the known rows on top through the network at once."""
        canvas = self.canvas
        with last_rows(network) as seen:
            network(canvas.images[:, :, :rows], canvas.condition, rows, canvas.features)
        for ways in (self.down, self.up):
            for s, way in enumerate(ways):
                way.load((rows - 1) >> s, seen)
        resampled: list[Shrink | Grow] = [*self.shrink, *self.grow]
        for cache, layers in zip(resampled, [*network.shrink, *network.grow], strict=True):
            cache.load(cast(Resample, layers), seen)

    def _coarsest(self, position: int) -> int:
        """Returns the coarsest scale that does something at a row or column: 2ˢ divides it."""
        trailing = (position & -position).bit_length() - 1 if position else self.scales
        return min(trailing, self.scales - 1)

    def enter(self, row: int) -> None:
        """Copies in what is given of a row."""
        self.stem.enter(row)
        for s in range(self._coarsest(row) + 1 if self.features else 0):
            self.features_now[s].copy_(self.features[s][row >> s])
        row -= self.canvas.first_row
        for now, each in zip(self.line.noise, self.canvas.noise, strict=True):
            now.copy_(each[row * len(now) : (row + 1) * len(now)])
        if self.line.centre is not None and self.canvas.centre is not None:
            self.line.centre.copy_(self.canvas.centre[:, :, row : row + 1])

    def leave(self, row: int) -> None:
        """Copies out what was drawn of a row."""
        self.stem.leave(row)

    def run(self, what: RowClass) -> None:
        """Runs the network for a row of a class and draws it."""
        self.begin_row(what.like)
        for column, known_to in enumerate(what.known):
            self.pixel(what.like, column, known_to)

    def begin_row(self, row: int) -> None:
        """Runs the vertical stream for a row, and what it and the row above give to each pixel."""
        top = self._coarsest(row)
        u = self._with_features(0, self.stem.begin_row(row), self.stem.partial)
        for s, (vertical, horizontal, *_) in enumerate(self.down[: top + 1]):
            u = vertical.row(row >> s, u)
            horizontal.begin_row(vertical.outputs)
            if s < self.scales - 1:
                coarse = self.shrink[s].vertical_row(u, even=s < top)
                if coarse is not None:
                    self.shrink[s].begin_row()
                    u = self._with_features(s + 1, coarse, self.shrink[s].partial)
        if top < self.scales - 1:
            u = self.grow[top].vertical_input(row >> top)
        for s in range(top, -1, -1):
            vertical, horizontal, *_ = self.up[s]
            u = vertical.row(row >> s, u, self.down[s].vertical.skips)
            horizontal.begin_row(vertical.outputs)
            if s:
                self.grow[s - 1].vertical_row(u)
                u = self.grow[s - 1].vertical_input(row >> (s - 1))

    def _with_features(self, scale: int, u: Tensor, partial: Tensor) -> Tensor:
        """Adds the features of the row to its partial sums and to the vertical stream's pairs u."""
        if not self.features:
            return u
        features = self.features_now[scale]
        partial += features
        return u + pair_of(features)

    def pixel(self, row: int, column: int, known_to: int) -> None:
        """Runs the horizontal stream for one pixel and draws it, unless it is known to all."""
        top = min(self._coarsest(row), self._coarsest(column))
        v = self.stem.pixel(column)
        for s in range(top + 1):
            horizontal, c = self.down[s].horizontal, column >> s
            horizontal.pixel(c, v)
            if s < self.scales - 1:
                horizontal.keep_output(c, v)
                self.shrink[s].keep(c, v)
            if s < top:
                v = self.shrink[s].pixel(c)
        if top < self.scales - 1:
            v = self.grow[top].pixel(row >> top, column >> top)
        for s in range(top, -1, -1):
            c = column >> s
            self.up[s].horizontal.pixel(c, v, self.skips_at[s][c])
            if s:
                self.grow[s - 1].keep(c, v)
                v = self.grow[s - 1].pixel(row >> (s - 1), column >> (s - 1))
        if known_to != _TO_ALL:
            parameters = torch.addmm(self.b_out, F.elu(v.select(1, 0)), self.w_out)
            drawn = self.line.draw(0, column, parameters)
            self.stem.put(column, drawn, known_to == _TO_SOME)


def _ways(
    scales: Iterable[nn.Module], widths: list[int], n: int, condition: Condition, upward: bool
) -> list[_Way]:
    return [
        _Way.of(cast(Scale, scale), width, n, condition, upward)
        for scale, width in zip(scales, widths, strict=True)
    ]


class _StemCache:
    """The image so far, padded, and the first convolutions.

    Args:
        stem: the first convolutions.
        canvas: (n, C, H, W).
        known: bool, (n or 1, 1, H, W).
    """

    def __init__(self, stem: Stem, canvas: Tensor, known: Tensor) -> None:
        n, channels, height, width = canvas.shape
        self.pixels = canvas.new_zeros(height + 2, width + 2, n, channels + 1)
        self.pixels[2:, 1:-1, :, :channels] = canvas.permute(2, 3, 0, 1)
        self.pixels[2:, 1:-1, :, channels] = 1
        self.known = known.permute(2, 3, 0, 1).contiguous()
        self.channels, self.width = channels, width
        self.w_vertical, self.b_vertical = taps(stem.vertical), bias(stem.vertical)
        self.w_above, self.b_above = taps(stem.above), bias(stem.above)
        self.w_left, self.b_left = taps(stem.left)[:, 0], bias(stem.left)
        self.partial = canvas.new_zeros(width, n, len(self.b_left))
        # two rows above the one at hand, and itself
        self.rows, self.known_now = torch.empty_like(self.pixels[:3]), self.known[0].clone()
        self.partial_at, self.pixel_at = self.partial.unbind(), self.rows[2].unbind()
        self.left_now = self.w_left[1]

    def enter(self, row: int) -> None:
        """Copies in a row and what is above it."""
        self.rows.copy_(self.pixels[row : row + 3])
        self.known_now.copy_(self.known[row])

    def leave(self, row: int) -> None:
        """Copies out a row."""
        self.pixels[row + 2].copy_(self.rows[2])

    def begin_row(self, row: int) -> Tensor:
        """Returns the vertical stream's input, (width, n, 2, F); its first row is zero."""
        w, above = self.width, self.rows[1]
        self.partial[0] = 0
        self.partial[1:] = above[1:w] @ self.w_left[0] + self.b_left
        if row == 0:
            return pair_of(torch.zeros_like(self.partial))
        self.partial += self.b_above
        total = self.b_vertical
        for tap in range(3):
            self.partial += above[tap : tap + w] @ self.w_above[0, tap]
            for i in range(2):
                total = total + self.rows[i, tap : tap + w] @ self.w_vertical[i, tap]
        return pair_of(total)

    def pixel(self, column: int) -> Tensor:
        """Returns the horizontal stream's input, (n, 2, F); left of the first pixel are zeros."""
        left = self.pixel_at[column]
        return pair_of(torch.addmm(self.partial_at[column], left, self.left_now))

    def put(self, column: int, values: Tensor, known_to_some: bool) -> None:
        """Sets one pixel of all images, (n, C), but for the images in which it is known."""
        pixel = self.pixel_at[column + 1].narrow(1, 0, self.channels)
        if known_to_some:
            values = torch.where(self.known_now[column], pixel, values)
        pixel.copy_(values)

    def image(self) -> Tensor:
        """Returns the image, (n, C, H, W)."""
        return self.pixels[2:, 1:-1, :, : self.channels].permute(2, 3, 0, 1).contiguous()
