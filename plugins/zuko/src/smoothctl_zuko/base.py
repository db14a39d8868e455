"""What all architectures from zuko share: standardised data, one lazy distribution, its draws."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.distributions import Transform
from zuko.lazy import Flow, LazyDistribution

from smoothctl.architectures.base import Progress, Shape
from smoothctl.architectures.standardised import StandardisedDensity
from smoothctl.config import config
from smoothctl.errors import UsageError
from smoothctl.rng import normal

__all__ = ["ZukoDensity", "ZukoFlow", "use_univariate"]


class ZukoDensity(StandardisedDensity):
    """log p(x | c) = log p_zuko(z | c) − Σ log s of standardised z and c.

    A subclass names the distribution in `build`; everything else about it is zuko's.
    """

    least_dims: ClassVar[int] = 1
    """Fewest coordinates that the family makes sense for."""

    training_defaults: ClassVar = {"learning_rate": 2e-3}

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        if self.event_shape[0] < self.least_dims:
            raise UsageError(
                f"{type(self).__name__} is a mere Gaussian in one dimension: use zuko-nsf."
            )
        self.zuko = self.build(self.event_shape[0], self.context_dims)

    @abstractmethod
    def build(self, features: int, context: int) -> LazyDistribution:
        """Returns zuko's distribution of so many coordinates, given so many of context."""

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x | context) in nats: (batch, D) -> (batch,)."""
        self.check_labels(labels, len(x))
        z, given = self.to_standard(x, context)
        log_density: Tensor = self.zuko(given).log_prob(z)
        return log_density - self.log_volume

    def train(self, mode: bool = True) -> Self:
        """Sets the mode, but not zuko's, without whose training mode some weights get no gradient.

        It has neither dropout nor batch statistics, so that its values are the same in both.
        """
        super().train(mode)
        self.zuko.train()
        return self


class ZukoFlow(ZukoDensity):
    """A flow f from z to standard normals, which are drawn here: the same on every device."""

    @config
    class Config(ZukoDensity.Config):
        """Settings of every flow."""

        transforms: int = Field(5, ge=1, le=64, description="transformations, one after another")
        width: int = Field(64, ge=1, le=4096, description="units in each hidden layer")
        layers: int = Field(2, ge=1, le=20, description="hidden layers of each network")

    zuko: Flow

    @property
    def hidden(self) -> tuple[int, ...]:
        """The sizes of a network's hidden layers."""
        c = self.config
        return (int(c.width),) * int(c.layers)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples through the inverse flow: (n, D)."""
        self.check_labels(labels, n)
        noise = normal((n, *self.event_shape), self.loc, generator)
        inverse = self.zuko.transform(self.standard_context(context)).inv
        return self.from_standard(inverse(noise), context)


def use_univariate(flow: Flow, univariate: Callable[..., Transform]) -> None:
    """Has every layer of a flow transform single coordinates in another way."""
    layers: Any = flow.transform.modules()
    for layer in layers:
        if hasattr(layer, "univariate"):
            layer.univariate = univariate
