"""The Fréchet distance, and the classifier whose features it is taken of."""

import math

import pytest
import torch

from smoothctl.datasets import open_dataset
from smoothctl.errors import DataError, NotAvailable
from smoothctl.metrics.classifier import fit_classifier
from smoothctl.metrics.frechet import frechet_distance
from smoothctl.randomness import generator


def normals(n: int, d: int, key: str) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(key), dtype=torch.float64)


def test_equals_the_formula_with_a_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    x, y = normals(200, 6, "x"), normals(300, 6, "y") @ normals(6, 6, "a") + 0.5
    covariances = [z.T.cov().numpy() for z in (x, y)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = (x.mean(0) - y.mean(0)).square().sum().item()
    expected += covariances[0].trace() + covariances[1].trace() - 2 * root.trace()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)


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


def test_the_classifier_reads_digits_and_repeats() -> None:
    dataset = open_dataset("digits")
    judge, again = fit_classifier(dataset), fit_classifier(dataset)
    x, labels = dataset.test.head(), dataset.test.head_labels()
    assert (judge(x).argmax(1) == labels).float().mean() > 0.95
    assert torch.equal(judge.features(x), again.features(x))
    noise = torch.rand(300, 1, 8, 8, generator=generator("noise")) * 2 - 1
    test = judge.features(x)
    near = frechet_distance(judge.features(dataset.train.head(300)), test)
    assert frechet_distance(judge.features(noise), test) > 10 * near
    assert judge.confidence(x).mean() > judge.confidence(noise).mean()


def test_vectors_have_no_classifier() -> None:
    with pytest.raises(NotAvailable, match="no labelled images"):
        fit_classifier(open_dataset("rings"))
