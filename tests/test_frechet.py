"""The Fréchet distance, and the classifier whose features it is taken of."""

import inspect
import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothctl.datasets import open_dataset
from smoothctl.errors import DataError, NotAvailable
from smoothctl.metrics.classifier import fit_classifier
from smoothctl.metrics.frechet import frechet_between, frechet_distance, frechet_error
from smoothctl.metrics.moments import Moments
from smoothctl.rng import generator


def normals(n: int, d: int, key: str) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(key), dtype=torch.float64)


def by_matrix_root(x: torch.Tensor, y: torch.Tensor) -> float:
    """Heusel et al. 2017, eq. 6, by a general matrix square root."""
    a, b = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(a @ b).real
    shift = float((x.mean(0) - y.mean(0)).square().sum())
    return shift + float(a.trace() + b.trace() - 2 * root.trace())


@pytest.mark.parametrize(("n", "d"), [(100, 4), (400, 12)])
def test_the_error_is_the_spread_over_fresh_samples(n: int, d: int) -> None:
    """And that of a bootstrap, of distributions that differ in mean, scale and shape."""
    reference = Moments.of(normals(5000, d, "reference"))
    mix = torch.eye(d, dtype=torch.float64) + 0.3 * normals(d, d, "mix") / d**0.5
    sets = [normals(n, d, f"set {k}").tanh() @ mix + 0.5 for k in range(300)]
    distances = torch.tensor([frechet_between(Moments.of(x), reference) for x in sets])
    errors = [frechet_error(x, Moments.of(x), reference) or 0.0 for x in sets[:30]]
    assert np.median(errors) == pytest.approx(float(distances.std()), rel=0.3)
    again = [sets[0][torch.randint(n, (n,), generator=generator(k))] for k in range(300)]
    spread = torch.tensor([frechet_between(Moments.of(x), reference) for x in again]).std()
    assert errors[0] == pytest.approx(float(spread), rel=0.3)


def test_too_few_samples_have_no_error() -> None:
    x = normals(15, 8, "x")
    assert frechet_error(x, Moments.of(x), Moments.of(normals(50, 8, "y"))) is None


def test_equals_the_formula_with_a_matrix_square_root() -> None:
    x, y = normals(200, 6, "x"), normals(300, 6, "y") @ normals(6, 6, "a") + 0.5
    expected = by_matrix_root(x, y)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)
    assert frechet_between(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.skipif(
    "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters,
    reason="clean-fid calls scipy.linalg.sqrtm(disp=…), which SciPy 1.18 removed",
)
@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 40), (60, 500, 40), (130, 130, 64)])
def test_equals_clean_fid_s(n: int, m: int, d: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cleanfid import fid

        mix = normals(d, d, "mix")
        x, y = (normals(n, d, "x") @ mix).relu(), (normals(m, d, "y") @ mix).relu() * 1.1
        theirs = fid.fid_from_feats(x.numpy(), y.numpy())
    assert frechet_between(Moments.of(x), Moments.of(y)) == pytest.approx(theirs, rel=1e-6)
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(0, 2**20))
def test_of_a_linear_image_is_the_mean_squared_way(d: int, seed: int) -> None:
    """For A symmetric and positive, x ↦ Ax is the optimal transport: no matrix root is needed."""
    x, root = normals(30, d, f"x{seed}"), normals(d, d, f"a{seed}")
    a = root @ root.T
    y = x @ a + 2
    way = y - x
    expected = float(way.mean(0).square().sum() + way.var(0).sum())
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(10, 12, 40), (40, 12, 40), (10, 100, 40)])
def test_both_ways_agree_on_singular_covariances(n: int, m: int, d: int) -> None:
    """The nuclear norm is exact to rounding; eigenvalues that are rounding would cost 1e-6."""
    x, y = normals(n, d, "x"), 3 * normals(m, d, "y")
    between = frechet_between(Moments.of(x), Moments.of(y))
    norm = torch.linalg.matrix_norm((x - x.mean(0)) @ (y - y.mean(0)).T, "nuc")
    cross = norm / math.sqrt((n - 1) * (m - 1))
    expected = (x.mean(0) - y.mean(0)).square().sum() + x.var(0).sum() + y.var(0).sum() - 2 * cross
    assert between == pytest.approx(float(expected), rel=1e-10)
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-10)


def test_constant_features_add_nothing() -> None:
    x, y = normals(50, 3, "x"), 2 * normals(60, 3, "y")
    padded = [torch.cat([z, torch.full((len(z), 4), 7.0)], 1) for z in (x, y)]
    assert frechet_distance(*padded) == pytest.approx(frechet_distance(x, y), rel=1e-7)


def test_is_biased_upwards_for_few_examples() -> None:
    values = [frechet_distance(normals(n, 5, "x"), normals(n, 5, "y")) for n in (20, 200, 2000)]
    assert values == sorted(values, reverse=True)
    assert values[-1] > 0


def test_moments_that_do_not_go_together_are_refused() -> None:
    moments = Moments.of(normals(9, 3, "x"))
    with pytest.raises(DataError, match="width 3 cannot be compared with those of 4"):
        frechet_between(moments, Moments.of(normals(9, 4, "y")))
    with pytest.raises(DataError, match="at least two feature vectors, not 1"):
        frechet_between(moments, Moments.of(normals(1, 3, "y")))


def test_of_shifted_normals_is_the_squared_shift() -> None:
    x = normals(100_000, 2, "x")
    assert frechet_distance(x, x + torch.tensor([3.0, 4.0])) == pytest.approx(25, rel=1e-6)
    assert frechet_distance(x, 2 * x) == pytest.approx(2, rel=0.02)


def test_is_symmetric_and_zero_for_equal_sets() -> None:
    x, y = normals(50, 3, "x"), 2 * normals(50, 3, "y")
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


def test_more_features_than_examples() -> None:
    assert math.isfinite(frechet_distance(normals(10, 40, "x"), normals(12, 40, "y")))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.zeros(1, 2), torch.zeros(5, 2)),
        (torch.zeros(5, 2), torch.zeros(5, 3)),
        (torch.full((5, 2), math.nan), torch.zeros(5, 2)),
    ],
)
def test_bad_features_are_refused(x: torch.Tensor, y: torch.Tensor) -> None:
    with pytest.raises(DataError):
        frechet_distance(x, y)


@pytest.mark.slow
def test_the_classifier_reads_digits_and_repeats() -> None:
    dataset = open_dataset("digits")
    classifier, again = fit_classifier(dataset), fit_classifier(dataset)
    x, labels = dataset.test.head(), dataset.test.head_labels()
    assert (classifier(x).argmax(1) == labels).float().mean() > 0.95
    assert torch.equal(classifier.features(x), again.features(x))
    noise = torch.rand(300, 1, 8, 8, generator=generator("noise")) * 2 - 1
    test = classifier.features(x)
    near = frechet_distance(classifier.features(dataset.train.head(300)), test)
    assert frechet_distance(classifier.features(noise), test) > 10 * near
    assert classifier.confidence(x).mean() > classifier.confidence(noise).mean()


def test_vectors_have_no_classifier() -> None:
    with pytest.raises(NotAvailable, match="no labelled images"):
        fit_classifier(open_dataset("rings"))
