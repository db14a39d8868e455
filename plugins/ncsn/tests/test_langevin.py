"""Langevin dynamics with exact scores."""

import pytest
import torch
from smoothctl_ncsn.langevin import Convention, ImageNoise, Known, langevin, vector_noise
from smoothctl_ncsn.levels import geometric
from torch import Tensor

from smoothctl.rng import generator

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[2.0, 1.2], [1.2, 1.0]], dtype=torch.float64)
LEVELS = geometric(6.0, 0.1, 9)


def score(x: Tensor, level: int) -> Tensor:
    precision = torch.linalg.inv(COVARIANCE + LEVELS[level] ** 2 * torch.eye(2).double())
    return -(x - MEAN) @ precision


def last(start: Tensor, step: float, known: Known | None, convention: Convention) -> Tensor:
    *_, x = langevin(
        score, start, LEVELS, 60, step, vector_noise(start, generator("noise")), convention, known
    )
    return x


@pytest.mark.parametrize(("convention", "step"), [("paper", 0.002), ("image-code", 0.001)])
def test_moments_of_a_gaussian(convention: Convention, step: float) -> None:
    """Both conventions give the smoothed data's mean and covariance."""
    x = last(torch.zeros(20_000, 2, dtype=torch.float64), step, None, convention)
    assert torch.allclose(x.mean(0), MEAN, atol=0.06)
    assert torch.allclose(x.T.cov(), COVARIANCE, rtol=0.12)


def test_conventions_differ_by_a_factor_of_two() -> None:
    start = torch.zeros(5, 2, dtype=torch.float64)
    paper = last(start, 0.002, None, "paper")
    assert torch.allclose(paper, last(start, 0.001, None, "image-code"))
    assert not torch.allclose(paper, last(start, 0.002, None, "image-code"))


def test_a_state_for_every_step() -> None:
    start = torch.zeros(5, 2, dtype=torch.float64)
    states = list(langevin(score, start, LEVELS, 3, 0.001, vector_noise(start, None)))
    assert len(states) == 3 * len(LEVELS)


def test_inpainting_conditions() -> None:
    """x₂ given x₁ of a correlated Gaussian: its conditional mean and variance; x₁ stays."""
    given = torch.zeros(20_000, 2, dtype=torch.float64)
    given[:, 0] = 2.5
    given[:, 1] = torch.nan
    known = Known(given, torch.tensor([True, False]), float(LEVELS[-1]))
    x = last(torch.zeros_like(given), 0.002, known, "paper")
    assert torch.equal(x[:, 0], given[:, 0])
    slope = COVARIANCE[0, 1] / COVARIANCE[0, 0]
    mean = MEAN[1] + slope * (2.5 - MEAN[0])
    variance = COVARIANCE[1, 1] - slope * COVARIANCE[0, 1]
    assert x[:, 1].mean().item() == pytest.approx(mean.item(), abs=0.06)
    assert x[:, 1].var().item() == pytest.approx(variance.item(), abs=0.06)


def test_known_coordinates_follow_the_level() -> None:
    """At a level above their own noise they get the difference of the variances."""
    x = torch.zeros(50_000, 2, dtype=torch.float64)
    known = Known(x, torch.tensor([True, False]), 0.3)
    (state,) = langevin(
        lambda x, _: -x,
        x,
        torch.tensor([0.5], dtype=torch.float64),
        1,
        0.01,
        vector_noise(x, generator("known")),
        known=known,
    )
    assert state[:, 0].std().item() == pytest.approx(0.4, rel=0.02)


def test_noise_of_an_image_does_not_depend_on_its_batch() -> None:
    """Whole or in parts, the i-th image of a source gets the same noise, call by call."""
    like = torch.zeros(5, 1, 2, 3)
    whole, source = ImageNoise(like, generator("images")), generator("images")
    parts = [ImageNoise(like[:2], source), ImageNoise(like[2:], source)]
    for _ in range(40):
        assert torch.equal(whole(), torch.cat([part() for part in parts]))


def test_noise_of_images_is_standard_normal() -> None:
    noise = ImageNoise(torch.zeros(50, 1, 8, 8, dtype=torch.float64), generator("normal"))
    draws = torch.stack([noise() for _ in range(20)])
    assert draws.mean().item() == pytest.approx(0, abs=0.02)
    assert draws.std().item() == pytest.approx(1, abs=0.02)
    assert len(draws.flatten().unique()) == draws.numel()
