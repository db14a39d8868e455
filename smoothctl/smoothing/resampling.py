"""One of many weighted candidates: sampling importance resampling (Rubin 1987)."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from smoothctl.rng import uniform

__all__ = ["Resampled", "resample"]


class Resampled(NamedTuple):
    """What was chosen for each row."""

    rows: Tensor
    """(batch, *event)"""
    effective: Tensor
    """(Σ w)² / Σ w²: how many candidates of equal weight would tell as much, (batch,)."""


def resample(
    candidates: Iterable[tuple[Tensor, Tensor]], generator: Generator | None = None
) -> Resampled:
    """Chooses one candidate for each row, with probability w / Σ w.

    They come one after another and only what is chosen is held. A weight that is no number counts
    nothing; where none counts, the first candidate is kept.

    Args:
        candidates: at least one; (batch, *event), and log w of each row, (batch,).
        generator: decides.
    """
    weighed = ((rows, _checked(weights)) for rows, weights in candidates)
    chosen, total = next(weighed)
    squares = 2 * total
    for rows, weights in weighed:
        total, squares = torch.logaddexp(total, weights), torch.logaddexp(squares, 2 * weights)
        share = (weights - total).exp()  # no number, and so never taken, where nothing counts yet
        taken = uniform(share.shape, share, generator) < share
        chosen = rows.where(taken.view(-1, *[1] * (rows.ndim - 1)), chosen)
    return Resampled(chosen, (2 * total - squares).exp().nan_to_num(1.0))


def _checked(log_weights: Tensor) -> Tensor:
    return log_weights.double().nan_to_num(-math.inf, math.inf, -math.inf)
