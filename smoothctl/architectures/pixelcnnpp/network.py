"""The convolutional network of PixelCNN++, and the encoder of an aligned denoiser."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from smoothctl.architectures.any_sigma import sigma_network
from smoothctl.architectures.pixelcnnpp.activations import PADDINGS, concat_elu, gate

__all__ = [
    "NOTHING",
    "Block",
    "Condition",
    "Encoder",
    "Network",
    "Resample",
    "Scale",
    "Stem",
    "layers_of",
    "with_ones",
]

KERNELS = {"vertical": (2, 3), "horizontal": (2, 2), "unmasked": (3, 3)}
"""Rows and columns that a convolution sees: of the streams, the row above and their own."""


_LEVEL_UNITS = 16
"""Of the network of σ in each block."""


class Condition(NamedTuple):
    """What every block of a network is conditioned on, where it has any of these."""

    labels: Tensor | None = None
    """Classes, (batch,)."""

    log_sigma: Tensor | None = None
    """Of the smoothing, (batch, 1)."""

    def rows(self, kept: Tensor) -> "Condition":
        """Returns those of some of the images."""
        return Condition(*(None if each is None else each[kept] for each in self))


NOTHING = Condition()


class Block(nn.Module):
    """x + a · σ(b), [a, b] = conv(dropout(act(conv(act(x)) + linear(act(skip))))).

    The gated residual block of Salimans et al. (2017), act being concat-ELU.

    Args:
        stream: "vertical" or "horizontal"; "unmasked" for what is known as a whole.
        filters: channels of x.
        skips: how many times as many channels the skip has; 0 for none.
        dropout: probability that a channel is dropped.
        classes: number of classes whose embedding is added to [a, b]; None for none.
        leveled: whether a small network of σ is added to [a, b], too.
    """

    def __init__(
        self,
        stream: str,
        filters: int,
        skips: int,
        dropout: float,
        classes: int | None,
        leveled: bool = False,
    ) -> None:
        super().__init__()
        kernel = KERNELS[stream]
        self.padding = PADDINGS[stream]
        self.conv_in = weight_norm(nn.Conv2d(2 * filters, filters, kernel))
        self.skip = weight_norm(nn.Linear(2 * skips * filters, filters)) if skips else None
        self.dropout = nn.Dropout2d(dropout)
        self.conv_out = weight_norm(nn.Conv2d(2 * filters, 2 * filters, kernel))
        self.label = nn.Embedding(classes, 2 * filters) if classes else None
        if self.label is not None:
            nn.init.zeros_(self.label.weight)
        self.level = sigma_network(_LEVEL_UNITS, 2 * filters) if leveled else None

    def embedding(self, condition: Condition) -> Tensor | None:
        """Returns what the condition adds to [a, b] of each image, (batch, 2·filters), if any."""
        parts: list[Tensor] = []
        if self.label is not None:
            parts.append(self.label(condition.labels))
        if self.level is not None:
            parts.append(self.level(condition.log_sigma))
        return torch.stack(parts).sum(0) if len(parts) > 1 else next(iter(parts), None)

    def forward(self, x: Tensor, *skip: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Maps x and its skips, (batch, filters, H, W) each, to the shape of x."""
        h = self.conv_in(concat_elu(x, padding=self.padding))
        if self.skip is not None:
            h = h + _linear(self.skip, concat_elu(*skip))
        both = self.conv_out(self.dropout(concat_elu(h, padding=self.padding)))
        added = self.embedding(condition)
        if added is not None:
            both = both + added.to(both.dtype)[:, :, None, None]
        return gate(x, both)


class Stem(nn.Module):
    """The first convolutions, shifted so that no stream sees the pixel itself.

    Their outputs in the first row (column) are zero, bias and all, as published.

    Args:
        channels: of the image, the constant one included.
        filters: of both streams.
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.vertical = weight_norm(nn.Conv2d(channels, filters, (2, 3)))
        self.above = weight_norm(nn.Conv2d(channels, filters, (1, 3)))
        self.left = weight_norm(nn.Conv2d(channels, filters, (2, 1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both streams, (batch, filters, H, W) each."""
        pad = nn.functional.pad
        rows, columns = x.shape[2:]
        vertical = self.vertical(pad(x, (1, 1, 2, 0)))[:, :, 1:rows]
        above = self.above(pad(x, (1, 1, 0, 0)))[:, :, : rows - 1]
        left = self.left(pad(x, (0, 0, 1, 0)))[..., : columns - 1]
        vertical, above = pad(vertical, (0, 0, 1, 0)), pad(above, (0, 0, 1, 0))
        left = pad(left, (1, 0, 0, 0))
        return vertical, above + left


class Scale(nn.Module):
    """The blocks of both streams at one resolution, on the way down or up.

    Args:
        blocks: number of blocks of each stream.
        up: whether the blocks also take the skips of the way down.
        filters, dropout, classes, leveled: see `Block`.
    """

    def __init__(
        self,
        blocks: int,
        up: bool,
        filters: int,
        dropout: float,
        classes: int | None,
        leveled: bool,
    ) -> None:
        super().__init__()
        rest = (dropout, classes, leveled)
        self.vertical, self.horizontal = (
            nn.ModuleList(Block(stream, filters, skips, *rest) for _ in range(blocks))
            for stream, skips in (("vertical", int(up)), ("horizontal", 1 + int(up)))
        )


class Resample(nn.Module):
    """Halves or doubles the resolution of both streams by a convolution of stride two.

    Args:
        filters: of both streams.
        kind: nn.Conv2d to halve (an odd side is rounded up), nn.ConvTranspose2d to double.
    """

    def __init__(self, filters: int, kind: type[nn.Conv2d] | type[nn.ConvTranspose2d]) -> None:
        super().__init__()
        self.halves = kind is nn.Conv2d
        dim = 0 if self.halves else 1  # the output channels
        self.vertical, self.horizontal = (
            weight_norm(kind(filters, filters, KERNELS[stream], 2), dim=dim)
            for stream in ("vertical", "horizontal")
        )

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (batch, filters, H, W) to half or double the height and width."""
        if self.halves:
            pad = nn.functional.pad
            return (
                self.vertical(pad(vertical, (1, 1, 1, 0))),
                self.horizontal(pad(horizontal, (1, 0, 1, 0))),
            )
        return self.vertical(vertical)[..., 1:], self.horizontal(horizontal)


class Network(nn.Module):
    """Maps images to the parameters of each pixel's distribution, given the pixels before it.

    The vertical stream sees the rows above, the horizontal one those and the pixels to the left
    (Salimans et al. 2017, section 2.3). The finest scale is scale 0.

    Args:
        channels: C of the image.
        outputs: parameters of a pixel.
        filters: channels of both streams.
        blocks: blocks of each stream and scale; the way up has one more at all but the coarsest.
        scales: resolutions, each half of the one before.
        dropout: probability that a channel is dropped inside a block.
        classes: number of classes; None for no class conditioning.
        leveled: whether σ is an input.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        filters: int,
        blocks: int,
        scales: int,
        dropout: float,
        classes: int | None,
        leveled: bool = False,
    ) -> None:
        super().__init__()
        rest = (filters, dropout, classes, leveled)
        self.stem = Stem(channels + 1, filters)
        self.down = nn.ModuleList(Scale(blocks, False, *rest) for _ in range(scales))
        self.up = nn.ModuleList(
            Scale(blocks + int(scale < scales - 1), True, *rest) for scale in range(scales)
        )
        self.shrink = nn.ModuleList(Resample(filters, nn.Conv2d) for _ in range(scales - 1))
        self.grow = nn.ModuleList(Resample(filters, nn.ConvTranspose2d) for _ in range(scales - 1))
        self.out = weight_norm(nn.Linear(filters, outputs))
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        x: Tensor,
        condition: Condition = NOTHING,
        first_row: int = 0,
        features: Sequence[Tensor] = (),
    ) -> Tensor:
        """Returns each pixel's parameters, which depend on the pixels before it alone.

        Args:
            x: images, (batch, C, H, W).
            condition: of each image, where the network has any.
            first_row: rows above it are known and get no parameters; on the way up, what only
                they would need is not computed.
            features: what is added to both streams at each scale, (batch, filters, H/2ˢ, W/2ˢ),
                the finest first; rows below x's last are left out. Nothing if empty.

        Returns:
            Shape (batch, H − first_row, W, outputs).
        """
        u, v = self.stem(with_ones(x).contiguous(memory_format=torch.channels_last))
        if features:
            u, v = _plus(u, v, features[0])
        us, vs = [u], [v]
        for scale, blocks in enumerate(self.down):
            for vertical, horizontal in _pairs(blocks):
                us.append(vertical(us[-1], condition=condition))
                vs.append(horizontal(vs[-1], us[-1], condition=condition))
            if scale < len(self.shrink):
                u, v = self.shrink[scale](us[-1], vs[-1])
                if features:
                    u, v = _plus(u, v, features[scale + 1])
                us.append(u)
                vs.append(v)
        u, v, top = us.pop(), vs.pop(), 0
        starts = self.first_rows_up(first_row)
        for scale in reversed(range(len(self.up))):
            start = starts[scale]
            u, v = u[:, :, start - top :], v[:, :, start - top :]
            for vertical, horizontal in _pairs(self.up[scale]):
                u = vertical(u, us.pop()[:, :, start:], condition=condition)
                v = horizontal(v, u, vs.pop()[:, :, start:], condition=condition)
            if scale:
                height, width = us[-1].shape[2:]
                u, v = self.grow[scale - 1](u, v)
                top = 2 * start
                u, v = u[:, :, : height - top, :width], v[:, :, : height - top, :width]
        v = nn.functional.elu(v[:, :, first_row - starts[0] :].permute(0, 2, 3, 1))
        with torch.autocast(v.device.type, enabled=False):  # in bf16 a mean has two digits
            parameters: Tensor = self.out(v.to(self.out.bias.dtype))
        return parameters

    def first_rows_up(self, first_row: int) -> list[int]:
        """Returns, for each scale, the first row of the way up that the wanted rows depend on.

        Both convolutions of a block look one row up, and the horizontal stream takes the vertical
        one's result as well; a row of a grown image comes from one coarse row.
        """
        starts = []
        for scale in self.up:
            assert isinstance(scale, Scale)
            first_row = max(0, first_row - 2 * len(scale.vertical) - 1)
            starts.append(first_row)
            first_row = first_row // 2
        return starts

    def layers(self) -> list[tuple[nn.Module, float]]:
        """Returns what `layers_of` does, with a tenth for the outputs too."""
        return [(layer, 0.1 if layer is self.out else sd) for layer, sd in layers_of(self)]


def layers_of(network: nn.Module) -> list[tuple[nn.Module, float]]:
    """Returns every weight-normalised layer and the standard deviation it should start with.

    One, and a tenth for what is added to a residual (as in the published initialisation).
    """
    small = {block.conv_out for block in network.modules() if isinstance(block, Block)}
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    found = (module for module in network.modules() if isinstance(module, kinds))
    layers = (module for module in found if is_parametrized(module))
    return [(layer, 0.1 if layer in small else 1.0) for layer in layers]


def with_ones(x: Tensor) -> Tensor:
    """Adds a channel of ones, which tells the image from the zeros around it."""
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def _plus(u: Tensor, v: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    seen = features[:, :, : u.shape[2]]
    return u + seen, v + seen


def _pairs(scale: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    assert isinstance(scale, Scale)
    return zip(scale.vertical, scale.horizontal, strict=True)


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies a linear layer to the channels of (batch, C, H, W), channels last in memory."""
    mapped: Tensor = layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return mapped


class Encoder(nn.Module):
    """An ordinary convolutional network, whose every output sees x̃ on all sides.

    Gated blocks at each scale, and a convolution of stride two to the next; what each scale ends
    with is mapped to features of the denoiser's streams.

    Args:
        channels: C of x̃.
        outputs: channels of the features: those of the streams.
        filters: channels inside.
        blocks: gated blocks at each scale.
        scales: resolutions, each half of the one before.
        dropout: probability that a channel is dropped inside a block.
    """

    def __init__(
        self, channels: int, outputs: int, filters: int, blocks: int, scales: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = weight_norm(nn.Conv2d(channels + 1, filters, 3, padding=1))
        self.scales = nn.ModuleList(
            nn.Sequential(*(Block("unmasked", filters, 0, dropout, None) for _ in range(blocks)))
            for _ in range(scales)
        )
        self.shrink = nn.ModuleList(
            weight_norm(nn.Conv2d(filters, filters, 3, 2, padding=1)) for _ in range(scales - 1)
        )
        self.out = nn.ModuleList(
            weight_norm(nn.Conv2d(2 * filters, outputs, 1)) for _ in range(scales)
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, x_smooth: Tensor) -> list[Tensor]:
        """Maps x̃, (batch, C, H, W), to features (batch, outputs, H/2ˢ, W/2ˢ), the finest first.

        An odd side is rounded up when it is halved, as in the streams.
        """
        x = self.stem(with_ones(x_smooth).contiguous(memory_format=torch.channels_last))
        features = []
        for scale, blocks in enumerate(self.scales):
            x = blocks(x if not scale else self.shrink[scale - 1](x))
            features.append(self.out[scale](concat_elu(x)))
        return features
