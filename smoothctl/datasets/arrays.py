"""A user's own vectors from an .npy or .npz file."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smoothctl.datasets.array_files import load, reason, stored
from smoothctl.datasets.base import ArrayView, Dataset
from smoothctl.errors import DataError
from smoothctl.randomness import generator

__all__ = ["ArrayDataset"]

_WANTED = ("train", "test")
_HELD_OUT = 0.1
_LARGEST = 1e15
_FINEST = 1e-5
"""The least spread of a column that varies, relative to its mean."""


class ArrayDataset(Dataset):
    """Vectors from a file: .npy with shape (n, d) or (n,), or .npz with `train` and `test`.

    Where there is no test array, a seeded tenth of the rows is held out for testing; another
    tenth of the rest is always held out for validation. Other arrays beside train and test are
    ignored. Numbers of fewer than 64 bits become float32.

    Args:
        path: the file.

    Raises:
        DataError: missing, unreadable, not numeric, empty, of a wrong shape, or not finite.
    """

    summary = "vectors from an .npy or .npz file"
    source = "the user"
    licence = "the user's"

    def __init__(self, path: str) -> None:
        self.name = path
        self._path = Path(path)
        arrays = _read(Path(path))
        if len(arrays) == 1:
            rest, test = _split(_vectors(path, *arrays.popitem()))
        elif set(_WANTED) <= arrays.keys():
            rest, test = (_vectors(path, key, arrays[key]) for key in _WANTED)
        else:
            keys = ", ".join(sorted(arrays)) or "nothing"
            raise DataError(
                f"{path} must hold one array, or two called train and test; it holds {keys}."
            )
        if rest.shape[1:] != test.shape[1:]:
            raise DataError(
                f"In {path}, train has {rest.shape[1]} columns and test has {test.shape[1]}."
            )
        train, validation = _split(rest)
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


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.is_dir():
        raise DataError(f"{path} is a folder, not an array file.")
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        names = list(stored(path))
        return load(path, _WANTED if set(_WANTED) <= set(names) else names)
    except (ValueError, OSError, EOFError, KeyError) as error:
        said = reason(error)
        raise DataError(f"{path} is no array file that can be read: {said}.") from error
    except Exception as error:  # zipfile and zlib raise their own kinds on damaged archives
        raise DataError(f"{path} is damaged ({type(error).__name__}: {reason(error)}).") from error


def _vectors(path: str, key: str, array: np.ndarray) -> Tensor:
    where = path if key == "data" else f"{path} [{key}]"
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "fiu" or array.shape[1] == 0:
        raise DataError(
            f"{where} must be numeric with shape (n, d) or (n,), not {array.dtype} {array.shape}."
        )
    if len(array) < 20:
        raise DataError(f"{where} has {len(array)} rows; at least 20 are needed.")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        rows = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        raise DataError(
            f"{where} has {len(bad)} rows with NaN or infinite values (rows {rows}): "
            "remove or repair them."
        )
    _check_range(where, array.astype(np.float64))
    dtype = np.float64 if array.dtype.itemsize >= 8 else np.float32
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))


def _check_range(where: str, array: np.ndarray) -> None:
    """Refuses what float32 cannot tell apart or cannot square."""
    largest = np.abs(array).max()
    if largest > _LARGEST:
        raise DataError(f"{where} has values up to {largest:.3g}: rescale them below {_LARGEST:g}.")
    spread, centre = array.std(axis=0), np.abs(array.mean(axis=0))
    for column in np.flatnonzero((spread > 0) & (spread < _FINEST * centre)):
        raise DataError(
            f"Column {column} of {where} varies by {spread[column]:.3g} around "
            f"{centre[column]:.3g}, which float32 cannot resolve: subtract a constant first."
        )


def _split(rows: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(rows), generator=generator("split", len(rows)))
    held_out = max(1, round(_HELD_OUT * len(rows)))
    return rows[order[held_out:]], rows[order[:held_out]]
