"""The distribution of one pixel: a mixture of logistics or normals, whose channels are coupled."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from smoothctl.architectures.base import to_grid
from smoothctl.architectures.mixtures import (
    bin_log_mass,
    log_scale_of,
    logistic_log_density,
    normal_log_density,
    spread,
)
from smoothctl.rng import row_generators, uniform

__all__ = [
    "Components",
    "CoupledMixture",
    "PixelNoise",
    "draw",
    "initial_bias",
    "parameters_per_mixture",
]


def parameters_per_mixture(channels: int) -> int:
    """Returns one weight, a mean and a log-scale a channel, and the coupling: 10 for RGB."""
    return 1 + 2 * channels + channels * (channels - 1) // 2


class Components(NamedTuple):
    """What a mixture consists of: logistics, or normals that are smoothed by normal noise.

    Smoothing p(x) by independent noise smooths every factor: p(x̃ᵢ | x̃_<i) is the integral of
    p(xᵢ | x̃_<i) N(x̃ᵢ; xᵢ, noise²). With a mixture of normals for p(xᵢ | x̃_<i) that is a mixture
    of normals again, each of variance s² + noise².
    """

    min_log_scale: float
    """Floor of log s."""

    noise: float = 0.0
    """Standard deviation of the noise; 0: the components are logistics of scale s."""

    def log_scales(self, log_s: Tensor) -> Tensor:
        """Returns log s, or log √(s² + noise²), of what a network says; same shape."""
        log_s = log_s.clamp(min=self.min_log_scale)
        if not self.noise:
            return log_s
        return 0.5 * torch.logaddexp(2 * log_s, log_s.new_full((), 2 * math.log(self.noise)))

    def log_scale_of(self, sd: float) -> float:
        """Returns log s of a component of this standard deviation, but for the noise."""
        return math.log(sd) if self.noise else log_scale_of(sd)

    def standard(self, u: Tensor) -> Tensor:
        """Maps uniforms to draws of scale 1, by the inverse distribution function."""
        return torch.special.ndtri(u) if self.noise else torch.logit(u)

    def log_density(self, x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        """Returns log f of each component in nats, elementwise; see `log_scales`."""
        density = normal_log_density if self.noise else logistic_log_density
        return density(x, means, log_scales)


class CoupledMixture(NamedTuple):
    """Parameters of a mixture over the channels of each pixel (Salimans et al. 2017, section 2.2).

    All channels of a pixel share the component. Given it, channel c has the mean
    μ_c + Σ_{j<c} α_cj x_j with −1 < α < 1, and its own scale.
    """

    logits: Tensor
    """(*pixels, K)"""

    means: Tensor
    """(*pixels, C, K)"""

    log_scales: Tensor
    """(*pixels, C, K)"""

    coupling: Tensor
    """(*pixels, C(C − 1)/2, K): α_10, α_20, α_21, …"""

    components: Components

    @classmethod
    def of(cls, parameters: Tensor, channels: int, components: Components) -> "CoupledMixture":
        """Reads a network's outputs, (*pixels, K · parameters_per_mixture)."""
        groups = parameters.unflatten(-1, (parameters_per_mixture(channels), -1))
        logits, means, log_scales, coupling = groups.split(
            [1, channels, channels, channels * (channels - 1) // 2], dim=-2
        )
        log_scales = components.log_scales(log_scales)
        return cls(logits.squeeze(-2), means, log_scales, torch.tanh(coupling), components)

    def log_prob(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Returns log p of each pixel in nats: (*pixels, C) -> (*pixels,).

        A density on the reals, or given levels the mass of the values v · 2/(levels − 1) − 1.
        """
        channels = x.shape[-1]
        parts = F.log_softmax(self.logits, dim=-1)
        for c in range(channels):
            mean = self.means[..., c, :]
            for j in range(c):
                mean = mean + self.coupling[..., c * (c - 1) // 2 + j, :] * x[..., j, None]
            values, log_scales = x[..., c, None], self.log_scales[..., c, :]
            if levels is None:
                parts = parts + self.components.log_density(values, mean, log_scales)
            else:
                parts = parts + bin_log_mass(values, mean, log_scales, levels)
        return torch.logsumexp(parts, dim=-1)


class PixelNoise(NamedTuple):
    """Standard noise that determines the values of pixels."""

    gumbel: Tensor
    """Chooses the components: (*pixels, K)."""

    standard: Tensor
    """Places the channels, see `Components.standard`: (*pixels, C)."""

    @classmethod
    def of_images(
        cls, images: Tensor, mixtures: int, components: Components, source: Generator | None
    ) -> "PixelNoise":
        """Draws the noise of images (n, C, H, W), whose pixels are (H·W in raster order, n).

        Each image has a generator of its own, seeded by the next number from `source`: the i-th
        image drawn from a source is the same however the images are cut into batches.
        """
        n, channels, height, width = images.shape
        blank = torch.empty(0, dtype=images.dtype)
        draws = torch.empty((height, width, n, mixtures + channels), dtype=images.dtype)
        for i, own in enumerate(row_generators(n, source)):
            draws[:, :, i] = uniform((height, width, mixtures + channels), blank, own)
        u, v = draws.to(images.device).flatten(0, 1).split([mixtures, channels], dim=-1)
        return cls(u.log().neg_().log_().neg_(), components.standard(v))

    def at(self, pixel: int) -> "PixelNoise":
        """Returns the noise of one of `of_images`' pixels, of all images."""
        return PixelNoise(self.gumbel[pixel], self.standard[pixel])


def draw(
    parameters: Tensor,
    noise: PixelNoise,
    components: Components,
    levels: int | None = None,
    centre: Tensor | None = None,
) -> Tensor:
    """Maps noise to draws: the component by Gumbel-max, each channel by its inverse CDF.

    Args:
        parameters: a network's outputs, (*pixels, K · parameters_per_mixture).
        noise: of the same pixels.
        components: of the mixture.
        levels: rounds to these many values; None for real numbers.
        centre: added to the means, (*pixels, C).

    Returns:
        Shape (*pixels, C).
    """
    channels = noise.standard.shape[-1]
    groups = parameters.unflatten(-1, (-1, noise.gumbel.shape[-1]))
    k = (groups[..., 0, :] + noise.gumbel).argmax(-1)[..., None, None]
    chosen = groups.gather(-1, k.expand(*groups.shape[:-1], 1)).squeeze(-1)
    log_scales = components.log_scales(chosen[..., 1 + channels : 1 + 2 * channels])
    values = torch.addcmul(chosen[..., 1 : 1 + channels], log_scales.exp(), noise.standard)
    if centre is not None:
        values = values + centre
    if channels == 1:
        return values if levels is None else to_grid(values, levels)
    coupling = torch.tanh(chosen[..., 1 + 2 * channels :])
    drawn: list[Tensor] = []
    for c in range(channels):
        value = values[..., c]
        for j, earlier in enumerate(drawn):
            value = value + coupling[..., c * (c - 1) // 2 + j] * earlier
        drawn.append(value if levels is None else to_grid(value, levels))
    return torch.stack(drawn, dim=-1)


def initial_bias(mixtures: int, mean: Tensor, sd: Tensor, components: Components) -> Tensor:
    """Returns output biases that start as a wide mixture over the data's range.

    Args:
        mixtures: K.
        mean: of each channel, (C,).
        sd: of each channel, (C,).
        components: of the mixture.

    Returns:
        Shape (K · parameters_per_mixture,).
    """
    channels = len(mean)
    groups = mean.new_zeros(parameters_per_mixture(channels), mixtures)
    offsets = spread(mixtures).to(mean)
    groups[1 : 1 + channels] = mean[:, None] + sd[:, None] * offsets
    log_scales = sd.log()[:, None] + components.log_scale_of(1 / mixtures)
    groups[1 + channels : 1 + 2 * channels] = log_scales
    return groups.flatten()
