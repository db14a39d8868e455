"""How the sampler lays out activations and weights.

Activations of a row are (columns, n, channels), so that a shifted convolution is a shifted view,
and one pixel and a whole row use the same weights. A running value x is kept as the pair [x, −x],
shape (…, n, 2, F), which both the next concat-ELU and the residual sum want.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothctl.architectures.pixelcnnpp.network import Network

__all__ = [
    "Seen",
    "bias",
    "convolve",
    "kernel",
    "last_rows",
    "matrix_kernel",
    "packed",
    "pair_of",
    "taps",
    "weight_of",
]

Seen = dict[nn.Module, Tensor]
"""Layer -> the last rows of what it saw (or, for a transposed convolution, gave), (rows, columns,
n, channels), padding included."""


@contextmanager
def last_rows(network: Network) -> Iterator[Seen]:
    """Records the last rows at each convolution while the network runs on an image."""
    seen: Seen = {}

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        grows = isinstance(layer, nn.ConvTranspose2d)
        rows = output[:, :, -2:] if grows else inputs[0][:, :, -1:]
        seen[layer] = rows.permute(2, 3, 0, 1).clone()

    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    layers = [layer for layer, _ in network.layers() if isinstance(layer, convolutions)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def pair_of(x: Tensor) -> Tensor:
    """Returns [x, −x]: (…, F) -> (…, 2, F)."""
    return torch.stack([x, -x], dim=-2)


def weight_of(layer: nn.Module | None) -> Tensor:
    """Returns a layer's effective weight."""
    weight = getattr(layer, "weight", None)
    assert isinstance(weight, Tensor)
    return weight


def taps(layer: nn.Module) -> Tensor:
    """Returns a convolution's weight as one matrix a tap: (rows, columns, in, out)."""
    order = (2, 3, 0, 1) if isinstance(layer, nn.ConvTranspose2d) else (2, 3, 1, 0)
    return weight_of(layer).permute(order).contiguous()


def kernel(layer: nn.Module) -> Tensor:
    """Returns a convolution's weight for `convolve`: (out, in, columns, rows)."""
    return packed(weight_of(layer).transpose(2, 3))


def packed(weight: Tensor) -> Tensor:
    """Returns a weight for `convolve` in the memory layout that suits it."""
    return weight.contiguous(memory_format=torch.channels_last)


def matrix_kernel(matrix: Tensor) -> Tensor:
    """Returns a matrix (in, out) as the weight of a convolution with one tap, for `convolve`."""
    return packed(matrix.mT[:, :, None, None])


def bias(layer: nn.Module | None) -> Tensor:
    """Returns a layer's bias, (out,)."""
    found = getattr(layer, "bias", None)
    assert isinstance(found, Tensor)
    return found


def convolve(x: Tensor, weight: Tensor, offset: Tensor | None = None, reach: int = 1) -> Tensor:
    """Convolves along the columns as one call of the convolution library.

    Args:
        x: (columns, rows · n, in): a channels-last image of one batch for the library.
        weight: (out, in, column taps, row taps).
        offset: (out,).
        reach: n, the distance between the row taps.

    Returns:
        Shape (columns − taps + 1, n, out).
    """
    image = x.permute(2, 0, 1).unsqueeze(0)
    mapped: Tensor = F.conv2d(image, weight, offset, dilation=(1, reach))
    return mapped.squeeze(0).permute(1, 2, 0)
