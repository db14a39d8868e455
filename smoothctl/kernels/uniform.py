"""The uniform kernel: bounded noise."""

import math

import torch
from torch import Generator, Tensor

from smoothctl.kernels.base import Kernel, LogProb
from smoothctl.kernels.lines import antisymmetric_line_integral, panels
from smoothctl.rng import uniform

__all__ = ["Uniform"]

_REACH = 32
"""How many windows of width 2a the estimator looks to either side."""


class Uniform(Kernel):
    r"""Uniform noise on [−a, a] with half-width a = σ√3."""

    summary = "bounded noise; single-step denoising for exactly known densities only"
    exact_density_only = (
        "the uniform kernel's posterior mean sums differences of the smoothed density over the "
        "whole line, so that a learned density's errors add up"
    )

    @property
    def half_width(self) -> float:
        """The half-width a = σ√3, in data units."""
        return self.sigma * math.sqrt(3)

    def noise(self, like: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws uniform noise on (−a, a)."""
        return self.half_width * (2 * uniform(like.shape, like, generator) - 1)

    def log_density(self, noise: Tensor) -> Tensor:
        """Returns −log 2a inside the window and −∞ outside, in nats, elementwise.

        The edges belong to the window with a tolerance of eight roundings of x̃ − x, so that a
        drawn x̃ never falls outside its own kernel.
        """
        slack = 1 + 8 * torch.finfo(noise.dtype).eps * (1 + 1 / self.half_width)
        outside = noise.abs() > self.half_width * slack
        inside = torch.full_like(noise, -math.log(2 * self.half_width))
        return inside.masked_fill(outside, -math.inf)

    def entropy_per_dimension(self) -> float:
        """Returns log 2a nats."""
        return math.log(2 * self.half_width)

    def posterior_mean(self, x_smooth: Tensor, log_prob: LogProb) -> Tensor:
        r"""Returns E[x | x̃], coordinate by coordinate with the others fixed.

        In one dimension, with F the distribution function of x̃,
        x̃ + {½ − F(x̃) + a Σ_{k≥1} [p(x̃−2ak) − p(x̃+2ak)]} / p(x̃) (the empirical-Bayes approach
        of Raphan & Simoncelli 2011: the noise-free density is the telescoping sum
        f(x) = 2a Σ_k p′(x − a − 2ak)). ½ − F is half the mass above minus half the mass below,
        which also holds along a line of a density in several dimensions.

        The sums reach 64 a to either side; all data must lie within that distance.

        Args:
            x_smooth: smoothed samples, (batch, *event).
            log_prob: the log-density of x̃ in nats: an exact one (see `exact_density_only`).

        Returns:
            The posterior means, shape of `x_smooth`.
        """
        a = self.half_width
        nodes, weights = panels(2 * a * _REACH, count=8 * _REACH)
        comb = 2 * a * torch.arange(1, _REACH + 1, dtype=nodes.dtype)
        offsets = torch.cat([nodes, comb])
        signed_weights = torch.cat([weights / 2, torch.full_like(comb, -a)])
        return x_smooth + antisymmetric_line_integral(x_smooth, log_prob, offsets, signed_weights)
