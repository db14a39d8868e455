"""A user's own vectors from an .npy or .npz file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smoothctl.datasets.base import ArrayView, Dataset
from smoothctl.errors import DataError
from smoothctl.randomness import generator

__all__ = ["ArrayDataset", "looks_like_array_path"]

_SUFFIXES = (".npy", ".npz")
_HELD_OUT = 0.1


def looks_like_array_path(name: str) -> bool:
    """Returns whether a --dataset value means an array file rather than a registered name."""
    return name.lower().endswith(_SUFFIXES)


class ArrayDataset(Dataset):
    """Vectors from a file: .npy with shape (n, d) or (n,), or .npz with `train` and `test`.

    Where there is no test array, a seeded tenth of the rows is held out for testing; another
    tenth of the rest is always held out for validation. Integers and float16 become float32.

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
        arrays = _read(Path(path))
        if len(arrays) == 1:
            rest, test = _split(_vectors(path, *arrays.popitem()))
        elif {"train", "test"} <= arrays.keys():
            rest, test = (_vectors(path, key, arrays[key]) for key in ("train", "test"))
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
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"data": loaded}
            with loaded:
                return {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise DataError(f"{path} is no array file that can be read ({error}).") from error
    except Exception as error:  # zipfile and zlib raise their own kinds on damaged archives
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}).") from error


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
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype)).to(torch.get_default_dtype())


def _split(rows: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(rows), generator=generator("split", len(rows)))
    held_out = max(1, round(_HELD_OUT * len(rows)))
    return rows[order[held_out:]], rows[order[:held_out]]
