"""PixelIQN: a Gated PixelCNN that gives the quantiles of a pixel in place of its masses."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Shape, to_grid
from smoothctl.architectures.layers import mlp
from smoothctl.config import config
from smoothctl.errors import NotAvailable
from smoothctl.rng import uniform
from smoothctl_rivals.autoregressive import RasterDensity, Trunk
from smoothctl_rivals.heads import Head
from smoothctl_rivals.pixelcnn import GatedTrunk

__all__ = ["PixelIQN", "quantile_huber"]


class PixelIQN(RasterDensity):
    """Q(τ | x₁ … xᵢ₋₁, x̃), the quantile of xᵢ at a level τ (Ostrovski, Dabney and Munos 2018).

    A level is drawn uniformly for every channel of every pixel, and its quantile is a sample. The
    features of Gated PixelCNN meet those of τ in a product, as in IQN (Dabney et al. 2018), so that
    a value depends on its own τ alone.

    There is no likelihood, and so no bound and no score: it has samples alone.
    """

    @config
    class Config(RasterDensity.Config):
        """Settings of `pixeliqn`."""

        draws: int = Field(4, ge=1, le=1000, description="levels τ of each value in the loss")
        waves: int = Field(32, ge=1, le=1000, description="cosines cos πkτ that it sees of a τ")
        kappa: float = Field(
            0.004,
            gt=0,
            le=1e6,
            description="κ of the quantile Huber loss, in data units: it is quadratic below",
        )

    summary = "convolutional autoregressive network for images that draws by quantiles (PixelIQN)"
    tractable = False
    config: Config

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        c, channels = self.config, self.event_shape[0]
        self.head = Head(self.trunk.channels, channels, c.filters)
        self.level = nn.Linear(c.waves, c.filters)
        self.last = mlp(c.filters, c.filters, 1, 1)

    def make_trunk(self) -> Trunk:
        """Returns the gated stacks."""
        return GatedTrunk(self.event_shape[0], self.config, self.context_shape is not None)

    def quantile(
        self,
        x: Tensor,
        tau: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns Q(τ) of every value given those before it, in data units.

        Args:
            x: images, (batch, C, H, W).
            tau: levels in (0, 1), (*draws, batch, C, H, W).
            context: x̃ for a denoiser, shape of x.
            labels: must be None.

        Returns:
            Shape of tau.
        """
        return self._quantile(self.features(x, context, labels), tau)

    def training_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns the quantile Huber loss, mean over draws of τ and sum over values: (batch,)."""
        tau = uniform((self.config.draws, *x.shape), x, generator)
        error = x - self.quantile(x, tau, context, labels)
        return quantile_huber(error, tau, self.config.kappa).mean(0).flatten(1).sum(1)

    def draw(self, features: Tensor, u: Tensor) -> Tensor:
        """Returns the quantiles at uniform levels (batch, 1, C, H, W): (batch, C, H, W)."""
        values = self._quantile(features, u[:, 0])
        return values if self.levels is None else to_grid(values, self.levels)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """There is none.

        Raises:
            NotAvailable: always.
        """
        raise NotAvailable(
            "PixelIQN learns the quantiles of each value and has neither a likelihood nor a bound "
            "of it: it has samples only."
        )

    def score_function(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """There is none.

        Raises:
            NotAvailable: always.
        """
        raise NotAvailable(
            "PixelIQN learns the quantiles of each value and has no score, which single-step "
            "denoising needs: draw two-step samples."
        )

    def _quantile(self, features: Tensor, tau: Tensor) -> Tensor:
        """Maps features (batch, features, H, W) and levels (…, batch, C, H, W) to quantiles."""
        pixels = self.head(features)
        with torch.autocast(pixels.device.type, enabled=False):  # bf16 has two digits
            waves = math.pi * torch.arange(self.config.waves, dtype=tau.dtype, device=tau.device)
            level = F.relu(self.level(torch.cos(tau[..., None] * waves)))
            out: Tensor = self.last(pixels * level).squeeze(-1)
        return out


def quantile_huber(error: Tensor, tau: Tensor, kappa: float) -> Tensor:
    """Returns |τ − 1{u < 0}| L_κ(u)/κ of errors u = x − Q(τ), of any shape (Dabney et al. 2018).

    L_κ(u) is u²/2 up to |u| = κ and κ(|u| − κ/2) beyond, so that with κ → 0 the minimum over Q is
    the quantile of x at the level τ.
    """
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=kappa)
    return (tau - (error < 0).to(tau)).abs() * huber / kappa
