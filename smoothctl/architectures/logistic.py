"""Mixtures of logistics over whole vectors: the one-dimensional baseline."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Density, Progress, Shape, standardise, to_grid
from smoothctl.architectures.layers import mlp
from smoothctl.architectures.mixtures import (
    LARGEST_LOG_SCALE,
    Mixture,
    log_scale_of,
    ordered_log_scales,
    spread,
)
from smoothctl.config import config
from smoothctl.rng import uniform

__all__ = ["LogisticMixture"]


class LogisticMixture(Density):
    r"""p(x | c) = Σₖ πₖ(c) Πᵢ logistic(xᵢ; μₖᵢ(c), sₖᵢ(c)) (the baseline of ARDS section 4.1).

    Without a context the parameters are free; with one, a small network computes them, and the
    means are offsets from the context where it has the shape of the event.
    """

    @config
    class Config:
        """Settings of `logistic-mixture`."""

        mixtures: int = Field(2, ge=1, le=10_000, description="number of logistics")
        width: int = Field(
            64, ge=1, le=65_536, description="units in each of the context network's layers"
        )
        layers: int = Field(2, ge=1, le=1000, description="hidden layers of the context network")
        min_log_scale: float = Field(
            -7.0,
            ge=-LARGEST_LOG_SCALE,
            le=LARGEST_LOG_SCALE,
            description="floor of log-scales, in standard units",
        )
        max_log_scale: float = Field(
            1.0,
            ge=-LARGEST_LOG_SCALE,
            le=LARGEST_LOG_SCALE,
            description="ceiling of log-scales, in standard units",
        )

        _ordered = model_validator(mode="after")(ordered_log_scales)

    summary = "one mixture of logistics over the whole vector: the 1-d baseline"
    weighs_completions = True
    training_defaults: ClassVar = {"steps": 3000, "learning_rate": 1e-2}
    config: Config
    loc: Tensor
    scale: Tensor
    context_loc: Tensor
    context_scale: Tensor

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        dims, k = self.event_shape[0], self.config.mixtures
        self.offset = self.context_shape == self.event_shape
        outputs = k * (1 + 2 * dims)
        self.bias = nn.Parameter(torch.zeros(outputs))
        if self.context_shape is not None:
            c = self.config
            self.network = mlp(self.context_shape[0], c.width, c.layers, outputs, bias=False)
            self.register_buffer("context_loc", torch.zeros(self.context_shape))
            self.register_buffer("context_scale", torch.ones(self.context_shape))
        self.register_buffer("loc", torch.zeros(dims))
        self.register_buffer("scale", torch.ones(dims))
        self._spread_means()

    def _spread_means(self) -> None:
        dims, k = self.event_shape[0], self.config.mixtures
        with torch.no_grad():
            _, means, log_scales = self._split(self.bias)
            means.copy_(spread(k)[:, None].expand(k, dims))
            log_scales.fill_(log_scale_of(1 / k))

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dims, k = self.event_shape[0], self.config.mixtures
        logits, means, log_scales = outputs.split([k, k * dims, k * dims], dim=-1)
        shape = (*outputs.shape[:-1], k, dims)
        return logits, means.view(shape), log_scales.view(shape)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardises the context and the (offset from the context to the) data."""
        if context is not None and self.context_shape is not None:
            self.context_loc, self.context_scale = standardise(context)
        self.loc, self.scale = standardise(
            x - context if self.offset and context is not None else x
        )

    def _mixture_parameters(self, n: int, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns logits (n, K), means and log-scales (n, K, D) in data units."""
        outputs = self.bias.expand(n, -1)
        if context is not None:
            outputs = outputs + self.network((context - self.context_loc) / self.context_scale)
        logits, means, log_scales = self._split(outputs)
        log_scales = log_scales.clamp(self.config.min_log_scale, self.config.max_log_scale)
        means = self.loc + self.scale * means
        if self.offset and context is not None:
            means = means + context[:, None]
        return logits, means, log_scales + self.scale.log()

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x | context) in nats: (batch, D) -> (batch,)."""
        self.check_labels(labels, len(x))
        logits, means, log_scales = self._mixture_parameters(len(x), context)
        parts = self._log_parts(x, logits, means, log_scales).sum(1)
        return torch.logsumexp(parts + F.log_softmax(logits, dim=-1), dim=-1)

    def _log_parts(self, x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        """Returns each component's log-density of each coordinate: (batch, D, K)."""
        return Mixture(logits, means.mT, log_scales.mT).log_parts(x, self.levels)

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples: (n, D)."""
        x = self.loc.new_zeros(n, *self.event_shape)
        known = torch.zeros(1, *self.event_shape, dtype=torch.bool)
        return self.inpaint(x, known, context, labels, generator, progress)

    @torch.no_grad()
    def inpaint(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws what is not known of x: the component given all that is known, then the rest."""
        n = len(x)
        self.check_labels(labels, n)
        self.check_known(known, n)
        known = known.to(x.device)
        logits, means, log_scales = self._mixture_parameters(n, context)
        if known.any():
            logits = self._log_joint(x, known, logits, means, log_scales)
        u = uniform((n, 1 + means.shape[-1]), means, generator)
        cumulated = logits.softmax(-1).cumsum(-1)[:, :-1]
        k = (u[:, :1] > cumulated).sum(-1)
        rows = torch.arange(n, device=k.device)
        draws = means[rows, k] + log_scales[rows, k].exp() * torch.logit(u[:, 1:])
        return x.where(known, draws if self.levels is None else to_grid(draws, self.levels))

    def completion_log_weight(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns log p(x_known | context), as the component is drawn given all of it: (batch,)."""
        self.check_labels(labels, len(x))
        self.check_known(known, len(x))
        parameters = self._mixture_parameters(len(x), context)
        return self._log_joint(x, known.to(x.device), *parameters).logsumexp(-1)

    def _log_joint(
        self, x: Tensor, known: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
    ) -> Tensor:
        """Returns log p(x_known, component): (batch, K)."""
        parts = self._log_parts(x.where(known, 0.0), logits, means, log_scales)
        return F.log_softmax(logits, -1) + parts.where(known[..., None], 0.0).sum(1)
