"""Concat-ELU and the gate, each in one pass forward and one back."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["PADDINGS", "Padding", "concat_elu", "elu_pair", "gate"]

Padding = tuple[int, int, int, int]
"""Rows of zeros on top and below, columns of zeros to the left and to the right."""

PADDINGS: dict[str, Padding] = {
    "none": (0, 0, 0, 0),
    "vertical": (1, 0, 1, 1),
    "horizontal": (1, 0, 1, 0),
    "unmasked": (1, 1, 1, 1),
}
"""What the 2 × 3 convolution of the vertical stream, the 2 × 2 one of the horizontal stream and the
3 × 3 one of what is known as a whole need."""


class _ConcatELU(torch.autograd.Function):
    """elu([x, −x]) into a padded, channels-last buffer.

    With e = exp(−|x|) − 1 both halves are maxima, elu(x) = max(x, e) and elu(−x) = max(−x, e), so
    that one exponential does for two. Only the result is kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, padding: Padding, *parts: Tensor) -> Tensor:
        top, bottom, left, right = padding
        batch, _, height, width = parts[0].shape
        half = sum(part.shape[1] for part in parts)
        out = torch.empty(
            (batch, 2 * half, height + top + bottom, width + left + right),
            dtype=parts[0].dtype,
            device=parts[0].device,
            memory_format=torch.channels_last,
        )
        _zero_padding(out, padding)
        inner = out[:, :, top : top + height, left : left + width]
        start = 0
        for part in parts:
            stop = start + part.shape[1]
            e = part.abs().neg_().exp_().sub_(1)
            torch.maximum(part, e, out=inner[:, start:stop])
            torch.maximum(part.neg(), e, out=inner[:, half + start : half + stop])
            start = stop
        ctx.save_for_backward(out)
        ctx.padding, ctx.widths = padding, [part.shape[1] for part in parts]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        top, bottom, left, right = ctx.padding
        slope = torch.ops.aten.elu_backward(grad, 1, 1, 1, True, out)
        slope = slope[:, :, top : slope.shape[2] - bottom, left : slope.shape[3] - right]
        half = sum(ctx.widths)
        whole = slope[:, :half] - slope[:, half:]
        return None, *whole.split(ctx.widths, dim=1)


def _zero_padding(x: Tensor, padding: Padding) -> None:
    top, bottom, left, right = padding
    x[:, :, :top] = 0
    x[:, :, x.shape[2] - bottom :] = 0
    x[..., :left] = 0
    x[..., x.shape[3] - right :] = 0


def concat_elu(*parts: Tensor, padding: Padding = PADDINGS["none"]) -> Tensor:
    """Returns elu([x, −x]) along the channels (Shang et al. 2016; Salimans et al. 2017).

    Args:
        parts: images (batch, C, H, W), taken as if joined along the channels.
        padding: zeros around the result.

    Returns:
        Shape (batch, 2·ΣC, H + top + bottom, W + left + right), channels last. Differentiable once.
    """
    if torch.compiler.is_compiling():
        return _concat_elu(parts, padding)
    padded: Tensor = _ConcatELU.apply(padding, *parts)
    return padded


def _concat_elu(parts: tuple[Tensor, ...], padding: Padding) -> Tensor:
    """The same in words that a compiler fuses by itself."""
    top, bottom, left, right = padding
    x = torch.cat(parts, dim=1)
    e = torch.exp(-x.abs()) - 1
    both = torch.cat([torch.maximum(x, e), torch.maximum(-x, e)], dim=1)
    return torch.nn.functional.pad(both, (left, right, top, bottom))


class _Gate(torch.autograd.Function):
    """x + a · σ(b)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, both: Tensor) -> Tensor:
        a, b = both.chunk(2, dim=1)
        s = torch.sigmoid(b)
        ctx.save_for_backward(a, s)
        return torch.addcmul(x, a, s)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, s = ctx.saved_tensors
        batch, channels, height, width = grad.shape
        both = grad.new_empty((batch, 2 * channels, height, width)).contiguous(
            memory_format=torch.channels_last
        )
        to_a = grad * s
        both[:, :channels] = to_a
        torch.mul(to_a.mul_(a), s.neg().add_(1), out=both[:, channels:])
        return grad, both


def gate(x: Tensor, both: Tensor) -> Tensor:
    """Returns x + a · σ(b) for both = [a, b] along the channels; shape of x."""
    if torch.compiler.is_compiling():
        a, b = both.chunk(2, dim=1)
        return x + a * torch.sigmoid(b)
    gated: Tensor = _Gate.apply(x, both)
    return gated


def elu_pair(pair: Tensor, out: Tensor | None = None) -> Tensor:
    """Returns elu(pair) for pair = [x, −x] of any shape, without gradients; written to `out`."""
    # with numbers as tensors: to convert a Python number costs as much as the operation
    zero, one = _numbers(pair.dtype, pair.device)
    out = torch.minimum(pair, zero, out=out)
    return torch.maximum(out.exp_().sub_(one), pair, out=out)


@cache
def _numbers(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.zeros((), dtype=dtype, device=device), torch.ones((), dtype=dtype, device=device)
