"""A mixture of Gaussians, whose parameters depend on the context if there is one."""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Progress
from smoothctl.architectures.layers import mlp
from smoothctl.architectures.standardised import StandardisedDensity
from smoothctl.config import config
from smoothctl.rng import normal, uniform

__all__ = ["Mixture"]


class Mixture(StandardisedDensity):
    r"""p(z | c) = Σₖ wₖ(c) Πᵢ N(zᵢ; μₖᵢ(c), sₖᵢ(c)²), of data z standardised by the base class.

    A prior has no context c; that of a denoiser is x̃, of which a network makes w, μ and s.
    """

    @config
    class Config:
        """What `--set KEY=VALUE` may change; checked, and kept with the weights."""

        components: int = Field(8, ge=1, le=10_000, description="Gaussians in the mixture")
        width: int = Field(64, ge=1, le=65_536, description="units in a denoiser's hidden layers")
        offset: bool = Field(True, description="a denoiser models x − x̃ rather than x")

    summary = "mixture of Gaussians; a network of the context for the denoiser"
    config: Config

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # sets event_shape, context_shape and config
        c, dims = self.config, self.event_shape[0]
        self.sizes = [c.components, c.components * dims, c.components * dims]  # logit w, μ, log s
        start = [torch.zeros(self.sizes[0]), torch.randn(self.sizes[1]), torch.zeros(self.sizes[2])]
        self.start = nn.Parameter(torch.cat(start))
        if self.context_dims:
            self.network = mlp(self.context_dims, c.width, 2, sum(self.sizes))

    def components(self, n: int, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns log w, (n, K), and μ and log s, (n, K, D), of standardised data."""
        raw = self.start.expand(n, -1)
        if context is not None:
            raw = raw + self.network(self.standard_context(context))
        logits, means, log_scales = raw.split(self.sizes, dim=1)
        shape = (n, self.config.components, *self.event_shape)
        return logits.log_softmax(1), means.view(shape), log_scales.clamp(-7, 3).view(shape)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x | context) in nats: (batch, D) -> (batch,)."""
        self.check_labels(labels, len(x))
        z, _ = self.to_standard(x, context)
        log_weights, means, log_scales = self.components(len(x), context)
        distance = (z[:, None] - means) / log_scales.exp()
        gaussians = -(distance**2) / 2 - log_scales - math.log(2 * math.pi) / 2
        return (log_weights + gaussians.sum(2)).logsumexp(1) - self.log_volume

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples, (n, D): a component for each, then its Gaussian."""
        self.check_labels(labels, n)
        log_weights, means, log_scales = self.components(n, context)
        below = log_weights.exp().cumsum(1) < uniform((n, 1), means, generator)
        chosen = below.sum(1).clamp(max=self.config.components - 1)
        rows = torch.arange(n, device=means.device)
        mean, scale = means[rows, chosen], log_scales[rows, chosen].exp()
        return self.from_standard(mean + scale * normal(mean.shape, mean, generator), context)
