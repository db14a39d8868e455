"""PixelCNN++ as published, line by line and without any cleverness: baseline and test oracle.

A port of Salimans et al. (2017), https://github.com/openai/pixel-cnn, in the form that public
PyTorch ports share (three resolutions, shifted convolutions by padding, `concat_elu` by
concatenation, channel-wise dropout of 0.5). Nothing in the product imports it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

__all__ = ["PlainPixelCNNpp"]


def concat_elu(x: Tensor) -> Tensor:
    """elu([x, −x]) along the channels."""
    return F.elu(torch.cat([x, -x], dim=1))


class DownShifted(nn.Module):
    """Sees the rows above (and its own): zero padding on top, left and right."""

    def __init__(self, inputs, outputs, size=(2, 3), stride=1, shift=False):
        super().__init__()
        self.conv = weight_norm(nn.Conv2d(inputs, outputs, size, stride))
        side = (size[1] - 1) // 2
        self.pad = nn.ZeroPad2d((side, side, size[0] - 1, 0))
        self.shift = nn.ZeroPad2d((0, 0, 1, 0)) if shift else None

    def forward(self, x):
        x = self.conv(self.pad(x))
        return x if self.shift is None else self.shift(x[:, :, :-1])


class DownRightShifted(nn.Module):
    """Sees the row above and the pixels to the left (and its own)."""

    def __init__(self, inputs, outputs, size=(2, 2), stride=1, shift=False):
        super().__init__()
        self.conv = weight_norm(nn.Conv2d(inputs, outputs, size, stride))
        self.pad = nn.ZeroPad2d((size[1] - 1, 0, size[0] - 1, 0))
        self.shift = nn.ZeroPad2d((1, 0, 0, 0)) if shift else None

    def forward(self, x):
        x = self.conv(self.pad(x))
        return x if self.shift is None else self.shift(x[:, :, :, :-1])


class DownShiftedDeconv(nn.Module):
    """Doubles both sides with a 2 × 3 kernel."""

    def __init__(self, filters):
        super().__init__()
        self.deconv = weight_norm(nn.ConvTranspose2d(filters, filters, (2, 3), 2, output_padding=1))

    def forward(self, x):
        x = self.deconv(x)
        return x[:, :, : x.shape[2] - 1, 1 : x.shape[3] - 1]


class DownRightShiftedDeconv(nn.Module):
    """Doubles both sides with a 2 × 2 kernel."""

    def __init__(self, filters):
        super().__init__()
        self.deconv = weight_norm(nn.ConvTranspose2d(filters, filters, (2, 2), 2, output_padding=1))

    def forward(self, x):
        x = self.deconv(x)
        return x[:, :, : x.shape[2] - 1, : x.shape[3] - 1]


class Nin(nn.Module):
    """A 1 × 1 convolution as a linear map of the channels."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.lin = weight_norm(nn.Linear(inputs, outputs))

    def forward(self, x):
        return self.lin(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


class GatedResnet(nn.Module):
    """x + a · σ(b) with [a, b] = conv(dropout(act(conv(act(x)) + nin(act(skip)))))."""

    def __init__(self, filters, conv, skips):
        super().__init__()
        self.conv_input = conv(2 * filters, filters)
        self.nin_skip = Nin(2 * skips * filters, filters) if skips else None
        self.dropout = nn.Dropout2d(0.5)
        self.conv_out = conv(2 * filters, 2 * filters)

    def forward(self, x, skip=None):
        h = self.conv_input(concat_elu(x))
        if self.nin_skip is not None:
            h = h + self.nin_skip(concat_elu(skip))
        h = self.conv_out(self.dropout(concat_elu(h)))
        a, b = torch.chunk(h, 2, dim=1)
        return x + a * torch.sigmoid(b)


class PlainPixelCNNpp(nn.Module):
    """Maps images (batch, C, H, W) to mixture parameters (batch, K·P, H, W).

    Both sides must be multiples of four, as in the published networks.
    """

    def __init__(self, channels=3, blocks=5, filters=160, mixtures=10):
        super().__init__()
        down = [blocks, blocks + 1, blocks + 1]
        per_mixture = 1 + 2 * channels + channels * (channels - 1) // 2
        self.u_init = DownShifted(channels + 1, filters, (2, 3), shift=True)
        self.ul_init_above = DownShifted(channels + 1, filters, (1, 3), shift=True)
        self.ul_init_left = DownRightShifted(channels + 1, filters, (2, 1), shift=True)

        def stack(count, conv, skips):
            return nn.ModuleList(GatedResnet(filters, conv, skips) for _ in range(count))

        self.up_u = nn.ModuleList(stack(blocks, DownShifted, 0) for _ in range(3))
        self.up_ul = nn.ModuleList(stack(blocks, DownRightShifted, 1) for _ in range(3))
        self.downsize_u = nn.ModuleList(DownShifted(filters, filters, (2, 3), 2) for _ in range(2))
        self.downsize_ul = nn.ModuleList(
            DownRightShifted(filters, filters, (2, 2), 2) for _ in range(2)
        )
        self.down_u = nn.ModuleList(stack(n, DownShifted, 1) for n in down)
        self.down_ul = nn.ModuleList(stack(n, DownRightShifted, 2) for n in down)
        self.upsize_u = nn.ModuleList(DownShiftedDeconv(filters) for _ in range(2))
        self.upsize_ul = nn.ModuleList(DownRightShiftedDeconv(filters) for _ in range(2))
        self.nin_out = Nin(filters, per_mixture * mixtures)

    def forward(self, x):
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        us, uls = [self.u_init(x)], [self.ul_init_above(x) + self.ul_init_left(x)]
        for scale in range(3):
            for block_u, block_ul in zip(self.up_u[scale], self.up_ul[scale], strict=True):
                us.append(block_u(us[-1]))
                uls.append(block_ul(uls[-1], us[-1]))
            if scale < 2:
                us.append(self.downsize_u[scale](us[-1]))
                uls.append(self.downsize_ul[scale](uls[-1]))
        u, ul = us.pop(), uls.pop()
        for scale in range(3):
            for block_u, block_ul in zip(self.down_u[scale], self.down_ul[scale], strict=True):
                u = block_u(u, us.pop())
                ul = block_ul(ul, torch.cat([u, uls.pop()], dim=1))
            if scale < 2:
                u, ul = self.upsize_u[scale](u), self.upsize_ul[scale](ul)
        return self.nin_out(F.elu(ul))
