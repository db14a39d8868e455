"""VAE: a convolutional variational autoencoder, known by a bound."""

import math
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Density, Progress, Shape, to_grid
from smoothctl.architectures.mixtures import LARGEST_LOG_SCALE, Mixture, log_scale_of, spread
from smoothctl.config import config
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.rng import normal, row_generators, uniform
from smoothctl.smoothing.batching import evaluate
from smoothctl_rivals.trunk import SmoothBlock, trunk, widths

__all__ = ["VAE"]

_LARGEST_LOG_SD = 6.0
"""Of q(z|x), either way."""

_PIXEL_VALUES = 2**19
"""How many are evaluated at once: a constant, so that free memory doesn't change the result."""


class VAE(Density):
    r"""p(x) = ∫ N(z; 0, I) p(x|z) dz with the inference q(z|x) (Kingma & Welling 2014).

    q(z|x) = N(m(x), diag e^(2r(x))). Given z, the values of an image are independent mixtures of
    logistics: densities on the reals, or masses given levels. A denoiser's networks both see x̃,
    whatever the size of their maps; its z is standard normal too.
    """

    @config
    class Config:
        """Settings of `vae`."""

        latents: int = Field(32, ge=1, le=65_536, description="coordinates of z")
        filters: int = Field(
            32, ge=1, le=4096, description="channels at full size; the smaller maps have twice"
        )
        blocks: int = Field(1, ge=0, le=100, description="residual blocks at each size")
        mixtures: int = Field(3, ge=1, le=1000, description="logistics in a value's mixture")
        min_log_scale: float = Field(
            -5.0, ge=-LARGEST_LOG_SCALE, le=0, description="floor of the logistics' log-scales"
        )

    summary = "variational autoencoder for images: latent variables, known by a bound"
    domain = "image"
    tractable = False
    bounded = True
    training_defaults: ClassVar = {"steps": 1500, "batch_size": 64, "learning_rate": 2e-3}
    config: Config

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        channels, *size = self.event_shape
        given, *context_size = self.context_shape or (0, *size)
        if context_size != size:
            raise UsageError(
                f"VAE takes a context of the image's size, {size[0]}×{size[1]} pixels, not of "
                f"shape {self.context_shape}."
            )
        c, sizes = self.config, [[-(-side // by) for side in size] for by in (1, 2, 4)]
        last = nn.Linear(widths(c.filters)[-1] * math.prod(sizes[-1]), 2 * c.latents)
        with torch.no_grad():
            last.bias[c.latents :] -= 2  # begins with a narrow q(z|x): noise would be ignored
        layers = trunk(channels + given, c.filters, c.blocks)
        self.encoder = nn.Sequential(*layers, nn.Flatten(), last)
        outputs = channels * c.mixtures * len(Mixture._fields)
        self.decoder = _Decoder(c.latents, given, c.filters, c.blocks, sizes, outputs)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Begins with wide mixtures over the range of each channel."""
        mixtures = self.config.mixtures
        mean, sd = x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0).clamp(min=1e-3)
        parameters = mean.new_zeros(len(mean), mixtures, len(Mixture._fields))
        parameters[..., 1] = mean[:, None] + sd[:, None] * spread(mixtures).to(mean)
        parameters[..., 2] = sd.log()[:, None] + log_scale_of(1 / mixtures)
        with torch.no_grad():
            assert self.decoder.last.bias is not None
            self.decoder.last.bias.copy_(parameters.flatten())

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Raises NotAvailable, as the score does: the integral over z has no closed form."""
        raise NotAvailable(
            "VAE has no exact likelihood, and no score, as it integrates over latent variables: "
            "`bound` gives a lower bound, tighter with more draws."
        )

    def log_weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        draws: int = 1,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns log p(x, zₖ)/q(zₖ|x) with zₖ ~ q(z|x), in nats.

        Args:
            x: shape (batch, *event_shape).
            context: shape (batch, *context_shape).
            labels: must be None.
            draws: K.
            generator: draws the noise of all z, one block (batch, K, latents).

        Returns:
            Shape (batch, K).
        """
        self.check_labels(labels, len(x))
        at_once = max(1, _PIXEL_VALUES // x[0].numel())
        noise = normal((len(x), draws, self.config.latents), x, generator)
        mean, raw = evaluate(self._encoded, at_once, x, context).unsqueeze(1).chunk(2, dim=2)
        log_sd = _LARGEST_LOG_SD * torch.tanh(raw / _LARGEST_LOG_SD)
        z = mean + log_sd.exp() * noise
        rows, given = (
            None if images is None else images.repeat_interleave(draws, dim=0)
            for images in (x, context)
        )
        log_likelihood = evaluate(self._log_likelihood, at_once, z.flatten(0, 1), rows, given)
        log_ratio = (log_sd + 0.5 * (noise**2 - z**2)).sum(2)  # log p(z) − log q(z|x)
        return log_likelihood.view(len(x), draws) + log_ratio

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples, exactly: z, then each value given z: (n, *event_shape)."""
        self.check_labels(labels, n)
        own, like = row_generators(n, generator), next(self.parameters())
        blank = torch.empty(0, dtype=like.dtype)
        z = torch.stack([normal((self.config.latents,), blank, row) for row in own])
        u = torch.stack([uniform((2, *self.event_shape), blank, row) for row in own])
        mixture = self._given(z.to(like.device), context)
        x = mixture.quantile(*u.to(like.device).unbind(1))
        return x if self.levels is None else to_grid(x, self.levels)

    def bytes_per_example(self) -> int:
        """Returns about the size of the feature maps that live at the same time."""
        parameter = next(self.parameters())
        return 8 * self.config.filters * math.prod(self.event_shape[1:]) * parameter.element_size()

    def _encoded(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Returns what q(z|x) is made of, (batch, 2 · latents)."""
        seen: Tensor = self.encoder(x if context is None else torch.cat([x, context], dim=1))
        return seen

    def _given(self, z: Tensor, context: Tensor | None) -> Mixture:
        """Returns the distribution of each value given z, (batch, *event_shape, mixtures)."""
        maps = self.decoder(z, context)
        shape = (self.event_shape[0], self.config.mixtures, len(Mixture._fields))
        logits, means, raw = maps.unflatten(1, shape).movedim((2, 3), (-2, -1)).unbind(-1)
        log_scales = raw.clamp(self.config.min_log_scale, LARGEST_LOG_SCALE)
        return Mixture(logits, means, log_scales)

    def _log_likelihood(self, z: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        """Returns log p(x|z) of each row, (batch,)."""
        return self._given(z, context).log_prob(x, self.levels).sum((1, 2, 3))


class _Decoder(nn.Module):
    """Numbers to maps: residual blocks at each size of the trunk, which see the context in it.

    Args:
        latents: the numbers.
        context: channels of the context; 0 without one.
        filters: channels at full size.
        blocks: residual blocks at each size.
        sizes: height and width of the maps, the full size first.
        outputs: channels of the last maps.
    """

    def __init__(
        self,
        latents: int,
        context: int,
        filters: int,
        blocks: int,
        sizes: list[list[int]],
        outputs: int,
    ) -> None:
        super().__init__()
        self.sizes, channels = sizes[::-1], widths(filters)[::-1]
        self.first = nn.Linear(latents, channels[0] * math.prod(sizes[-1]))
        self.joins = nn.ModuleList(
            nn.Conv2d(before + context, width, 3, padding=1)
            for before, width in pairwise([channels[0], *channels])
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(SmoothBlock(width) for _ in range(blocks)), nn.SiLU())
            for width in channels
        )
        self.last = nn.Conv2d(filters, outputs, 3, padding=1)

    def forward(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Returns (batch, outputs, H, W) of z, (batch, latents), and images of that size."""
        maps = self.first(z).unflatten(1, (-1, *self.sizes[0]))
        for (height, width), join, blocks in zip(self.sizes, self.joins, self.blocks, strict=True):
            maps = F.interpolate(maps, (height, width))
            if context is not None:
                small = F.adaptive_avg_pool2d(context, (height, width))
                maps = torch.cat([maps, small], dim=1)
            maps = blocks(join(maps))
        out: Tensor = self.last(maps)
        return out
