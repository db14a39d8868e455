"""One of many candidates is chosen in proportion to its weight, whatever the weights are."""

import math

import pytest
import torch
from torch import Tensor

from smoothctl.rng import generator
from smoothctl.smoothing.resampling import resample


def of(*log_weights: float, rows: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Returns candidates 0, 1, 2 … of these weights, the same in each row."""
    return [
        (torch.full((rows, 1, 2, 2), float(k)), torch.full((rows,), weight))
        for k, weight in enumerate(log_weights)
    ]


def test_it_chooses_in_proportion() -> None:
    weights = torch.tensor([0.5, 3.0, 1.5, 0.0, 5.0])
    chosen, effective = resample(of(*weights.log().tolist(), rows=40_000), generator("r"))
    assert (chosen == chosen[:, :1, :1, :1]).all(), "whole events are chosen"
    counts = chosen[:, 0, 0, 0].long().bincount(minlength=5) / len(chosen)
    assert counts.tolist() == pytest.approx((weights / 10).tolist(), abs=0.01)
    assert effective[0].item() == pytest.approx(100 / weights.square().sum().item())


@pytest.mark.parametrize("bad", [-math.inf, math.nan])
def test_what_counts_nothing_is_never_taken(bad: float) -> None:
    chosen, effective = resample(of(bad, 0.0, bad, rows=50), generator("r"))
    assert (chosen == 1).all()
    assert (effective == 1).all()


def test_the_first_is_kept_where_none_counts() -> None:
    chosen, effective = resample(of(-math.inf, math.nan), generator("r"))
    assert (chosen == 0).all()
    assert effective.tolist() == [1]


def test_weights_far_from_one_do_not_overflow() -> None:
    _, effective = resample(of(-1e4, -1e4, rows=3), generator("r"))
    assert effective.tolist() == pytest.approx([2, 2, 2], rel=0.01)
    _, effective = resample(of(1e4, 1e4 - 800, rows=3), generator("r"))
    assert effective.tolist() == pytest.approx([1, 1, 1], rel=0.01)
