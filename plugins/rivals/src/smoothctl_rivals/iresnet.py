"""Invertible residual networks: blocks whose residuals contract, whatever their weights."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn.functional import conv2d, silu

from smoothctl.architectures.base import Shape
from smoothctl.config import config
from smoothctl.rng import normal
from smoothctl_rivals.dequantised import DequantisedFlow
from smoothctl_rivals.invertible import ActNorm, halvings, squeeze, unsqueeze

__all__ = ["IResNet", "ResidualBlock", "jacobian", "operator_norm", "trace_series"]

Function = Callable[[Tensor], Tensor]

_REACH = 2
"""Pixels that an output of a residual is from an input that it depends on, at most."""

_STEEPEST_SILU = 1.1
"""More than the derivative of x · sigmoid(x) anywhere, 1.0998."""


def operator_norm(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns an upper bound of ‖z ↦ weight ∗ z‖₂ for images of a size, padded with zeros.

    That is a part of the circular convolution on a torus larger by the kernel's reach, whose
    singular values are those of the kernel's Fourier transform at each frequency (Sedghi et al.
    2019): no iteration is needed, and the bound is tight for large images.

    Args:
        weight: shape (out, in, h, w).
        size: height and width of the images.

    Returns:
        A scalar, with a gradient of 0 where it is 0.
    """
    torus = [side + reach - 1 for side, reach in zip(size, weight.shape[2:], strict=True)]
    spectrum = torch.fft.rfft2(weight, s=torus).permute(2, 3, 0, 1)
    if spectrum.shape[2] < spectrum.shape[3]:
        spectrum = spectrum.mT
    largest = torch.linalg.eigvalsh(spectrum.mH @ spectrum).amax()
    norm: Tensor = largest.clamp_min(torch.finfo(weight.dtype).tiny).sqrt()
    return norm


def jacobian(function: Function, z: Tensor, reach: int) -> Tensor:
    """Returns ∂function/∂z, (batch, C·H·W, C·H·W), of a local function that keeps shapes.

    Outputs that are 2 · reach + 1 pixels apart share no input, so that one product with the
    Jacobian gives the rows of all of them (Curtis et al. 1974).

    Args:
        function: each output depends on inputs `reach` pixels away at most.
        z: shape (batch, C, H, W).
        reach: see above.
    """
    (rows, classes, near), (columns, more, beside) = (_spaced(n, reach, z) for n in z.shape[2:])
    one = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    probes = torch.einsum("ah,bw,cd->abcdhw", classes, more, one)
    shape = (*probes.shape[:3], *z.shape)
    _, product = _products(function, z.expand(shape).flatten(0, 3))
    sums = product(probes[:, :, :, None].expand(shape).flatten(0, 3))
    gathered = sums.view(shape)[rows][:, columns]  # (H, W, C, batch, C, H, W)
    masked = gathered * torch.einsum("hp,wq->hwpq", near, beside)[:, :, None, None, None]
    return masked.permute(3, 2, 0, 1, 4, 5, 6).flatten(4).flatten(1, 3)


def _spaced(side: int, reach: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the class of each pixel of a side, which are in each, and which are near each.

    Those of a class are more than 2 · reach apart. The last two are 0 or 1, (classes, side) and
    (side, side).
    """
    count, pixels = min(2 * reach + 1, side), torch.arange(side, device=like.device)
    of = pixels % count
    near = (pixels - pixels[:, None]).abs() <= reach
    return of, (of == pixels[:count, None]).to(like), near.to(like)


def _products(function: Function, z: Tensor) -> tuple[Tensor, Function]:
    """Returns function(z), and what maps v to vᵀJ; both with gradients where those are enabled."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        z = z if z.requires_grad else z.detach().requires_grad_()
        moved = function(z)

    def product(v: Tensor) -> Tensor:
        found: Tensor
        (found,) = torch.autograd.grad(moved, z, v, retain_graph=True, create_graph=keep)
        return found

    return moved if keep else moved.detach(), product


def trace_series(function: Function, z: Tensor, probe: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Returns function(z) and an estimate of log det(I + J) of its Jacobian J, (batch,).

    That is Σₖ (−1)ᵏ⁺¹ vᵀJᵏv / k with the probe v, E[v vᵀ] = I (Hutchinson 1990), and the first
    terms of the series of log(1 + x) (Behrmann et al. 2019, algorithm 2).

    Args:
        function: keeps the shape of z.
        z: shape (batch, C, H, W).
        probe: shape of z.
        terms: of the series.
    """
    moved, product = _products(function, z)
    total, power = z.new_zeros(len(z)), probe
    for k in range(1, terms + 1):
        power = product(power)
        total = total - (-1) ** k / k * (power * probe).flatten(1).sum(1)
    return moved, total


class ResidualBlock(nn.Module):
    r"""z ↦ z + g(z), where g contracts (Behrmann et al. 2019, theorem 1).

    g is three convolutions, 3×3, 1×1 and 3×3, with x · sigmoid(x)/1.1 between them, which is no
    steeper than 1 (Chen et al. 2019, section 3.3). A convolution whose norm exceeds L^⅓ is scaled
    down to that, so that L bounds the Lipschitz constant of g.

    Args:
        shape: (C, H, W) of z.
        width: channels of the hidden layers.
        lipschitz: L < 1.
    """

    def __init__(self, shape: Shape, width: int, lipschitz: float) -> None:
        super().__init__()
        channels, height, columns = shape
        self.size, self.lipschitz = (height, columns), lipschitz
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def residual(self) -> Function:
        """Returns g, whose weights are scaled once however often it is called."""
        scaled = [
            (self._scaled(layer), layer.bias) for layer in (self.first, self.middle, self.last)
        ]

        def g(z: Tensor) -> Tensor:
            for number, (weight, bias) in enumerate(scaled):
                z = z if number == 0 else silu(z) / _STEEPEST_SILU
                z = conv2d(z, weight, bias, padding=weight.shape[2] // 2)
            return z

        return g

    def _scaled(self, layer: nn.Conv2d) -> Tensor:
        """Returns the layer's weight, scaled down to the norm L^⅓ where it exceeds that."""
        size = (1, 1) if layer is self.middle else self.size  # 1×1: the same for every size
        most = self.lipschitz ** (1 / 3)
        shrinkage: Tensor = most / operator_norm(layer.weight, size).clamp_min(most)
        return shrinkage * layer.weight

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z + g(z), (batch, C, H, W), and the exact log-determinant, (batch,)."""
        g = self.residual()
        one = torch.eye(z[0].numel(), dtype=z.dtype, device=z.device)
        log_determinant: Tensor = torch.linalg.slogdet(one + jacobian(g, z, _REACH))[1]
        return z + g(z), log_determinant

    def estimated(self, z: Tensor, probe: Tensor, terms: int) -> tuple[Tensor, Tensor]:
        """Does `forward` with the estimate of `trace_series`."""
        change, log_determinant = trace_series(self.residual(), z, probe, terms)
        return z + change, log_determinant

    def inverse(self, y: Tensor) -> Tensor:
        """Undoes `forward` by z ← y − g(z), which contracts (Behrmann et al. 2019, algorithm 1).

        It ends when nothing changes but by rounding, or after as many steps as shrink an error to
        that at the worst.
        """
        g, z, eps = self.residual(), y, torch.finfo(y.dtype).eps
        for _ in range(math.ceil(math.log(eps) / math.log(self.lipschitz))):
            before, z = z, y - g(z)
            if (z - before).abs().max() <= 2 * eps * z.abs().max():
                break
        return z


class _Squeeze(nn.Module):
    """`squeeze` as a layer."""

    def __init__(self, factors: tuple[int, int]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return squeeze(z, self.factors), z.new_zeros(())

    def inverse(self, z: Tensor) -> Tensor:
        return unsqueeze(z, self.factors)


class IResNet(DequantisedFlow):
    r"""A flow of residual blocks (Behrmann et al. 2019), each after an actnorm.

    `log_prob` and `bound` have the exact log-determinant, of the whole Jacobian of each block: its
    rows come by products for many of them at once, and its LU decomposition takes O((C·H·W)³)
    operations. Training has an estimate by Hutchinson's trace estimator and a few terms of the
    power series, which is biased by what the series leaves out: its loss, which is what a fit
    shows, differs from −log p.

    At each scale 2×2 pixels become channels, where the sides are even.
    """

    @config
    class Config:
        """Settings of `i-resnet`."""

        scales: int = Field(2, ge=1, le=16, description="resolutions, each half of the one before")
        blocks: int = Field(4, ge=1, le=256, description="residual blocks at each resolution")
        width: int = Field(
            64, ge=1, le=4096, description="channels in the hidden layers of a residual"
        )
        lipschitz: float = Field(
            0.9, ge=0.01, le=0.99, description="bound of each residual's Lipschitz constant"
        )
        terms: int = Field(
            6, ge=1, le=100, description="terms of the power series that training takes"
        )

    summary = "flow of invertible residual blocks (i-ResNet); 8-bit data by a bound"
    conditional = False
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
        c, (channels, height, width) = self.config, self.event_shape
        layers: list[nn.Module] = []
        for _ in range(c.scales):
            down, across = halvings(height, width)
            layers.append(_Squeeze((down, across)))
            channels, height, width = channels * down * across, height // down, width // across
            for _ in range(c.blocks):
                block = ResidualBlock((channels, height, width), c.width, c.lipschitz)
                layers += [ActNorm(channels), block]
        self.layers = nn.ModuleList([*layers, ActNorm(channels)])
        self._noise_shape = (channels, height, width)

    def to_noise(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns f(x), (batch, C·H·W), and log |det ∂f/∂x|, (batch,), exactly."""
        return self._to_noise(x, ResidualBlock.__call__)

    def to_noise_estimated(
        self, x: Tensor, context: Tensor | None, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Does `to_noise` with an estimate of the log-determinant, (batch,).

        Args:
            x: shape (batch, C, H, W).
            context: must be None.
            generator: draws a probe of ±1 for each block.
        """

        def through(block: ResidualBlock, z: Tensor) -> tuple[Tensor, Tensor]:
            return block.estimated(z, normal(z.shape, z, generator).sign(), self.config.terms)

        return self._to_noise(x, through)

    def from_noise(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Undoes `to_noise`: returns x, (batch, C, H, W)."""
        x = z.view(-1, *self._noise_shape)
        for layer in reversed(self.layers):
            assert isinstance(layer, ActNorm | ResidualBlock | _Squeeze)
            x = layer.inverse(x)
        return x

    def bytes_per_example(self) -> int:
        """Returns about how much memory one example takes in `log_prob` without gradients."""
        channels, height, width = self.event_shape
        probes = (2 * _REACH + 1) ** 2 * channels * height * width * int(self.config.width)
        return 2**12 + 32 * probes + 32 * math.prod(self.event_shape) ** 2

    def _to_noise(
        self, x: Tensor, through: Callable[[ResidualBlock, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        log_determinant = x.new_zeros(len(x))
        for layer in self.layers:
            x, change = through(layer, x) if isinstance(layer, ResidualBlock) else layer(x)
            log_determinant = log_determinant + change
        return x.flatten(1), log_determinant
