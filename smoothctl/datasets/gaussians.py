"""Mixtures of Gaussians in one and two dimensions."""

import math
from typing import ClassVar

import torch
from torch import Generator, Tensor

from smoothctl.datasets.grid import Grid
from smoothctl.datasets.synthetic import Synthetic, check_width, choose, log_normal_density
from smoothctl.rng import normal

__all__ = ["EightGaussians", "GaussianModes", "SixModes", "TenModes", "TwoGaussians"]


class GaussianModes(Synthetic):
    """Equal-weight mixture of Gaussians with one isotropic standard deviation."""

    centres: ClassVar[list[list[float]]]
    noise: ClassVar[float]

    @property
    def grid(self) -> Grid:
        """Twelve standard deviations around all centres, two points to each."""
        return Grid.around(torch.tensor(self.centres), 12 * self.noise, self.noise / 2)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n samples, shape (n, dims)."""
        centres = torch.tensor(self.centres)[choose(n, len(self.centres), generator)]
        return centres + self.noise * normal(centres.shape, centres, generator)

    def true_log_prob(self, x: Tensor) -> Tensor:
        """Returns log Σₖ N(x; cₖ, sd² I) / K in nats: (batch, dims) -> (batch,)."""
        check_width(x, self)
        centres = torch.tensor(self.centres, dtype=x.dtype, device=x.device)
        squared = ((x[:, None] - centres) ** 2).sum(-1)
        log_parts = log_normal_density(squared, self.noise, x.shape[1])
        return log_parts.logsumexp(1) - math.log(len(centres))


class TwoGaussians(GaussianModes):
    """½ N(−0.3, 0.1²) + ½ N(0.3, 0.1²) (ARDS appendix B.1)."""

    name = "two-gaussians"
    summary = "1-d: two narrow Gaussians at ±0.3"
    source = "ARDS appendix B.1"
    event_shape = (1,)
    suggested_sigma = 0.3
    centres: ClassVar = [[-0.3], [0.3]]
    noise = 0.1


class SixModes(GaussianModes):
    """Six Gaussians of standard deviation 0.1, 0.6 apart; our definition."""

    name = "six-modes"
    summary = "1-d: six Gaussians, 0.6 apart (our definition; the paper gives none)"
    source = "smoothctl"
    event_shape = (1,)
    suggested_sigma = 0.3
    centres: ClassVar = [[0.6 * k - 1.5] for k in range(6)]
    noise = 0.1


class TenModes(GaussianModes):
    """Ten Gaussians of standard deviation 0.05, 0.6 apart; our definition."""

    name = "ten-modes"
    summary = "1-d: ten narrow Gaussians, 0.6 apart (our definition; the paper gives none)"
    source = "smoothctl"
    event_shape = (1,)
    suggestion = "the paper's value (figure 3)"
    suggested_sigma = 0.5
    centres: ClassVar = [[0.6 * k - 2.7] for k in range(10)]
    noise = 0.05


class EightGaussians(GaussianModes):
    """Eight Gaussians of standard deviation 0.5/√2 on a circle of radius 4/√2."""

    name = "eight-gaussians"
    summary = "2-d: eight Gaussians on a circle"
    source = "FFJORD (Grathwohl et al. 2019), toy data `8gaussians`"
    event_shape = (2,)
    suggested_sigma = 0.3
    centres: ClassVar = [
        [math.sqrt(8) * math.cos(k * math.pi / 4), math.sqrt(8) * math.sin(k * math.pi / 4)]
        for k in range(8)
    ]
    noise = 0.5 / math.sqrt(2)
