"""Streamed moments: equal to NumPy's, whatever the blocks and however far the mean."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smoothctl.errors import DataError
from smoothctl.metrics.moments import Moments
from smoothctl.rng import generator


def features(n: int, d: int = 3, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=generator("moments", n, d), dtype=torch.float64) + shift


def streamed(x: Tensor, *ends: int) -> Moments:
    moments = Moments()
    for block in x.tensor_split(ends):
        moments.update(block)
    return moments


def check_equal(moments: Moments, x: Tensor, **tolerance: float) -> None:
    assert (moments.count, moments.width) == tuple(x.shape)
    np.testing.assert_allclose(moments.mean, x.mean(0), **tolerance)
    np.testing.assert_allclose(moments.covariance, np.cov(x.T), **tolerance)


@settings(deadline=None)
@given(st.integers(2, 40), st.lists(st.integers(0, 40), max_size=5))
def test_equal_numpy_s_for_any_blocks(n: int, ends: list[int]) -> None:
    x = features(n)
    check_equal(streamed(x, *sorted(ends)), x, rtol=1e-10, atol=1e-12)


def test_a_far_mean_costs_no_digits() -> None:
    """A sum of squares would lose all sixteen digits here; the deviations keep eight."""
    x = features(1000, shift=1e8)
    exact = np.cov((x - 1e8).T)
    np.testing.assert_allclose(streamed(x, 300, 301, 700).covariance, exact, rtol=1e-6, atol=1e-7)


def test_single_precision_is_summed_in_double() -> None:
    x = features(5000, 2, shift=100.0).float()
    check_equal(streamed(x, 64, 999), x.double(), rtol=1e-12, atol=1e-12)


def test_tensors_recreate_them() -> None:
    moments = Moments.of(features(9))
    again = Moments.from_tensors(moments.tensors())
    again.update(features(4))
    check_equal(again, torch.cat([features(9), features(4)]), rtol=1e-12)
    check_equal(moments, features(9), rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"count": torch.tensor([1, 2])},
        {"count": torch.tensor(-1)},
        {"count": torch.tensor(math.nan)},
        {"mean": torch.zeros(4, dtype=torch.float64)},
        {"mean": torch.tensor(0.0, dtype=torch.float64)},
        {"scatter": torch.zeros(3, 3)},
        {"scatter": torch.full((3, 3), math.inf, dtype=torch.float64)},
    ],
)
def test_damaged_tensors_are_refused(change: dict[str, Tensor]) -> None:
    with pytest.raises(DataError, match="not the stored moments"):
        Moments.from_tensors(Moments.of(features(9)).tensors() | change)


def test_missing_tensors_are_refused() -> None:
    with pytest.raises(DataError, match="not the stored moments"):
        Moments.from_tensors({"count": torch.tensor(3)})


def test_the_first_image_that_is_not_finite_is_named() -> None:
    moments = Moments.of(features(10))
    bad = features(10)
    bad[7, 1], bad[9, 0] = math.nan, math.inf
    with pytest.raises(DataError, match="features of image 17 are not finite"):
        moments.update(bad)
    check_equal(moments, features(10), rtol=1e-12)


@pytest.mark.parametrize("block", [torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64)])
def test_what_is_no_matrix_of_features_is_refused(block: Tensor) -> None:
    with pytest.raises(DataError, match=r"real numbers \(n, d\)"):
        Moments().update(block)


def test_another_width_is_refused() -> None:
    moments = Moments.of(features(9))
    with pytest.raises(DataError, match="width 4 do not go with those of 3"):
        moments.update(features(9, 4))


def test_one_vector_has_no_covariance() -> None:
    with pytest.raises(DataError, match="at least two feature vectors, not 1"):
        _ = Moments.of(features(1)).covariance
