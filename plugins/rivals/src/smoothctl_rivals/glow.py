"""Glow: affine couplings of channels, mixed by invertible 1×1 convolutions."""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import conv2d

from smoothctl.architectures.base import Shape
from smoothctl.config import config
from smoothctl.errors import UsageError
from smoothctl_rivals.dequantised import DequantisedFlow
from smoothctl_rivals.invertible import (
    LARGEST_LOG_SCALE,
    ActNorm,
    halvings,
    squeeze,
    unsqueeze,
)

__all__ = ["AffineCoupling", "Glow", "InvertibleConvolution", "Scale", "Step"]


class InvertibleConvolution(nn.Module):
    r"""A 1×1 convolution with W = P L (U + diag(± e^s)) (Kingma and Dhariwal 2018, eq. 10).

    It starts as a rotation. P and the signs stay as they are, and s is clamped, so that W is
    invertible whatever the weights.

    Args:
        channels: of z.
    """

    permutation: Tensor
    signs: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = nn.init.orthogonal_(torch.empty(channels, channels))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("signs", diagonal.sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(diagonal.abs().log())

    @property
    def _log_scale(self) -> Tensor:
        return self.log_scale.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)

    def _factors(self) -> tuple[Tensor, Tensor]:
        """Returns L and U with its diagonal, each (C, C)."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower)).to(self.lower)
        return lower, self.upper.triu(1) + torch.diag(self.signs * self._log_scale.exp())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns W z, (batch, C, H, W), and the log-determinant, ()."""
        lower, upper = self._factors()
        weight = self.permutation @ lower @ upper
        return conv2d(z, weight[..., None, None]), self._log_scale.sum() * z[0, 0].numel()

    def inverse(self, z: Tensor) -> Tensor:
        """Undoes `forward`, by substitution."""
        lower, upper = self._factors()
        flat: Tensor = self.permutation.T @ z.flatten(2)
        flat = torch.linalg.solve_triangular(lower, flat, upper=False, unitriangular=True)
        flat = torch.linalg.solve_triangular(upper, flat, upper=True)
        return flat.view_as(z)


class AffineCoupling(nn.Module):
    r"""z_b ↦ (z_b + t(z_a, c)) · exp(s(z_a, c)) over halves of the channels (Dinh et al. 2017).

    The log-scale s is softly capped: s = cap · tanh(raw/cap). Starts as the identity.

    Args:
        channels: of z, at least 2; z_a are the first half, the larger one.
        context: channels of the context.
        width: channels of the network's hidden layers.
        cap: the bound of |s|.
    """

    def __init__(self, channels: int, context: int, width: int, cap: float) -> None:
        super().__init__()
        self.cap = cap
        moved = channels // 2
        self.sizes = (channels - moved, moved)
        last = nn.Conv2d(width, 2 * moved, 3, padding=1)
        self.network = nn.Sequential(
            nn.Conv2d(channels - moved + context, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            last,
        )
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def _scale_and_shift(self, given: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        inputs = given if context is None else torch.cat([given, context], dim=1)
        raw, shift = self.network(inputs).chunk(2, dim=1)
        return self.cap * torch.tanh(raw / self.cap), shift

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the transformed z, (batch, C, H, W), and the log-determinant, (batch,)."""
        given, moved = z.split(self.sizes, dim=1)
        log_scale, shift = self._scale_and_shift(given, context)
        moved = (moved + shift) * log_scale.exp()
        return torch.cat([given, moved], dim=1), log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Undoes `forward`."""
        given, moved = z.split(self.sizes, dim=1)
        log_scale, shift = self._scale_and_shift(given, context)
        return torch.cat([given, moved * (-log_scale).exp() - shift], dim=1)


class Step(nn.Module):
    """Actnorm, 1×1 convolution and coupling (Kingma and Dhariwal 2018, figure 2a).

    The arguments are those of `AffineCoupling`.
    """

    def __init__(self, channels: int, context: int, width: int, cap: float) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.convolution = InvertibleConvolution(channels)
        self.coupling = AffineCoupling(channels, context, width, cap)

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the transformed z, (batch, C, H, W), and the log-determinant, (batch,)."""
        z, first = self.norm(z)
        z, second = self.convolution(z)
        z, third = self.coupling(z, context)
        return z, first + second + third

    def inverse(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Undoes `forward`."""
        return self.norm.inverse(self.convolution.inverse(self.coupling.inverse(z, context)))


class Scale(nn.Module):
    """Squeezes, takes steps, and hands half of the channels on to the scale after it, if any.

    The other half is noise (Kingma and Dhariwal 2018, figure 2b): as the last coupling moved it
    given what is handed on, its distribution depends on that.

    Args:
        shape: (C, H, W) of x.
        context: channels of the context.
        scales: this one and those after it, as far as a side is even.
        steps: at each scale.
        width: see `AffineCoupling`.
        cap: see `AffineCoupling`.
    """

    def __init__(
        self, shape: Shape, context: int, scales: int, steps: int, width: int, cap: float
    ) -> None:
        super().__init__()
        self.factors = _factors(shape)
        cells = math.prod(self.factors)
        height, columns = (side // by for side, by in zip(shape[1:], self.factors, strict=True))
        self.shape, context = (shape[0] * cells, height, columns), context * cells
        channels = self.shape[0]
        self.kept = channels - channels // 2
        self.steps = nn.ModuleList(Step(channels, context, width, cap) for _ in range(steps))
        after = (self.kept, height, columns)
        more = scales > 1 and halvings(height, columns) != (1, 1)
        self.rest = Scale(after, context, scales - 1, steps, width, cap) if more else None

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns noise, (batch, C·H·W), this scale's first, and the log-determinant, (batch,)."""
        x, given = squeeze(x, self.factors), self._squeezed(context)
        log_determinant = x.new_zeros(len(x))
        for step in self.steps:
            x, change = step(x, given)
            log_determinant = log_determinant + change
        if self.rest is None:
            return x.flatten(1), log_determinant
        rest, change = self.rest(x[:, : self.kept], given)
        return torch.cat([x[:, self.kept :].flatten(1), rest], dim=1), log_determinant + change

    def inverse(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Undoes `forward`: returns x, (batch, C, H, W)."""
        given = self._squeezed(context)
        if self.rest is None:
            x = z.view(-1, *self.shape)
        else:
            channels, height, columns = self.shape
            own = (channels - self.kept) * height * columns
            noise = z[:, :own].view(-1, channels - self.kept, height, columns)
            x = torch.cat([self.rest.inverse(z[:, own:], given), noise], dim=1)
        for step in reversed(self.steps):
            assert isinstance(step, Step)
            x = step.inverse(x, given)
        return unsqueeze(x, self.factors)

    def _squeezed(self, context: Tensor | None) -> Tensor | None:
        return None if context is None else squeeze(context, self.factors)


def _factors(shape: Shape) -> tuple[int, int]:
    """Returns what the sides are divided by; more than by 2 where there were one channel else."""
    channels, height, width = shape
    factors = halvings(height, width)
    if channels == 1 and factors == (1, 1):
        return (1, width) if width > 1 else (height, 1)
    return factors


class Glow(DequantisedFlow):
    r"""A flow of steps at several scales (Kingma and Dhariwal 2018).

    A side that is odd is not halved, and the width of one channel with odd sides becomes channels.
    The couplings of a denoiser see x̃ too, in place, squeezed as x is.
    """

    @config
    class Config:
        """Settings of `glow`."""

        scales: int = Field(3, ge=1, le=16, description="resolutions, each half of the one before")
        steps: int = Field(8, ge=1, le=256, description="steps of flow at each resolution")
        width: int = Field(
            64, ge=1, le=4096, description="channels in the hidden layers of a coupling's network"
        )
        scale_cap: float = Field(
            2.0, ge=1e-3, le=10, description="bound of each coupling's |log-scale|"
        )

    summary = "flow of couplings and invertible 1×1 convolutions (Glow); 8-bit data by a bound"
    training_defaults: ClassVar = {
        "steps": 2000,
        "batch_size": 64,
        "learning_rate": 5e-3,
        "warmup": 0.05,
        "ema": 0.999,
        "clip": 100.0,
    }
    first_batch = 256
    config: Config

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        if math.prod(self.event_shape) < 2:
            raise UsageError("Glow splits an image in two and cannot model a single number.")
        if self.context_shape is not None and self.context_shape[1:] != self.event_shape[1:]:
            raise UsageError(
                "Glow sees a context in place: it must be an image of the size of those modelled, "
                f"not of shape {'×'.join(map(str, self.context_shape))}."
            )
        c, extra = self.config, (self.context_shape or (0,))[0]
        self.flow = Scale(self.event_shape, extra, c.scales, c.steps, c.width, c.scale_cap)

    def to_noise(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns f(x; c), (batch, C·H·W), and log |det ∂f/∂x|, (batch,), exactly."""
        z, log_determinant = self.flow(x, context)
        return z, log_determinant

    def from_noise(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Undoes `to_noise`: returns x, (batch, C, H, W)."""
        return self.flow.inverse(z, context)

    def bytes_per_example(self) -> int:
        """Returns about how much memory one example takes in `log_prob` without gradients."""
        _, height, width = self.flow.shape
        return 2**12 + 32 * height * width * (self.flow.shape[0] + int(self.config.width))
