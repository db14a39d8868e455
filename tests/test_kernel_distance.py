"""The kernel distance: equal to clean-fid's, unbiased, seeded on its own."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from smoothctl.errors import DataError, UsageError
from smoothctl.metrics.kernel_distance import kernel_distance
from smoothctl.rng import generator


def features(n: int, d: int = 8, shift: float = 0.0, key: str = "x") -> Tensor:
    return torch.randn(n, d, generator=generator(key, n, d), dtype=torch.float64) + shift


def written_out(x: Tensor, y: Tensor) -> float:
    """Bińkowski et al. 2018, pair by pair, without subsets."""

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    within = [
        sum(kernel(a, b) for a, b in itertools.permutations(z, 2)) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    between = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return sum(within) - 2 * between


@pytest.mark.parametrize(
    ("seed", "n", "m"), [(0, 150, 120), (7, 150, 120), (1, 50, 120), (2, 90, 50)]
)
def test_equals_clean_fid_s(seed: int, n: int, m: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cleanfid import fid
    x, y = features(n, 20), features(m, 20, 0.2, "y")
    np.random.seed(seed)
    theirs = fid.kernel_distance(x.numpy(), y.numpy(), num_subsets=30, max_subset_size=50)
    ours = kernel_distance(x, y, seed, subsets=30, subset_size=50)
    assert ours.value == pytest.approx(theirs, rel=1e-6)


def test_equals_the_definition() -> None:
    x, y = features(9), features(9, shift=0.5, key="y")
    found = kernel_distance(x, y, subsets=1)
    assert found.value == pytest.approx(written_out(x, y), rel=1e-10)
    assert found[2:] == (1, 9)


def test_is_unbiased() -> None:
    values = [
        kernel_distance(features(40, key=f"x{i}"), features(50, key=f"y{i}"), subsets=2).value
        for i in range(60)
    ]
    error = np.std(values) / math.sqrt(len(values))
    assert np.mean(values) == pytest.approx(0, abs=4 * error)
    assert min(values) < 0 < max(values)


def test_its_seed_alone_chooses_the_subsets() -> None:
    x, y = features(60), features(60, key="y")
    state = np.random.get_state()[1].copy()
    first, again, other = (kernel_distance(x, y, seed, 5, 20) for seed in (1, 1, 2))
    assert first == again != other
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.slow
def test_the_standard_error_is_that_of_the_mean_over_subsets() -> None:
    """A hundred repeats of the mean over 25 subsets scatter as much as it says."""
    x, y = features(400), features(400, shift=0.3, key="y")
    repeats = [kernel_distance(x, y, seed, 25, 20) for seed in range(100)]
    scatter = np.std([each.value for each in repeats], ddof=1)
    assert np.mean([each.standard_error for each in repeats]) == pytest.approx(scatter, rel=0.25)


@pytest.mark.parametrize(("n", "m", "known"), [(20, 20, False), (20, 30, True), (30, 30, True)])
def test_subsets_that_are_the_whole_have_no_standard_error(n: int, m: int, known: bool) -> None:
    found = kernel_distance(features(n), features(m, key="y"), subsets=4, subset_size=20)
    assert math.isfinite(found.standard_error) == known


def test_single_precision_is_computed_in_double() -> None:
    """Around a far mean the kernels are equal to seven digits: single precision leaves noise."""
    x, y = features(100, shift=30.0).float(), features(100, shift=30.0, key="y").float()
    assert kernel_distance(x, y).value == kernel_distance(x.double(), y.double()).value


def test_bad_input() -> None:
    x = features(10)
    with pytest.raises(DataError, match="not finite"):
        kernel_distance(x, torch.full_like(x, math.nan))
    with pytest.raises(DataError, match="at least two"):
        kernel_distance(x, x[:1])
    with pytest.raises(UsageError, match="at least one subset"):
        kernel_distance(x, x, subsets=0)
    with pytest.raises(UsageError, match="not 3 of 1"):
        kernel_distance(x, x, subsets=3, subset_size=1)
