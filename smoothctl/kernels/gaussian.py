"""The Gaussian kernel, the paper's choice."""

import math

import torch
from torch import Generator, Tensor

from smoothctl.kernels.base import Kernel, LogProb
from smoothctl.rng import normal

__all__ = ["Gaussian"]


class Gaussian(Kernel):
    r"""Normal noise: k(n) = exp(−n²/2σ²) / √(2πσ²)."""

    summary = "normal noise; single-step denoising by Tweedie's formula (ARDS eq. 2)"

    def noise(self, like: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws N(0, σ²) noise with the shape, dtype and device of `like`."""
        return self.sigma * normal(like.shape, like, generator)

    def log_density(self, noise: Tensor) -> Tensor:
        """Returns log N(noise; 0, σ²) in nats, elementwise."""
        return -0.5 * (noise / self.sigma) ** 2 - math.log(self.sigma * math.sqrt(2 * math.pi))

    def entropy_per_dimension(self) -> float:
        """Returns ½ log(2πeσ²) nats."""
        return 0.5 * math.log(2 * math.pi * math.e * self.sigma**2)

    def posterior_mean(self, x_smooth: Tensor, log_prob: LogProb) -> Tensor:
        r"""Returns E[x | x̃] = x̃ + σ² ∇ log p(x̃) (ARDS eq. 2; Robbins 1956, Efron 2011).

        Args:
            x_smooth: smoothed samples, (batch, *event).
            log_prob: the log-density of x̃ in nats, differentiated through the whole graph.

        Returns:
            The posterior means, shape of `x_smooth`.
        """
        with torch.enable_grad():
            leaf = x_smooth.detach().requires_grad_(True)
            (score,) = torch.autograd.grad(log_prob(leaf).sum(), leaf)
        return self.posterior_mean_from_score(x_smooth, score)

    def posterior_mean_from_score(self, x_smooth: Tensor, score: Tensor) -> Tensor:
        """Returns x̃ + σ² ∇ log p(x̃) (ARDS eq. 2), shape of `x_smooth`."""
        return x_smooth + self.sigma**2 * score
