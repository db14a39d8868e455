"""CIF-RealNVP: a flow whose bijections are indexed by continuous latent variables."""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Progress, Shape
from smoothctl.architectures.standardised import StandardisedDensity
from smoothctl.config import config
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.rng import normal
from smoothctl_cif.blocks import IndexedBlock

__all__ = ["CIFRealNVP"]


class CIFRealNVP(StandardisedDensity):
    r"""p(x) = ∫ p(x, u) du with x = F₁(·; u₁) ∘ … of a standard normal (Cornish et al. 2020).

    log p(x) ≥ E_q [log p(x, u) − log q(u | x)], where q(u|x) draws the index of each layer given
    what the layers nearer to the data made of x. The sum over layers is that of `IndexedBlock`.
    """

    @config
    class Config(StandardisedDensity.Config):
        """Settings of `cif-realnvp`."""

        blocks: int = Field(4, ge=1, le=128, description="layers, each of two affine couplings")
        width: int = Field(64, ge=1, le=65_536, description="units in the couplings' hidden layers")
        layers: int = Field(2, ge=1, le=20, description="hidden layers of every network")
        latents: int = Field(2, ge=1, le=4096, description="coordinates of each layer's index u")
        index_width: int = Field(
            16,
            ge=1,
            le=65_536,
            description="units in the hidden layers of s and t, p(u|z) and q(u|x)",
        )
        scale_cap: float = Field(3.0, ge=1e-3, le=20, description="bound of every |log-scale|")

    summary = "continuously indexed RealNVP: couplings with latent variables, known by a bound"
    tractable = False
    bounded = True
    training_defaults: ClassVar = {"steps": 12_000, "learning_rate": 2e-3}
    config: Config

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        dims = self.event_shape[0]
        if dims < 2:
            raise UsageError(
                "CIFRealNVP splits the coordinates in two and cannot model one dimension: "
                "use logistic-mixture or made."
            )
        c = self.config
        widths = c.latents, c.width, c.index_width, c.layers, c.scale_cap
        blocks = [IndexedBlock(dims, self.context_dims, *widths) for _ in range(c.blocks)]
        self.blocks = nn.ModuleList(blocks)  # the data's side first
        order = torch.arange(dims)
        self.order = torch.cat([order[::2], order[1::2]]).tolist()

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Raises NotAvailable, as `score` does: the integral over u has no closed form."""
        raise NotAvailable(
            "CIFRealNVP has no exact likelihood, and no score, as it integrates over latent "
            "variables: `bound` gives a lower bound, tighter with more draws."
        )

    def log_weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        draws: int = 1,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns log p(x, uₖ)/q(uₖ|x) with uₖ ~ q(u|x), in nats.

        Args:
            x: shape (batch, D).
            context: shape (batch, C).
            labels: must be None.
            draws: K.
            generator: draws the noise of all indices, one block (batch · K, blocks · latents).

        Returns:
            Shape (batch, K).
        """
        self.check_labels(labels, len(x))
        rows = x.repeat_interleave(draws, dim=0)
        given = None if context is None else context.repeat_interleave(draws, dim=0)
        return self._log_weight(rows, given, generator).view(len(x), draws)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples, exactly: noise, then each layer with an index from p(u|z): (n, D)."""
        self.check_labels(labels, n)
        given, dims = self.standard_context(context), self.event_shape[0]
        noise = normal((n, dims + self._latents), self.loc, generator)
        z, indices = noise[:, :dims], noise[:, dims:].chunk(len(self.blocks), dim=1)
        for block, index_noise in zip(reversed(list(self.blocks)), indices, strict=True):
            assert isinstance(block, IndexedBlock)
            z = block.outwards(z, given, index_noise)
        ordered = torch.empty_like(z)
        ordered[:, self.order] = z
        return self.from_standard(ordered, context)

    @property
    def _latents(self) -> int:
        return self.config.blocks * self.config.latents

    def _log_weight(self, x: Tensor, context: Tensor | None, generator: Generator | None) -> Tensor:
        """Returns log p(x, u) − log q(u|x) of one draw of all indices u for each x, (batch,)."""
        z, given = self.to_standard(x, context)
        z = z[:, self.order]
        noise = normal((len(x), self._latents), x, generator)
        log_weight = -self.log_volume.expand(len(x))
        for block, part in zip(self.blocks, noise.chunk(len(self.blocks), dim=1), strict=True):
            assert isinstance(block, IndexedBlock)
            z, log_joint, log_inference = block.inwards(z, given, part)
            log_weight = log_weight + log_joint - log_inference
        squared = (z**2).sum(1)
        return log_weight - 0.5 * squared - 0.5 * z.shape[1] * math.log(2 * math.pi)
