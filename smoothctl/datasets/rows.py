"""Rows of numbers in a user's file: what is checked, how they are split, the dataset of them."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smoothctl.datasets.base import ArrayView, Dataset
from smoothctl.errors import DataError
from smoothctl.rng import generator

__all__ = ["Rows", "RowsDataset", "check_file", "checked", "counted", "listed", "split"]

_FEWEST = 20
_HELD_OUT = 0.1
_LARGEST = 1e15
_FINEST = 1e-5
"""The least spread of a column that varies, relative to its mean."""


class Rows(NamedTuple):
    """Numbers of shape (n, d), and what messages call them."""

    where: str
    values: np.ndarray
    numbers: Sequence[int]
    """The number of each row, counted as `unit` says."""

    columns: Sequence[str]
    """The name of each column."""

    unit: str = "row"
    missing: str = "NaN"
    """What a value that is not a number is called."""


class RowsDataset(Dataset):
    """Vectors, one a row of a user's file: a subclass reads it and calls `_show`.

    Args:
        path: the file.
    """

    source = "the user"
    licence = "the user's"

    def __init__(self, path: str) -> None:
        self.name = path
        self._path = Path(path)

    def _show(self, rest: Tensor, test: Tensor) -> None:
        """Makes the views: a tenth of what is not the test is for validation."""
        train, validation = split(rest)
        self.event_shape = tuple(train.shape[1:])
        self._views = tuple(map(ArrayView, (train, validation, test)))

    @property
    def slug(self) -> str:
        """The file's name without its ending."""
        return self._path.stem

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the file."""
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def train(self) -> ArrayView:
        """The rows to fit."""
        return self._views[0]

    @property
    def validation(self) -> ArrayView:
        """A tenth of the rows, held out while fitting."""
        return self._views[1]

    @property
    def test(self) -> ArrayView:
        """The rows to score."""
        return self._views[2]


def check_file(path: Path, what: str) -> None:
    """Checks that there is a plain file.

    Raises:
        DataError: a folder, a pipe or nothing.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not {what}.")
    if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
        raise DataError(f"{path} is no plain file, so it is not {what}.")
    if not path.exists():
        raise DataError(f"There is no file {path}.")


def checked(rows: Rows) -> Tensor:
    """Returns rows as a tensor of shape (n, d): float32, or float64 where they have 64 bits.

    Raises:
        DataError: too few, not finite, or beyond what float32 resolves.
    """
    if len(rows.values) < _FEWEST:
        raise DataError(
            f"{rows.where} has {counted(len(rows.values), 'row')}; at least {_FEWEST} are needed."
        )
    _check_finite(rows)
    _check_range(rows, rows.values.astype(np.float64))
    dtype = np.float64 if rows.values.dtype.itemsize >= 8 else np.float32
    return torch.from_numpy(np.ascontiguousarray(rows.values, dtype=dtype))


def split(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns nine tenths of the rows and a seeded tenth: (n, d) -> (n − k, d), (k, d)."""
    order = torch.randperm(len(rows), generator=generator("split", len(rows)))
    held_out = max(1, round(_HELD_OUT * len(rows)))
    return rows[order[held_out:]], rows[order[:held_out]]


def listed(noun: str, items: Iterable[object], most: int = 5) -> str:
    """Returns "row 7" or "rows 7, 8, …"."""
    first = list(map(str, islice(items, most + 1)))
    more = ", …" if len(first) > most else ""
    return f"{noun}{'s' if len(first) > 1 else ''} {', '.join(first[:most])}{more}"


def counted(number: int, noun: str) -> str:
    """Returns "1 row" or "7 rows"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_finite(rows: Rows) -> None:
    bad = ~np.isfinite(rows.values)
    where, columns = np.flatnonzero(bad.any(axis=1)), np.flatnonzero(bad.any(axis=0))
    if len(where):
        numbers = listed(rows.unit, (rows.numbers[row] for row in where.tolist()))
        names = listed("column", (rows.columns[column] for column in columns.tolist()))
        raise DataError(
            f"{rows.where} has {counted(len(where), 'row')} with {rows.missing} or infinite values "
            f"({numbers}; {names}): remove or repair {'it' if len(where) == 1 else 'them'}."
        )


def _check_range(rows: Rows, values: np.ndarray) -> None:
    """Refuses what float32 cannot tell apart or cannot square."""
    row, column = divmod(int(np.abs(values).argmax()), values.shape[1])
    if abs(values[row, column]) > _LARGEST:
        raise DataError(
            f"{rows.where} has values up to {abs(values[row, column]):.3g} "
            f"({rows.unit} {rows.numbers[row]}; column {rows.columns[column]}): "
            f"rescale them below {_LARGEST:g}."
        )
    spread, centre = values.std(axis=0), np.abs(values.mean(axis=0))
    for column in np.flatnonzero((spread > 0) & (spread < _FINEST * centre)).tolist():
        raise DataError(
            f"Column {rows.columns[column]} of {rows.where} varies by {spread[column]:.3g} around "
            f"{centre[column]:.3g}, which float32 cannot resolve: subtract a constant first."
        )
