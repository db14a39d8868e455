"""A base for flows of images, which dequantises values on a grid."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from smoothctl.architectures.base import Density, Progress, Shape, to_grid
from smoothctl.errors import NotAvailable
from smoothctl.rng import generator as generator_of
from smoothctl.rng import normal, row_generators, uniform
from smoothctl.smoothing.batching import evaluate, rows_that_fit
from smoothctl_rivals.invertible import initialise

__all__ = ["DequantisedFlow"]


class DequantisedFlow(Density):
    r"""log p(x | c) = log N(f(x; c); 0, I) + log |det ∂f/∂x|, exactly, over the reals.

    The k-th of L values on a grid is dequantised: the flow models y = logit v of v = (k + u)/L with
    u uniform on (0, 1) (Dinh et al. 2017, section 4.1). The mass of an image,

        P(x | c) = E_u[p(y | c) Π 1/(L v (1 − v))],

    is an integral that is not known: with levels a model is `bounded` and not `tractable`, since
    log P(x) ≥ E_u[log …] (Theis et al. 2016, section 3.1). Every y belongs to one value, so that
    the masses sum to one, and samples, which are rounded to the grid, follow them.

    A subclass defines f in `to_noise` and its inverse in `from_noise`.
    """

    domain = "image"

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        self.tractable, self.bounded = levels is None, levels is not None

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardises what reaches each `ActNorm`."""
        draws = generator_of("initialize")
        y = x if self.levels is None else self._dequantised(x, draws)[0]
        initialise(self, lambda: self.to_noise_estimated(y, context, draws))

    @abstractmethod
    def to_noise(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns f(x; c), (batch, C·H·W), and log |det ∂f/∂x|, (batch,), exactly."""

    def to_noise_estimated(
        self, x: Tensor, context: Tensor | None, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Does `to_noise` for training: the log-determinant may be an estimate."""
        return self.to_noise(x, context)

    @abstractmethod
    def from_noise(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Undoes `to_noise`: returns x, (batch, C, H, W)."""

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x | context) in nats: (batch, C, H, W) -> (batch,).

        Raises:
            NotAvailable: of values on a grid, for which there is `bound`.
            UsageError: there are labels.
        """
        self.check_labels(labels, len(x))
        if self.levels is not None:
            raise NotAvailable(
                f"{type(self).__name__} has no exact probability of values on a grid, which it "
                "dequantises: `bound` gives a lower bound, tighter with more draws."
            )
        return self._log_density(x, context)

    def log_weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        draws: int = 1,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns log wₖ with E[wₖ] = P(x | context) of values on a grid, in nats, (batch, K).

        Args:
            x: shape (batch, C, H, W), on the grid.
            context: shape of x.
            labels: must be None.
            draws: K dequantisations of each image.
            generator: draws them.
        """
        self.check_labels(labels, len(x))
        y, log_volume = self._dequantised(x.repeat_interleave(draws, dim=0), generator)
        given = None if context is None else context.repeat_interleave(draws, dim=0)
        rows = rows_that_fit(self, gradient=torch.is_grad_enabled())
        log_weights = evaluate(self._log_density, rows, y, given) + log_volume
        return log_weights.view(len(x), draws)

    def training_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns −log p(x | context), or minus the bound of one draw, (batch,), in nats."""
        self.check_labels(labels, len(x))
        y, log_volume = (x, 0.0) if self.levels is None else self._dequantised(x, generator)
        z, log_determinant = self.to_noise_estimated(y, context, generator)
        return -(_log_normal(z) + log_determinant + log_volume)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples through the inverse flow, on the grid where there is one."""
        self.check_labels(labels, n)
        like, dims = next(self.parameters()), math.prod(self.event_shape)
        noise = [normal((dims,), like, source) for source in row_generators(n, generator)]
        x = self.from_noise(torch.stack(noise), context)
        if self.levels is None:
            return x
        return to_grid((2 * self.levels * x.sigmoid() - 1) / (self.levels - 1) - 1, self.levels)

    def _log_density(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Returns log p(x | context), or log p(y | context), in nats, (batch,)."""
        z, log_determinant = self.to_noise(x, context)
        return _log_normal(z) + log_determinant

    def _dequantised(self, x: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Returns y = logit v, and log Π 1/(L v (1 − v)), (batch,)."""
        assert self.levels is not None
        index = ((x + 1) * (self.levels - 1) / 2).round().clamp(0, self.levels - 1)
        v = (index + uniform(x.shape, x, generator)) / self.levels
        y = v.logit(eps=torch.finfo(x.dtype).eps)
        log_volume = softplus(y) + softplus(-y) - math.log(self.levels)
        return y, log_volume.flatten(1).sum(1)


def _log_normal(z: Tensor) -> Tensor:
    """Returns log N(z; 0, I) in nats: (batch, D) -> (batch,)."""
    return -0.5 * ((z**2).sum(1) + z.shape[1] * math.log(2 * math.pi))
