"""Mixtures of logistics: stable tails, exact masses, closed-form draws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smoothctl.architectures.base import to_grid
from smoothctl.architectures.mixtures import (
    Mixture,
    bin_log_mass,
    log_scale_of,
    logistic_log_density,
)
from smoothctl.rng import generator

finite = st.floats(-50, 50)
log_scales = st.floats(-12, 5)


def _t(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


@given(finite, finite, log_scales)
def test_log_density_is_finite_everywhere(x: float, mean: float, log_scale: float) -> None:
    assert math.isfinite(logistic_log_density(*_t(x, mean, log_scale)).item())


@given(finite, log_scales)
def test_log_density_is_symmetric(distance: float, log_scale: float) -> None:
    left, right = (logistic_log_density(*_t(s * distance, 0.0, log_scale)) for s in (-1, 1))
    assert torch.isclose(left, right)


@given(st.floats(-3, 3), log_scales)
def test_masses_of_all_bins_sum_to_one(mean: float, log_scale: float) -> None:
    grid = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_mass = bin_log_mass(grid, *_t(mean, log_scale), 256)
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-9)


@given(st.floats(-3, 3), st.floats(-7, 2))
def test_masses_are_finite_in_float32(mean: float, log_scale: float) -> None:
    grid = torch.arange(256) / 127.5 - 1
    assert bin_log_mass(grid, torch.tensor(mean), torch.tensor(log_scale), 256).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_scale", [-7.0, 0.0, 5.6, 5.7, 12.0, 80.0, 227.0])
def test_masses_and_gradients_are_finite_for_any_scale(
    log_scale: float, dtype: torch.dtype
) -> None:
    """A network's log-scales may run away in its first steps, and must come back."""
    grid = torch.arange(256, dtype=dtype) / 127.5 - 1
    parameters = torch.tensor([0.1, log_scale], dtype=dtype, requires_grad=True)
    log_mass = bin_log_mass(grid, *parameters, 256)
    log_mass.sum().backward()
    assert log_mass.isfinite().all()
    assert parameters.grad is not None
    assert parameters.grad.isfinite().all()
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-5)
    if log_scale > 10:  # inner bins get 2/255 of the density at 0, which is e^(−log s)/4
        inner = math.log(2 / 255) - log_scale - math.log(4)
        assert log_mass[1:-1].tolist() == pytest.approx([inner] * 254, abs=1e-3)


def test_fine_bins_approach_the_density() -> None:
    """The ratio of mass and bin width is the density as the number of levels grows."""
    x, mean, log_scale = _t(0.25, 0.1, -1.0)
    levels = 2**16 + 1
    mass = bin_log_mass(to_grid(x, levels), mean, log_scale, levels)
    density = logistic_log_density(to_grid(x, levels), mean, log_scale)
    assert (mass - math.log(2 / (levels - 1))).item() == pytest.approx(density.item(), abs=1e-6)


def test_log_scale_of_a_standard_deviation() -> None:
    draws = Mixture(*(torch.zeros(200_000, 1) + v for v in (0.0, 0.0, log_scale_of(2.0))))
    assert draws.sample(generator(0)).std().item() == pytest.approx(2.0, rel=0.02)


def test_draws_follow_the_mixture() -> None:
    """The empirical distribution function is the mixture's, within the Kolmogorov bound."""
    logits, means, scales = torch.tensor([0.2, -1.0, 1.0]), torch.tensor([-2.0, 0.0, 1.5]), -1.0
    n = 50_000
    mixture = Mixture(logits.expand(n, 3), means.expand(n, 3), torch.full((n, 3), scales))
    x = mixture.sample(generator(1)).sort().values
    cdf = (logits.softmax(0) * torch.sigmoid((x[:, None] - means) / math.exp(scales))).sum(1)
    assert (cdf - (torch.arange(n) + 0.5) / n).abs().max() < 1.95 / math.sqrt(n)


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_quantile_is_monotone_in_the_value(u: float, v: float) -> None:
    mixture = Mixture(*(torch.tensor([p]) for p in ([0.0, 1.0], [0.0, 3.0], [-1.0, 0.0])))
    low, high = sorted([u, v])
    one = torch.tensor([0.4])
    assert mixture.quantile(one, torch.tensor([low])) <= mixture.quantile(one, torch.tensor([high]))
