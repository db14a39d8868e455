"""A user's own vectors from an .npy, .npz or idx file."""

from pathlib import Path

import numpy as np
from torch import Tensor

from smoothctl.datasets.array_files import load, reason, stored
from smoothctl.datasets.rows import Rows, RowsDataset, check_file, checked, split
from smoothctl.errors import DataError

__all__ = ["ArrayDataset"]

_WANTED = ("train", "test")


class ArrayDataset(RowsDataset):
    """Vectors from a file: .npy or idx with shape (n, d) or (n,), or .npz with `train` and `test`.

    Where there is no test array, a seeded tenth of the rows is held out for testing; another
    tenth of the rest is always held out for validation. Other arrays beside train and test are
    ignored. Numbers of fewer than 64 bits become float32.

    Args:
        path: the file.

    Raises:
        DataError: missing, unreadable, not numeric, empty, of a wrong shape, or not finite.
    """

    summary = "vectors from an .npy, .npz or idx file"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        arrays = _read(Path(path))
        if len(arrays) == 1:
            rest, test = split(_vectors(path, *arrays.popitem()))
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
        self._show(rest, test)


def _read(path: Path) -> dict[str, np.ndarray]:
    check_file(path, "an array file")
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
            f"{where} must be numeric with shape (n, d) or (n,), one example a row, "
            f"not {array.dtype} {array.shape}."
        )
    return checked(Rows(where, array, range(len(array)), [*map(str, range(array.shape[1]))]))
