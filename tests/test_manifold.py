"""Precision, recall, density, coverage: the published formulas, and what they are to notice."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import Tensor

from smoothctl.errors import DataError, UsageError
from smoothctl.metrics.manifold import ManifoldScores, manifold_scores
from smoothctl.rng import generator


def points(n: int, d: int = 3, key: str = "x") -> Tensor:
    return torch.randn(n, d, generator=generator(key, n, d), dtype=torch.float64)


def published(samples: np.ndarray, reference: np.ndarray, k: int) -> ManifoldScores:
    """The sums of Kynkäänniemi et al. 2019 and Naeem et al. 2020 as they stand in the papers."""

    def reach(z: np.ndarray) -> np.ndarray:
        return np.sort(cdist(z, z), axis=1)[:, k]  # the point itself comes first

    distances = cdist(reference, samples)  # x_i, y_j
    in_real = distances <= reach(reference)[:, None]
    in_fake = distances <= reach(samples)[None, :]
    return ManifoldScores(
        precision=in_real.any(0).mean(),
        recall=in_fake.any(1).mean(),
        density=in_real.sum() / (k * len(samples)),
        coverage=in_real.any(1).mean(),
        k=k,
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 60), st.integers(6, 60), st.integers(1, 5), st.floats(0, 2))
def test_equal_the_published_formulas(m: int, n: int, k: int, shift: float) -> None:
    samples, reference = points(m) + shift, points(n, key="y")
    found = manifold_scores(samples, reference, k)
    assert found == pytest.approx(published(samples.numpy(), reference.numpy(), k), abs=1e-12)


def test_blocks_do_not_change_them() -> None:
    samples, reference = points(50), points(40, key="y") + 0.5
    whole = manifold_scores(samples, reference)
    assert manifold_scores(samples, reference, entries=130) == whole


def test_identical_sets_are_perfect() -> None:
    x = points(200)
    assert manifold_scores(x, x)[:2] == (1, 1)
    assert manifold_scores(x, x).coverage == 1
    # A ball holds its centre and, but for ties, k others.
    assert manifold_scores(x, x, k=5).density == pytest.approx(6 / 5)


def test_of_equal_distributions_density_is_about_one() -> None:
    found = manifold_scores(points(1000), points(1000, key="y"))
    assert found.density == pytest.approx(1, abs=0.05)
    # Naeem et al. 2020: expected coverage is 1 − (1/2)^k for large sets of equal size.
    assert found.coverage == pytest.approx(1 - 0.5**5, abs=0.02)


def test_disjoint_sets_share_nothing() -> None:
    assert manifold_scores(points(50) + 100, points(60, key="y"))[:4] == (0, 0, 0, 0)


def two_modes(n: int, key: str, shares: tuple[int, int] = (1, 1)) -> Tensor:
    centres = torch.tensor([0.0] * shares[0] + [20.0] * shares[1]).repeat(n)[:n]
    return points(n, key=key) + centres[:, None]


def test_a_dropped_mode_lowers_recall_and_coverage_alone() -> None:
    reference = two_modes(400, "y")
    whole = manifold_scores(two_modes(400, "x"), reference)
    half = manifold_scores(two_modes(400, "x", (1, 0)), reference)
    assert half.recall < 0.6 < 0.8 < whole.recall
    assert half.coverage < 0.6 < 0.8 < whole.coverage
    assert half.precision == pytest.approx(whole.precision, abs=0.05)
    assert half.density == pytest.approx(whole.density, abs=0.15)


def test_samples_off_the_manifold_lower_precision_and_density() -> None:
    samples, reference = points(400), points(400, key="y")
    clean = manifold_scores(samples, reference)
    samples[::4] += 50
    found = manifold_scores(samples, reference)
    assert found.precision == pytest.approx(0.75 * clean.precision, abs=0.01)
    assert found.density == pytest.approx(0.75 * clean.density, rel=0.05)
    assert found.recall > 0.8


def test_an_outlier_fools_precision_but_not_density() -> None:
    """One reference point far off has a ball that reaches over everything."""
    reference = points(400, key="y")
    samples = points(400) + 6
    honest = manifold_scores(samples, reference)
    reference[0] = 40.0
    fooled = manifold_scores(samples, reference)
    assert honest.precision < 0.05
    assert fooled.precision == 1
    assert fooled.density < 0.3
    assert fooled.coverage < 0.05


def test_outlying_samples_fool_recall_but_not_coverage() -> None:
    samples, reference = points(400) + 6, points(400, key="y")
    samples[0] = -40.0
    found = manifold_scores(samples, reference)
    assert found.recall > 0.95
    assert found.coverage < 0.05


def test_copies_lie_in_balls_of_no_size() -> None:
    one = points(1, 50).float() + 1000
    for z in (one.repeat(20, 1), one.repeat(20, 1) + points(1, 50, "shift").float()):
        assert manifold_scores(z, z)[:2] == (1, 1)


def test_a_far_origin_changes_nothing() -> None:
    """|x|² + |y|² − 2x·y has no digits left out there, unless both are centred first."""
    samples, reference = points(50) + 1e7, points(40, key="y") + 1e7
    expected = published(samples.numpy(), reference.numpy(), 5)
    assert 0 < expected.recall < 1
    assert manifold_scores(samples, reference) == pytest.approx(expected, abs=1e-12)


def test_bad_input() -> None:
    x = points(10)
    with pytest.raises(DataError, match="not finite"):
        manifold_scores(x, torch.full_like(x, math.nan))
    with pytest.raises(DataError, match="one width"):
        manifold_scores(x, points(10, 4))
    with pytest.raises(DataError, match="more than 5 images in each set, not 10 and 5: draw"):
        manifold_scores(x, x[:5])
    with pytest.raises(UsageError, match="at least 1, not 0"):
        manifold_scores(x, x, 0)
