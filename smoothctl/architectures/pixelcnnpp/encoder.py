"""The encoder of an aligned denoiser: features of x̃, in place at every pixel and scale."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from smoothctl.architectures.pixelcnnpp.activations import concat_elu
from smoothctl.architectures.pixelcnnpp.network import Block, with_ones

__all__ = ["Encoder"]


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
