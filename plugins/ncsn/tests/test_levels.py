"""Noise levels and the rules that choose them."""

import math

import pytest
import torch
from smoothctl_ncsn.levels import (
    PUBLISHED_RATIO,
    geometric,
    largest_distance,
    level_count,
    ratio,
    step_size,
)


def test_levels_are_geometric_and_end_exactly() -> None:
    """The published ten levels from 1 to 0.01."""
    levels = geometric(1.0, 0.01, 10)
    assert levels[0] == 1.0
    assert levels[-1] == 0.01
    assert torch.allclose(levels[:-1] / levels[1:], torch.tensor(PUBLISHED_RATIO).double())


def test_one_level_is_the_last() -> None:
    assert geometric(5.0, 0.3, 1).tolist() == [0.3]


def test_largest_distance_is_that_of_the_farthest_pair() -> None:
    """Also across the parts that it is computed in."""
    x = torch.zeros(700, 1, 2, 2)
    x[3, 0, 0, 0], x[650, 0, 1, 1] = 3.0, -4.0
    assert largest_distance(x) == pytest.approx(5.0)


@pytest.mark.parametrize(("dims", "published"), [(3 * 32**2, 1.0376), (3 * 64**2, 1.0184)])
def test_ratio_is_near_the_published_ones(dims: int, published: float) -> None:
    """NCSNv2 took 232 levels from 50 for CIFAR-10 and 500 from 90 for CelebA."""
    assert ratio(dims) - 1 == pytest.approx(published - 1, rel=0.08)


def test_ratio_solves_its_equation() -> None:
    gamma, root = ratio(784), math.sqrt(2 * 784)
    normal = torch.distributions.Normal(0.0, 1.0)
    centre = torch.tensor(root * (gamma - 1))
    overlap = normal.cdf(centre + 3 * gamma) - normal.cdf(centre - 3 * gamma)
    assert overlap.item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("dims", [1, 2, 5, 20])
def test_ratio_is_capped_in_few_dimensions(dims: int) -> None:
    assert ratio(dims) == PUBLISHED_RATIO


def test_level_count_keeps_the_ratio() -> None:
    count = level_count(10.0, 0.02, 64)
    levels = geometric(10.0, 0.02, count)
    fewer = geometric(10.0, 0.02, count - 1)
    assert levels[0] / levels[1] <= ratio(64) + 1e-6 < fewer[0] / fewer[1]
    assert level_count(1.0, 0.01, 2) == 10
    assert level_count(0.3, 0.3, 2) == 1


def test_step_size_is_near_the_published_one() -> None:
    """NCSNv2 took ε = 6.2e-6 at σ_L = 0.01 and T = 5 for CIFAR-10."""
    assert step_size(geometric(50, 0.01, 232), 5) * 0.01**2 == pytest.approx(6.2e-6, rel=0.15)


@pytest.mark.parametrize("steps", [1, 5, 100])
def test_step_size_hands_over_the_right_variance(steps: int) -> None:
    """Simulated on a point mass: noise of σᵢ₋₁ becomes nearly noise of σᵢ within T steps."""
    levels = geometric(10.0, 0.1, 24)
    e = step_size(levels, steps)

    def variance_left(e: float) -> float:
        variance = float(levels[0] / levels[1]) ** 2
        for _ in range(steps):
            variance = (1 - e) ** 2 * variance + 2 * e
        return variance

    left = variance_left(e)
    assert 1 <= left < 1.35
    assert left <= min(variance_left(0.8 * e), variance_left(min(0.99, 1.25 * e))) + 1e-9
