"""The kernel contract: symmetric, stationary noise with independent coordinates."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Generator, Tensor

from smoothctl.errors import NotAvailable, UsageError

__all__ = ["Kernel", "LogProb"]

_LARGEST = 1e150
"""σ, so that a float can hold its square; 1/σ, too."""

LogProb = Callable[[Tensor], Tensor]
"""A log-density in nats: (batch, *event) -> (batch,)."""


class Kernel(ABC):
    r"""A smoothing kernel q(x̃|x) = Πᵢ k(x̃ᵢ − xᵢ), whatever the event shape (ARDS section 3.1).

    Args:
        sigma: the standard deviation of the noise per coordinate, in data units. It means the
            same for every kernel, so that kernels compare at equal variance.

    Raises:
        UsageError: sigma is not a positive, finite number whose square is one, too.
    """

    summary: ClassVar[str]
    """One sentence for `smoothctl kernels list`."""

    exact_density_only: ClassVar[str] = ""
    """Why `posterior_mean` must not be used with a learned density; empty where it may."""

    by_coordinate: ClassVar[bool] = False
    """Whether `posterior_mean` evaluates the density many times a coordinate: not for images."""

    def __init__(self, sigma: float) -> None:
        if not (isinstance(sigma, int | float) and 1 / _LARGEST <= sigma <= _LARGEST):
            raise UsageError(
                "The kernel's standard deviation sigma must be positive and finite, from "
                f"{1 / _LARGEST:g} to {_LARGEST:g}, not {sigma!r:.80}."
            )
        self.sigma = float(sigma)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sigma={self.sigma:g})"

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    def deviations(self, like: Tensor) -> Tensor:
        """Returns the standard deviation of the noise, for every coordinate or one for all."""
        return like.new_tensor(self.sigma)

    def sample(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws x̃ ~ q(x̃|x), shape (batch, *event) as x."""
        return x + self.noise(x, generator)

    def log_prob(self, x_smooth: Tensor, x: Tensor) -> Tensor:
        """Returns log q(x̃|x) in nats, summed over the event dimensions: (batch,)."""
        return self.log_density(x_smooth - x).flatten(1).sum(1)

    def entropy(self, event_shape: Sequence[int]) -> float:
        """Returns the differential entropy H(q(x̃|x)) in nats; it does not depend on x."""
        return math.prod(event_shape) * self.entropy_per_dimension()

    @abstractmethod
    def noise(self, like: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws x̃ − x with the shape, dtype and device of `like`."""

    @abstractmethod
    def log_density(self, noise: Tensor) -> Tensor:
        """Returns log k(noise) in nats, elementwise."""

    @abstractmethod
    def entropy_per_dimension(self) -> float:
        """Returns the differential entropy of one coordinate's noise in nats."""

    @abstractmethod
    def posterior_mean(self, x_smooth: Tensor, log_prob: LogProb) -> Tensor:
        """Returns the empirical-Bayes estimate E[x | x̃], from the smoothed density alone.

        Args:
            x_smooth: smoothed samples, (batch, *event).
            log_prob: the log-density of x̃ in nats, (batch, *event) -> (batch,).

        Returns:
            The posterior means, shape of `x_smooth`, not clamped to the data range.

        Raises:
            NotAvailable: the kernel has no usable closed form.
        """

    def posterior_mean_from_score(self, x_smooth: Tensor, score: Tensor) -> Tensor:
        """Returns E[x | x̃] where the score of the smoothed density is all that is known.

        Args:
            x_smooth: smoothed samples, (batch, *event).
            score: ∇ log p(x̃) there, same shape.

        Raises:
            NotAvailable: the score doesn't determine the mean for this kernel.
        """
        del x_smooth, score
        raise NotAvailable(
            f"The score of the smoothed density gives no posterior mean for {self.name} "
            "noise; for Gaussian noise it does."
        )
