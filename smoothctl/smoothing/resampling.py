"""Completions chosen among weighted candidates: sampling importance resampling (Rubin 1987)."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density
from smoothctl.rng import uniform
from smoothctl.smoothing.batching import AT_ONCE, Execution, evaluate, inpaint, rows_that_fit

__all__ = ["Resampled", "completion_log_weight", "completions", "resample"]


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


def completion_log_weight(
    density: Density,
    x: Tensor,
    known: Tensor,
    context: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Does `Density.completion_log_weight` on as many rows at once as fit: (batch,)."""
    mask, rows = known.expand(len(x), *known.shape[1:]), rows_that_fit(density)
    with torch.no_grad():
        return evaluate(density.completion_log_weight, rows, x, mask, context, labels)


def completions(
    density: Density,
    x: Tensor,
    known: Tensor,
    candidates: int,
    labels: Tensor | None = None,
    generator: Generator | None = None,
    execution: Execution = AT_ONCE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields candidates for what is missing of x, and the log-weight of each row: for `resample`.

    The arguments are those of `batching.inpaint`, and how many candidates.
    """
    for number in range(candidates):
        part = execution.part(number, candidates)
        filled = inpaint(density, x, known, None, labels, generator, part)
        yield filled, completion_log_weight(density, filled, known, None, labels)


def _checked(log_weights: Tensor) -> Tensor:
    return log_weights.nan_to_num(-math.inf, math.inf, -math.inf)
