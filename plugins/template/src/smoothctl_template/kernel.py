"""Noise of the logistic distribution: tails between the Gaussian's and the Laplace kernel's."""

import math

from torch import Generator, Tensor, nn

from smoothctl.kernels.base import Kernel, LogProb
from smoothctl.kernels.lines import antisymmetric_line_integral, panels
from smoothctl.rng import uniform

__all__ = ["Logistic"]


class Logistic(Kernel):
    r"""k(n) = e^(−n/s) / s(1 + e^(−n/s))² with the scale s = σ√3/π.

    σ is the standard deviation, as for every kernel, so that kernels compare at equal variance.
    """

    summary = "logistic noise; single-step denoising by a line integral"
    by_coordinate = True  # posterior_mean evaluates the density along lines

    @property
    def scale(self) -> float:
        """The scale s = σ√3/π, in data units."""
        return self.sigma * math.sqrt(3) / math.pi

    def noise(self, like: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws noise by the inverse distribution function, s · log(u/(1 − u))."""
        return self.scale * uniform(like.shape, like, generator).logit()

    def log_density(self, noise: Tensor) -> Tensor:
        """Returns log k(noise) in nats, elementwise; log-sigmoids do not overflow."""
        size = noise.abs() / self.scale  # by the size, so that k(n) = k(−n) to the last digit
        return (
            nn.functional.logsigmoid(size) + nn.functional.logsigmoid(-size) - math.log(self.scale)
        )

    def entropy_per_dimension(self) -> float:
        """Returns log s + 2 nats."""
        return math.log(self.scale) + 2

    def posterior_mean(self, x_smooth: Tensor, log_prob: LogProb) -> Tensor:
        r"""Returns E[x | x̃], coordinate by coordinate with the others fixed.

        In one dimension, x̃ + ∫₀^∞ [p(x̃+t) − p(x̃−t)] / (e^(t/s) − 1) dt / p(x̃). The noise has
        the characteristic function φ(ω) = πsω / sinh πsω, and E[n | x̃] p(x̃) has the transform
        i (φ′/φ)(ω) p̂(ω) = i (1/ω − πs coth πsω) p̂(ω), whose factor belongs to the kernel
        sign(t) / (e^(|t|/s) − 1) (Raphan & Simoncelli 2011 give the method). A kernel without
        such a formula raises `NotAvailable` with a sentence that says why.

        Args:
            x_smooth: smoothed samples, (batch, *event).
            log_prob: the log-density of x̃ in nats.

        Returns:
            The posterior means, shape of `x_smooth`.
        """
        offsets, weights = panels(40 * self.scale, count=40)
        weights = weights / (offsets / self.scale).expm1()
        return x_smooth + antisymmetric_line_integral(x_smooth, log_prob, offsets, weights)
