"""smoothctl's own suites for plugins, and what only these classes claim."""

import math
from typing import ClassVar

import pytest
import torch
from smoothctl_template.architecture import Mixture
from smoothctl_template.dataset import Banana
from smoothctl_template.kernel import Logistic

from smoothctl.testing import DatasetContract, DensityContract, KernelContract


class TestMixture(DensityContract):
    density_class = Mixture
    options: ClassVar = {"components": 3, "width": 8}


class TestLogistic(KernelContract):
    kernel_class = Logistic


class TestBanana(DatasetContract):
    dataset_class = Banana


def test_the_posterior_mean_is_that_of_quadrature() -> None:
    """E[x | x̃] by Bayes' rule on a grid of x, for x ~ N(0, 1)."""
    kernel = Logistic(0.5)
    x = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    x_smooth = torch.tensor([[-3.0], [0.4], [2.0]], dtype=torch.float64)

    def joint(points: torch.Tensor) -> torch.Tensor:
        return torch.exp(-(x**2) / 2 + kernel.log_density(points - x))  # (batch, grid)

    found = kernel.posterior_mean(x_smooth, lambda points: joint(points).sum(1).log())
    expected = (x * joint(x_smooth)).sum(1) / joint(x_smooth).sum(1)
    assert torch.allclose(found[:, 0], expected, atol=1e-6)


def test_the_banana_has_the_entropy_of_its_two_gaussians() -> None:
    exact = math.log(2 * math.pi * math.e) + math.log(Banana.noise)
    assert Banana().true_entropy() == pytest.approx(exact, abs=1e-6)
