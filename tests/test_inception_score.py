"""The Inception score: equal to the published formula, whatever the blocks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smoothctl.errors import DataError, UsageError
from smoothctl.metrics.inception_score import InceptionScore, SplitScore
from smoothctl.rng import generator


def probabilities(n: int, classes: int = 7) -> Tensor:
    logits = 2 * torch.randn(n, classes, generator=generator("classes", n, classes))
    return logits.double().softmax(1)


def score(p: Tensor, splits: int = 10, block: int = 1000) -> SplitScore:
    gathered = InceptionScore(len(p), splits)
    for rows in p.split(block):
        gathered.update(rows)
    return gathered.result()


def published(p: np.ndarray, splits: int) -> tuple[float, float]:
    """Salimans et al. 2016: exp(mean KL(p(y|x) ‖ p(y))) of consecutive splits."""
    scores = []
    for i in range(splits):
        part = p[i * len(p) // splits : (i + 1) * len(p) // splits]
        kl = part * (np.log(part) - np.log(part.mean(0, keepdims=True)))
        scores.append(np.exp(kl.sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(0, 90), st.integers(1, 40))
def test_equals_the_published_formula_for_any_blocks(splits: int, more: int, block: int) -> None:
    p = probabilities(splits + more)
    found = score(p, splits, block)
    expected = published(p.numpy(), splits)
    assert found[:2] == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert found.splits == splits


def test_reaches_the_number_of_classes() -> None:
    """Certain of every image, and all classes equally often."""
    certain = torch.eye(5).repeat(20, 1)
    assert score(certain)[:2] == pytest.approx((5, 0), abs=1e-12)


def test_is_one_where_every_image_looks_the_same() -> None:
    assert score(probabilities(1).repeat(30, 1))[:2] == pytest.approx((1, 0), abs=1e-12)


def test_does_not_see_the_reference_but_the_order() -> None:
    """The splits are consecutive: sorted images score 1, the same images mixed 2."""
    ordered = torch.eye(2).repeat_interleave(10, dim=0)
    assert score(ordered, splits=2).value == pytest.approx(1)
    assert score(torch.eye(2).repeat(10, 1), splits=2).value == pytest.approx(2)


def test_too_few_images_say_what_to_do() -> None:
    with pytest.raises(DataError, match="at least 10 images, not 7: draw more .* fewer splits"):
        InceptionScore(7)
    with pytest.raises(UsageError, match="at least one split"):
        InceptionScore(7, 0)


@pytest.mark.parametrize(
    "bad", [[0.5, 0.6], [1.5, -0.5], [math.nan, 1.0], [math.inf, -math.inf], [0.0, 0.0]]
)
def test_what_is_no_probability_is_refused_by_its_number(bad: list[float]) -> None:
    gathered = InceptionScore(10)
    gathered.update(torch.full((5, 2), 0.5))
    with pytest.raises(DataError, match="of image 7 are not probabilities"):
        gathered.update(torch.tensor([[0.5, 0.5], [1.0, 0.0], bad]))


def test_another_number_of_images_or_classes_is_refused() -> None:
    gathered = InceptionScore(10)
    gathered.update(probabilities(6))
    with pytest.raises(DataError, match="6 of 10 images came"):
        gathered.result()
    with pytest.raises(DataError, match="More than the 10"):
        gathered.update(probabilities(5))
    with pytest.raises(DataError, match=r"\(images, 7\), not \(4, 3\)"):
        gathered.update(probabilities(4, 3))
