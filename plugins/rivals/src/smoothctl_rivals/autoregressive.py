"""Images channel by channel of pixels in raster order: causal convolutions, and how one draws."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Density, Progress, Shape
from smoothctl.config import config
from smoothctl.errors import UsageError
from smoothctl.rng import row_generators, uniform

__all__ = [
    "CausalConv2d",
    "Cursor",
    "MaskedConv2d",
    "RasterDensity",
    "Trunk",
    "channels_of",
    "row_uniforms",
]


class CausalConv2d(nn.Conv2d):
    """A convolution that sees its own row and rows above.

    Args:
        inputs: channels in.
        outputs: channels out.
        above: rows that it sees above its own.
        left: columns that it sees to the left of its own.
        right: columns that it sees to the right of its own.
    """

    def __init__(self, inputs: int, outputs: int, above: int, left: int, right: int) -> None:
        super().__init__(inputs, outputs, (above + 1, left + 1 + right))
        self.above, self.left, self.right = above, left, right

    @property
    def kernel(self) -> Tensor:
        """The weight that counts, (outputs, inputs, rows, columns)."""
        return self.weight

    def forward(self, x: Tensor, cursor: "Cursor | None" = None) -> Tensor:
        """Maps (batch, inputs, H, W) to (batch, outputs, H, W).

        Args:
            x: whole images or, with a cursor, the row or pixel where that is.
            cursor: knows what came before.
        """
        if cursor is None:
            x = F.pad(x, (self.left, self.right, self.above, 0))
        else:
            x = cursor.keep(self, x)
        kernel = self.kernel
        if x.shape[2:] == kernel.shape[2:]:  # one pixel: a product is faster than a convolution
            return F.linear(x.flatten(1), kernel.flatten(1), self.bias)[..., None, None]
        return F.conv2d(x, kernel, self.bias)


class MaskedConv2d(CausalConv2d):
    """One that sees no pixel after its own, and of its own the channels up to that of the output.

    Those below it with mask A, which the first layer has, and its own too with mask B (van den Oord
    et al. 2016a, section 3.4). The mask multiplies at call time; the stored weight never changes.

    Args:
        into: the colour channel of each input, int64 (inputs,).
        out: that of each output, int64 (outputs,).
        above: rows that it sees above its own.
        reach: columns that it sees to the left, and in the rows above to the right.
        own: mask B.
    """

    mask: Tensor

    def __init__(
        self, into: Tensor, out: Tensor, above: int = 0, reach: int = 0, own: bool = True
    ) -> None:
        super().__init__(len(into), len(out), above, reach, reach if above else 0)
        mask = torch.ones_like(self.weight)
        mask[:, :, -1, reach:] = 0
        mask[:, :, -1, reach] = (out[:, None] >= into + int(not own)).float()
        self.register_buffer("mask", mask, persistent=False)

    @property
    def kernel(self) -> Tensor:
        """The weight where the mask is one."""
        return self.weight * self.mask


class Cursor:
    """A place in images that are drawn in raster order, and what the layers saw before it.

    So a pixel costs one pixel's work, and draws the same as a pass over the image for each.

    Args:
        height: of the images.
        width: of the images.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.row = self.column = 0
        self._seen: dict[CausalConv2d, Tensor] = {}

    def keep(self, layer: CausalConv2d, x: Tensor) -> Tensor:
        """Keeps the input of a layer and returns it with what the layer needs around it.

        Args:
            layer: the layer.
            x: what it is given at the cursor, (n, inputs, 1, W) of a row or (n, inputs, 1, 1).

        Returns:
            Shape (n, inputs, kernel rows, columns of x + kernel columns − 1).
        """
        sides = layer.left + layer.right
        if layer not in self._seen:
            size = (self.height + layer.above, self.width + sides)
            self._seen[layer] = x.new_zeros(*x.shape[:2], *size)
        start = 0 if x.shape[3] == self.width else self.column
        stop = start + x.shape[3]
        rows = self._seen[layer][:, :, self.row : self.row + layer.above + 1]
        rows[:, :, -1:, layer.left + start : layer.left + stop] = x
        return rows[..., start : stop + sides]


class Trunk(nn.Module):
    """Maps images to features of each pixel, which depend on what comes before it alone.

    Feature j belongs to the colour channel `channels[j]`: it also sees its own pixel's channels
    before that one.
    """

    channels: Tensor
    """int64 (features,)"""

    @property
    @abstractmethod
    def first(self) -> CausalConv2d:
        """The layer that sees the pixels to the left."""

    @abstractmethod
    def given(
        self, above: Tensor, context: Tensor | None, cursor: Cursor | None = None
    ) -> list[Tensor]:
        """Returns what each layer is given of the rows above and of the context.

        Args:
            above: for each row the one above it, zeros for the first: (batch, C, H, W).
            context: features of the context, (batch, features, H, W).
            cursor: where above and context are a single row.

        Returns:
            Of each layer, broadcastable to (batch, ·, H, W).
        """

    @abstractmethod
    def along(self, x: Tensor, given: Sequence[Tensor], cursor: Cursor | None = None) -> Tensor:
        """Returns the features, (batch, features, H, W), of images or of the pixel at a cursor.

        Args:
            x: (batch, C, H, W).
            given: what `given` returns.
            cursor: where x is a single pixel.
        """

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps images (batch, C, H, W) to features (batch, features, H, W)."""
        above = F.pad(x, (0, 0, 1, 0))[:, :, :-1]
        return self.along(x, self.given(above, context))


class RasterDensity(Density):
    r"""p(x | x̃) = Πᵢ p(xᵢ | x₁ … xᵢ₋₁, x̃) over the channels of pixels in raster order.

    A subclass says by `make_trunk` what the features of a pixel are, and by `draw` and a loss what
    distribution they give it. A denoiser adds features of x̃, those of an ordinary convolutional
    network, in every layer in place (van den Oord et al. 2016b, section 2.3).
    """

    @config
    class Config:
        """Settings of every such density."""

        filters: int = Field(64, ge=1, le=4096, description="features of a pixel")
        layers: int = Field(12, ge=1, le=100, description="layers after the first")
        first_reach: int = Field(
            3, ge=1, le=64, description="pixels that the first layer sees to each side"
        )
        reach: int = Field(1, ge=1, le=64, description="pixels that every other layer sees so")
        context_layers: int = Field(
            4, ge=1, le=100, description="convolutions of x̃ before a denoiser adds its features"
        )

    domain = "image"
    training_defaults: ClassVar = {
        "steps": 1000,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "warmup": 0.05,
        "validation_limit": 250,
    }
    first_batch = 512
    config: Any

    uniforms: ClassVar[int] = 1
    """Random numbers that a value is drawn from."""

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        if self.context_shape not in (None, self.event_shape):
            raise UsageError(
                f"{type(self).__name__} takes a context of the event's shape {self.event_shape}, "
                f"not {self.context_shape}."
            )
        c, channels = self.config, self.event_shape[0]
        self.trunk = self.make_trunk()
        self.encoder: nn.Module | None = None
        if self.context_shape is not None:
            self.encoder = _encoder(channels, c.filters, c.context_layers, c.reach)

    @abstractmethod
    def make_trunk(self) -> Trunk:
        """Returns the network that maps images to features."""

    @abstractmethod
    def draw(self, features: Tensor, u: Tensor) -> Tensor:
        """Maps uniforms to values.

        Args:
            features: (batch, features, H, W).
            u: (batch, uniforms, C, H, W).

        Returns:
            Shape (batch, C, H, W).
        """

    def features(self, x: Tensor, context: Tensor | None, labels: Tensor | None) -> Tensor:
        """Returns the features of every pixel given those before it: (batch, features, H, W)."""
        self.check_labels(labels, len(x))
        out: Tensor = self.trunk(x, self._encoded(context))
        return out

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n images, channel by channel of pixels in raster order: (n, C, H, W)."""
        blank = self.trunk.first.weight.new_zeros(n, *self.event_shape)
        known = torch.zeros(1, *self.mask_shape, dtype=torch.bool)
        return self.inpaint(blank, known, context, labels, generator, progress)

    @torch.no_grad()
    def inpaint(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws the pixels that are not known, each given all pixels before it in raster order."""
        self.check_labels(labels, len(x))
        self.check_known(known, len(x))
        height, width = self.event_shape[1:]
        known = known.to(x.device)
        x, encoded = x.where(known, 0.0), self._encoded(context)
        u = row_uniforms(len(x), (self.uniforms, *self.event_shape), x, generator)
        cursor, above = Cursor(height, width), torch.zeros_like(x[:, :, :1])
        for row in range(height):
            cursor.row, rows = row, slice(row, row + 1)
            beside = None if encoded is None else encoded[:, :, rows]
            given = self.trunk.given(above, beside, cursor)
            for column in range(width):
                cursor.column, columns = column, slice(column, column + 1)
                at = (..., rows, columns)
                self._fill(x[at], known[at], u[at], [each[..., columns] for each in given], cursor)
            above = x[:, :, rows]
            if progress is not None:
                progress(row + 1, height)
        return x

    def bytes_per_example(self) -> int:
        """Returns about the size of what the layers keep of an image while it is drawn."""
        pixels = self.event_shape[1] * self.event_shape[2]
        size = self.trunk.first.weight.element_size()
        return int(4 * pixels * size * self.config.filters * (self.config.layers + 8))

    def _fill(
        self, x: Tensor, known: Tensor, u: Tensor, given: Sequence[Tensor], cursor: Cursor
    ) -> None:
        """Draws the pixel x at the cursor in place, (n, C, 1, 1), one channel after another."""
        for c in range(x.shape[1]):
            drawn = self.draw(self.trunk.along(x, given, cursor), u)[:, c]
            x[:, c] = x[:, c].where(known[:, 0], drawn)
        cursor.keep(self.trunk.first, x)

    def _encoded(self, context: Tensor | None) -> Tensor | None:
        if context is None or self.encoder is None:
            return None
        features: Tensor = self.encoder(context)
        return features


def channels_of(features: int, channels: int) -> Tensor:
    """Returns the colour channel that each feature belongs to, by turns: int64 (features,)."""
    return torch.arange(features) % channels


def row_uniforms(n: int, shape: Shape, like: Tensor, generator: Generator | None) -> Tensor:
    """Draws uniforms for n images, each by a generator of its own: (n, *shape)."""
    draws = torch.empty((n, *shape), dtype=like.dtype)
    for i, own in enumerate(row_generators(n, generator)):
        draws[i] = uniform(shape, draws, own)
    return draws.to(like.device)


def _encoder(channels: int, filters: int, layers: int, reach: int) -> nn.Sequential:
    """Returns an ordinary convolutional network, (batch, channels, H, W) to (…, filters, …)."""
    widths = [channels] + [filters] * (layers - 1)
    blocks = (
        (nn.Conv2d(width, filters, 2 * reach + 1, padding=reach), nn.ReLU()) for width in widths
    )
    return nn.Sequential(*(module for block in blocks for module in block))
