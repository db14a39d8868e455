"""What a sweep goes over: grids, draws, and words that are none of these."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothctl.errors import UsageError
from smoothctl.sweeps.space import Choice, Range, combinations, draw, parse_axis


def test_values_and_ranges() -> None:
    assert parse_axis("kernel=gaussian,laplace") == Choice("kernel", ("gaussian", "laplace"))
    assert parse_axis("batch-size=64,128") == Choice("batch_size", (64, 128))
    assert parse_axis("sigma=0.05..1") == Range("sigma", 0.05, 1, False)
    assert parse_axis("mixtures=2..8") == Range("mixtures", 2, 8, True)
    assert parse_axis("training.ema=0,0.99").values == (0, 0.99)


@pytest.mark.parametrize(
    "text",
    ["sigma", "=1", "sigma=", "sigma=1..1", "sigma=2..1", "sigma=1,1", "sigma=1,,2", "out=a,b",
     "dataset=rings,digits", "data.size=8,16", "sigma=0..1e999", "sigma=1,1.0,1"],
)  # fmt: skip
def test_what_is_no_axis(text: str) -> None:
    with pytest.raises(UsageError):
        parse_axis(text)


def test_a_range_that_is_positive_goes_by_equal_factors() -> None:
    assert parse_axis("sigma=0.01..1").grid(3) == [0.01, 0.1, 1.0]
    assert parse_axis("dropout=0..0.5").grid(3) == [0.0, 0.25, 0.5]
    assert parse_axis("mixtures=1..3").grid(7) == [1, 2, 3]


@given(st.floats(1e-6, 1e3), st.floats(1.0001, 1e6), st.floats(0, 1), st.booleans())
def test_what_a_range_gives_is_within_it(
    low: float, factor: float, share: float, whole: bool
) -> None:
    low = max(1, round(low)) if whole else low
    high = low + max(1, round(low * factor)) if whole else low * factor
    axis = Range("sigma", low, high, whole)
    value = axis.at(share)
    assert axis.holds(value)
    assert json.loads(json.dumps(value)) == value


def test_combinations_are_all_and_each_once() -> None:
    axes = [parse_axis("sigma=0.1..1"), parse_axis("kernel=gaussian,laplace")]
    found = list(combinations(axes, 3))
    assert len(found) == len({tuple(each.values()) for each in found}) == 6
    assert found[:2] == [{"sigma": 0.1, "kernel": kernel} for kernel in ("gaussian", "laplace")]


def test_draws_are_the_same_whoever_draws_and_spread_over_the_range() -> None:
    axes = [parse_axis("sigma=0.01..1"), parse_axis("kernel=gaussian,laplace")]
    drawn = [draw(axes, 0, number) for number in range(200)]
    assert drawn == [draw(axes, 0, number) for number in range(200)]
    assert drawn != [draw(axes, 1, number) for number in range(200)]
    below = sum(each["sigma"] < 0.1 for each in drawn)  # half of it, on a logarithmic scale
    assert 70 < below < 130
    assert 70 < sum(each["kernel"] == "laplace" for each in drawn) < 130


def test_one_is_not_true() -> None:
    assert not Choice("flag", (1, 2)).holds(True)
    assert not Range("mixtures", 1, 3, True).holds(True)
    assert not Range("mixtures", 1, 3, True).holds(1.5)
