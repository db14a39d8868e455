"""Empirical-Bayes estimators against quadrature on the two-Gaussian mixture."""

import math

import pytest
import torch
from torch import Tensor

from smoothctl import kernels
from smoothctl.datasets.gaussians import TwoGaussians
from smoothctl.errors import NotAvailable
from smoothctl.kernels.base import Kernel
from smoothctl.smoothing.two_step import TwoStep

SIGMA = 0.3
NAMES = ["gaussian", "laplace", "uniform"]


class Smoothed:
    """Density and posterior mean of x̃ = x + n by brute-force quadrature over x."""

    def __init__(self, kernel: Kernel, points: int = 20_001) -> None:
        self.x = torch.linspace(-1.5, 1.5, points, dtype=torch.float64)
        self.weight = TwoGaussians().true_log_prob(self.x[:, None]).exp() * (self.x[1] - self.x[0])
        self.kernel = kernel

    def _joint(self, x_smooth: Tensor) -> Tensor:
        return self.weight * self.kernel.log_density(x_smooth - self.x).exp()

    def log_prob(self, x_smooth: Tensor) -> Tensor:
        return torch.cat([self._joint(rows).sum(1).log() for rows in x_smooth.split(256)])

    def posterior_mean(self, x_smooth: Tensor) -> Tensor:
        joint = self._joint(x_smooth)
        return (joint @ self.x / joint.sum(1))[:, None]


def _exact_log_prob(name: str, sigma: float) -> object:
    """Closed-form smoothed density of two-gaussians, (n, 1) -> (n,)."""
    centres = torch.tensor([-0.3, 0.3], dtype=torch.float64)

    def gaussian(y: Tensor) -> Tensor:
        return torch.distributions.Normal(centres, math.hypot(0.1, sigma)).log_prob(y)

    def uniform(y: Tensor) -> Tensor:
        a = sigma * math.sqrt(3)
        normal = torch.special.ndtr
        mass = normal((y + a - centres) / 0.1) - normal((y - a - centres) / 0.1)
        return mass.clamp_min(1e-300).log() - math.log(2 * a)

    def laplace(y: Tensor) -> Tensor:
        b, s = sigma / math.sqrt(2), 0.1
        z = y - centres
        right = s**2 / (2 * b**2) - z / b + torch.special.log_ndtr(z / s - s / b)
        left = s**2 / (2 * b**2) + z / b + torch.special.log_ndtr(-z / s - s / b)
        return torch.logaddexp(right, left) - math.log(2 * b)

    chosen = {"gaussian": gaussian, "uniform": uniform, "laplace": laplace}[name]
    return lambda y: chosen(y).logsumexp(1) - math.log(2)


@pytest.mark.parametrize("name", NAMES)
def test_posterior_mean_equals_quadrature(name: str) -> None:
    kernel = kernels.load(name)(SIGMA)
    y = torch.linspace(-0.8, 0.8, 41, dtype=torch.float64)[:, None]
    estimate = kernel.posterior_mean(y, _exact_log_prob(name, SIGMA))
    truth = Smoothed(kernel).posterior_mean(y)
    tolerance = {"gaussian": 1e-6, "laplace": 1e-6, "uniform": 2e-3}[name]
    assert (estimate - truth).abs().max() < tolerance


@pytest.mark.slow
def test_uniform_error_is_the_references_edge_effect() -> None:
    """The brute-force reference has O(spacing) errors at the window's edges; refining helps."""
    kernel = kernels.load("uniform")(SIGMA)
    y = torch.linspace(-0.8, 0.8, 41, dtype=torch.float64)[:, None]
    estimate = kernel.posterior_mean(y, _exact_log_prob("uniform", SIGMA))
    coarse, fine = (Smoothed(kernel, n).posterior_mean(y) for n in (20_001, 2_000_001))
    assert (estimate - fine).abs().max() < 0.02 * (estimate - coarse).abs().max()
    assert (estimate - fine).abs().max() < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_posterior_mean_of_independent_coordinates(name: str) -> None:
    """In two independent dimensions each coordinate has its one-dimensional estimate."""
    kernel = kernels.load(name)(SIGMA)
    one = _exact_log_prob(name, SIGMA)
    y = torch.linspace(-0.7, 0.7, 11, dtype=torch.float64)
    both = torch.stack([y, y.flip(0) * 0.5], dim=1)
    estimate = kernel.posterior_mean(both, lambda z: one(z[:, :1]) + one(z[:, 1:]))
    first, second = (kernel.posterior_mean(both[:, i : i + 1], one) for i in (0, 1))
    assert torch.allclose(estimate, torch.cat([first, second], dim=1), atol=1e-9)


def test_gaussian_posterior_mean_is_tweedies_on_a_gaussian() -> None:
    """For x ~ N(0, 1): E[x|x̃] = x̃ / (1 + σ²) (ARDS eq. 2)."""
    kernel = kernels.load("gaussian")(0.5)
    y = torch.tensor([[-1.0], [0.3], [2.0]])
    prior = torch.distributions.Normal(0.0, math.sqrt(1.25))
    estimate = kernel.posterior_mean(y, lambda z: prior.log_prob(z).sum(1))
    assert torch.allclose(estimate, y / 1.25)


def test_uniform_single_step_with_a_fitted_prior_says_why_not(trained_run) -> None:
    method = TwoStep(kernels.load("uniform")(SIGMA), trained_run.density("prior"))
    with pytest.raises(NotAvailable, match="not available for Uniform.*learned density"):
        method.single_step(torch.zeros(2, 2))
