"""PixelCNN and Gated PixelCNN: masked convolutions, and a softmax over the levels of a pixel."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from smoothctl.architectures.autoregressive import Autoregressive
from smoothctl.architectures.base import Shape
from smoothctl.architectures.mixtures import LARGEST_LOG_SCALE
from smoothctl.config import config
from smoothctl.errors import NotAvailable
from smoothctl_rivals.autoregressive import (
    CausalConv2d,
    Cursor,
    MaskedConv2d,
    RasterDensity,
    Trunk,
    channels_of,
)
from smoothctl_rivals.heads import LogisticHead, SoftmaxHead

__all__ = ["GatedPixelCNN", "GatedTrunk", "PixelCNN", "ResidualTrunk"]


class ResidualTrunk(Trunk):
    """One masked convolution and residual blocks (van den Oord et al. 2016a, section 3.5).

    Its field of view leaves out pixels to the right in the rows above: the blind spot.

    Args:
        channels: colour channels C.
        settings: `RasterDensity.Config`; twice as many features as filters, as published.
        conditional: whether there is a context.
    """

    def __init__(self, channels: int, settings: Any, conditional: bool) -> None:
        super().__init__()
        c = settings
        self.channels, image = channels_of(2 * c.filters, channels), torch.arange(channels)
        self.image = MaskedConv2d(image, self.channels, c.first_reach, c.first_reach, own=False)
        self.blocks = nn.ModuleList(
            _ResidualBlock(channels, c, conditional) for _ in range(c.layers)
        )

    def given(
        self, above: Tensor, context: Tensor | None, cursor: Cursor | None = None
    ) -> list[Tensor]:
        """Returns what each block is given of the context alone; see `Trunk`."""
        blocks = cast(Sequence[_ResidualBlock], self.blocks)
        return [block.given(above, context) for block in blocks]

    def along(self, x: Tensor, given: Sequence[Tensor], cursor: Cursor | None = None) -> Tensor:
        """Returns the features, (batch, 2 · filters, H, W); see `Trunk`."""
        features: Tensor = self.image(x, cursor)
        for block, each in zip(self.blocks, given, strict=True):
            features = block(features, each, cursor)
        return features

    @property
    def first(self) -> CausalConv2d:
        """The masked convolution of the image."""
        return self.image


class _ResidualBlock(nn.Module):
    """x + out(act(conv(act(into(act(x)))) + V s)), at half the width inside (2016a, figure 5)."""

    def __init__(self, channels: int, settings: Any, conditional: bool) -> None:
        super().__init__()
        c, half = settings, channels_of(settings.filters, channels)
        whole = channels_of(2 * c.filters, channels)
        self.into, self.out = MaskedConv2d(whole, half), MaskedConv2d(half, whole)
        self.conv = MaskedConv2d(half, half, c.reach, c.reach)
        self.context = nn.Conv2d(c.filters, c.filters, 1) if conditional else None

    def given(self, above: Tensor, context: Tensor | None) -> Tensor:
        """Returns V s of the context, or zeros."""
        if self.context is None or context is None:
            return torch.zeros_like(above[:, :1])
        added: Tensor = self.context(context)
        return added

    def forward(self, x: Tensor, given: Tensor, cursor: Cursor | None) -> Tensor:
        """Maps x, (batch, 2 · filters, H, W), to its shape."""
        hidden = self.conv(F.relu(self.into(F.relu(x))), cursor) + given
        out: Tensor = self.out(F.relu(hidden))
        return x + out


class GatedTrunk(Trunk):
    """A vertical stack, which sees all rows above, and a horizontal one, which sees it and the row.

    Together they have no blind spot (van den Oord et al. 2016b, section 2.2).

    Args:
        channels: colour channels C.
        settings: `RasterDensity.Config`.
        conditional: whether there is a context.
    """

    def __init__(self, channels: int, settings: Any, conditional: bool) -> None:
        super().__init__()
        self.channels = channels_of(settings.filters, channels)
        kinds = [True] + [False] * settings.layers
        self.layers = nn.ModuleList(
            _GatedLayer(channels, settings, conditional, first) for first in kinds
        )

    def given(
        self, above: Tensor, context: Tensor | None, cursor: Cursor | None = None
    ) -> list[Tensor]:
        """Returns what each horizontal layer is given by the vertical stack; see `Trunk`."""
        given = []
        for layer in self._layers:
            above, each = layer.down(above, context, cursor)
            given.append(each)
        return given

    def along(self, x: Tensor, given: Sequence[Tensor], cursor: Cursor | None = None) -> Tensor:
        """Returns the horizontal stack's features, (batch, filters, H, W); see `Trunk`."""
        for layer, each in zip(self._layers, given, strict=True):
            x = layer.along(x, each, cursor)
        return x

    @property
    def first(self) -> CausalConv2d:
        """The first layer's convolution of the horizontal stack."""
        return self._layers[0].horizontal

    @property
    def _layers(self) -> Sequence["_GatedLayer"]:
        return cast(Sequence[_GatedLayer], self.layers)


class _GatedLayer(nn.Module):
    """tanh(W_f ∗ x + V_f s) ⊙ σ(W_g ∗ x + V_g s) of both stacks (2016b, section 2.3 and figure 2).

    The horizontal one is residual, but for the first layer, whose input is the image.
    """

    def __init__(self, channels: int, settings: Any, conditional: bool, first: bool) -> None:
        super().__init__()
        c, features = settings, channels_of(settings.filters, channels)
        gates, self.residual = torch.cat([features, features]), not first
        into = torch.arange(channels) if first else features
        reach = c.first_reach if first else c.reach
        # the first layer is given the image a row lower
        self.vertical = CausalConv2d(len(into), len(gates), reach - int(first), reach, reach)
        self.horizontal = MaskedConv2d(into, gates, 0, reach, own=not first)
        self.link = nn.Conv2d(len(gates), len(gates), 1)
        self.out = MaskedConv2d(features, features)
        self.context = nn.Conv2d(c.filters, 2 * len(gates), 1) if conditional else None

    def down(
        self, above: Tensor, context: Tensor | None, cursor: Cursor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the vertical stack's output, and what the horizontal layer is given."""
        seen = self.vertical(above, cursor)
        given = self.link(seen)
        if self.context is not None and context is not None:
            vertical, horizontal = self.context(context).chunk(2, dim=1)
            seen, given = seen + vertical, given + horizontal
        return _gate(seen), given

    def along(self, x: Tensor, given: Tensor, cursor: Cursor | None) -> Tensor:
        """Returns the horizontal stack's output, (batch, filters, H, W)."""
        out: Tensor = self.out(_gate(self.horizontal(x, cursor) + given))
        return x + out if self.residual else out


def _gate(both: Tensor) -> Tensor:
    """Returns tanh(a) ⊙ σ(b) for both = [a, b] along the channels."""
    a, b = both.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class PixelCNN(RasterDensity, Autoregressive):
    """Masked convolutions and a softmax over the levels (van den Oord et al. 2016a).

    The softmax knows no order among the levels, and no real numbers: without levels, as the prior
    over x̃ is, each channel is a mixture of logistics.
    """

    @config
    class Config(RasterDensity.Config):
        """Settings of `pixelcnn`."""

        layers: int = Field(24, ge=1, le=100, description="residual blocks after the first layer")
        mixtures: int = Field(
            5, ge=1, le=1000, description="logistics of a channel where it has no levels"
        )
        min_log_scale: float = Field(
            -7.0,
            ge=-LARGEST_LOG_SCALE,
            le=LARGEST_LOG_SCALE,
            description="floor of their log-scales, in data units",
        )

    summary = "convolutional autoregressive network for images with masks and a softmax (PixelCNN)"
    uniforms = 2
    config: Config

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        c, given = self.config, (self.trunk.channels, self.event_shape[0])
        self.head: LogisticHead | SoftmaxHead
        if levels is None:
            self.head = LogisticHead(*given, c.mixtures, c.min_log_scale)
        else:
            self.head = SoftmaxHead(*given, levels)

    def make_trunk(self) -> Trunk:
        """Returns residual blocks."""
        return ResidualTrunk(self.event_shape[0], self.config, self.context_shape is not None)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Starts without levels as a wide mixture about the data."""
        self.head.initialize(x)

    def log_probs(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p of every channel of a pixel given those before it: (batch, C, H, W).

        Args:
            x: images; on the reals with `levels=None`, else on the grid v · 2/(levels − 1) − 1.
            context: x̃ for a denoiser, shape of x.
            labels: must be None.
        """
        return self.head.log_prob(self.features(x, context, labels), x)

    def score_function(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns ∇ₓ log p(x | context), shape of x.

        Raises:
            NotAvailable: it has levels, which are classes to it.
        """
        if self.levels is not None:
            raise NotAvailable(
                f"{type(self).__name__} of {self.levels} levels has no score: to its softmax they "
                "are classes without an order."
            )
        return super().score_function(x, context, labels)

    def draw(self, features: Tensor, u: Tensor) -> Tensor:
        """Maps uniforms (batch, 2, C, H, W) to values (batch, C, H, W)."""
        return self.head.draw(features, u)


class GatedPixelCNN(PixelCNN):
    """PixelCNN of two stacks with gates and without a blind spot (van den Oord et al. 2016b)."""

    @config
    class Config(PixelCNN.Config):
        """Settings of `gated-pixelcnn`."""

        layers: int = Field(12, ge=1, le=100, description="layers of each stack after the first")

    summary = "convolutional autoregressive network for images in two gated stacks (Gated PixelCNN)"
    config: Config

    def make_trunk(self) -> Trunk:
        """Returns the gated stacks."""
        return GatedTrunk(self.event_shape[0], self.config, self.context_shape is not None)
