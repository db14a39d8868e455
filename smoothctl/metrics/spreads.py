"""The spreads of a dataset's columns, and whether one σ suits them all."""

import torch

from smoothctl.datasets.base import Dataset

__all__ = ["differ", "spreads"]

_MOST_ROWS = 2**16
_FACTOR = 3.0
"""How many times the least spread the greatest may be before columns are standardised."""


def spreads(dataset: Dataset) -> tuple[float, ...]:
    """Returns the standard deviation of each column of vectors, to four digits.

    A column that is constant in the training rows has the median of the others.
    """
    rows = dataset.train.head(min(_MOST_ROWS, len(dataset.train))).double()
    deviations = rows.std(0, correction=0)
    varied = deviations[deviations > 0]
    deviations = torch.where(deviations > 0, deviations, varied.median() if len(varied) else 1.0)
    return tuple(float(f"{value:.4g}") for value in deviations.tolist())


def differ(scale: tuple[float, ...]) -> bool:
    """Returns whether spreads differ so much that one σ in data units would not suit them all."""
    return max(scale) > _FACTOR * min(scale)
