"""A kernel for coordinates of different spreads, whose σ is in units of each one's scale."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from smoothctl.errors import UsageError
from smoothctl.kernels.base import Kernel, LogProb

__all__ = ["Scaled"]


class Scaled(Kernel):
    r"""q(x̃|x) = Πᵢ k((x̃ᵢ − xᵢ)/sᵢ)/sᵢ: another kernel's noise on x/s, in the units of x.

    To smooth x by it is to standardise x, to smooth that and to go back. Densities are those of x
    and x̃ in data units.

    Args:
        kernel: k; its σ is that of x/s.
        scale: s, one positive number a coordinate.

    Raises:
        UsageError: a scale that is not positive and finite.
    """

    summary = "another kernel in units of each coordinate's scale"

    def __init__(self, kernel: Kernel, scale: Sequence[float]) -> None:
        super().__init__(kernel.sigma)
        if not all(math.isfinite(s) and s > 0 for s in scale):
            raise UsageError(f"Each scale must be positive and finite, not {list(scale)}.")
        self.kernel, self.scale = kernel, torch.tensor(scale, dtype=torch.float64)

    def __repr__(self) -> str:
        return f"Scaled({self.kernel!r}, {self.scale.tolist()})"

    @property
    def name(self) -> str:
        """The other kernel's."""
        return self.kernel.name

    @property
    def exact_density_only(self) -> str:  # type: ignore[override]
        """The other kernel's."""
        return self.kernel.exact_density_only

    @property
    def by_coordinate(self) -> bool:  # type: ignore[override]
        """The other kernel's."""
        return self.kernel.by_coordinate

    def deviations(self, like: Tensor) -> Tensor:
        """Returns σ s, the standard deviation of each coordinate in data units: (D,)."""
        return self.sigma * self.scale.to(like)

    def noise(self, like: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws s times the other kernel's noise."""
        return self.kernel.noise(like, generator) * self.scale.to(like)

    def log_density(self, noise: Tensor) -> Tensor:
        """Returns log k(n/s) − log s in nats, elementwise."""
        scale = self.scale.to(noise)
        return self.kernel.log_density(noise / scale) - scale.log()

    def entropy_per_dimension(self) -> float:
        """Returns the mean entropy of a coordinate in nats."""
        return self.kernel.entropy_per_dimension() + float(self.scale.log().mean())

    def posterior_mean(self, x_smooth: Tensor, log_prob: LogProb) -> Tensor:
        """Returns s times the other kernel's E[x/s | x̃/s]."""
        scale = self.scale.to(x_smooth)
        # the Jacobian's constant does not matter to a gradient or a ratio of densities
        return scale * self.kernel.posterior_mean(x_smooth / scale, lambda z: log_prob(scale * z))

    def posterior_mean_from_score(self, x_smooth: Tensor, score: Tensor) -> Tensor:
        """Returns s times the other kernel's mean; the score of x̃/s is s ∇ log p(x̃)."""
        scale = self.scale.to(x_smooth)
        return scale * self.kernel.posterior_mean_from_score(x_smooth / scale, scale * score)
