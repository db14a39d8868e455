"""What each stage is fitted to: the pairs (target, context) that it sees."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Density
from smoothctl.kernels.base import Kernel
from smoothctl.runs.config import StageName

__all__ = ["OBJECTIVES", "Objective"]


class Objective(nn.Module, ABC):
    """A density together with the data that it is fitted to; its forward is the loss.

    Being one module, it can be wrapped for several processes or compiled as a whole.

    Args:
        density: the model.
        kernel: smooths the data; None for a baseline.
    """

    def __init__(self, density: Density, kernel: Kernel | None) -> None:
        super().__init__()
        self.density = density
        self.kernel = kernel

    @abstractmethod
    def pair(
        self, x: Tensor, generator: Generator | None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns target and context for clean examples x, (batch, *event)."""

    def forward(
        self,
        x: Tensor,
        generator: Generator | None = None,
        labels: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Returns the loss of each example in nats: (batch, *event) -> (batch,).

        Args:
            x: clean examples.
            generator: draws the smoothing, and what else the loss draws.
            labels: their classes, (batch,), where the density is conditioned on them.
            noise: x̃ − x where the smoothing is drawn already, shape of x.
        """
        target, context = self.pair(x, generator, noise)
        return self.density.training_loss(target, context, labels, generator)

    def initialize(self, x: Tensor, generator: Generator | None) -> None:
        """Fits the density's scales to a first batch of examples."""
        target, context = self.pair(x, generator)
        self.density.initialize(target, context)

    def smooth(self, x: Tensor, generator: Generator | None, noise: Tensor | None) -> Tensor:
        """Returns x̃ ~ q(x̃|x), from noise x̃ − x where that is drawn already."""
        assert self.kernel is not None
        return self.kernel.sample(x, generator) if noise is None else x + noise


class BaselineObjective(Objective):
    """−log p(x): a plain density of unsmoothed data."""

    def pair(
        self, x: Tensor, generator: Generator | None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns (x, None)."""
        return x, None


class PriorObjective(Objective):
    """−log p(x̃), the first stage (ARDS section 3.2), or the score of p(x̃)."""

    def pair(
        self, x: Tensor, generator: Generator | None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns (x̃, None)."""
        return self.smooth(x, generator, noise), None

    def forward(
        self,
        x: Tensor,
        generator: Generator | None = None,
        labels: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Returns the loss of each example: (batch, *event) -> (batch,)."""
        assert self.kernel is not None
        x_smooth = self.smooth(x, generator, noise)
        return self.density.prior_loss(x, x_smooth, self.kernel.sigma, labels, generator)

    def initialize(self, x: Tensor, generator: Generator | None) -> None:
        """Fits the density's scales to a first batch of examples."""
        assert self.kernel is not None
        self.density.initialize_prior(x, self.smooth(x, generator, None), self.kernel.sigma)


class DenoiserObjective(Objective):
    """−log p(x|x̃), the second stage (ARDS section 3.2)."""

    def pair(
        self, x: Tensor, generator: Generator | None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns (x, x̃)."""
        return x, self.smooth(x, generator, noise)


class JointObjective(Objective):
    """−log p(x̃, x) by one network over both (ARDS section 4.1)."""

    def pair(
        self, x: Tensor, generator: Generator | None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns ([x̃, x], None)."""
        return torch.cat([self.smooth(x, generator, noise), x], dim=1), None


OBJECTIVES: dict[StageName, type[Objective]] = {
    "baseline": BaselineObjective,
    "prior": PriorObjective,
    "denoiser": DenoiserObjective,
    "joint": JointObjective,
}
