"""Arrays in .npy and .npz files: headers come first, so that a small file makes no large array."""

import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

__all__ = ["Stored", "check", "load", "reason", "stored"]

_NPY, _ZIP = b"\x93NUMPY", b"PK"
_HARMLESS = 2**28
_MOST_EXPANSION = 200
"""Archives are refused that hold more than 256 MiB and 200 times their own size."""


class Stored(NamedTuple):
    """One array of a file: its shape and type, and its bytes from the first value on."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_fortran_order: bool
    held: int
    """Bytes that there are of its values."""

    open: Callable[[], BinaryIO]


def stored(path: Path) -> dict[str, Stored]:
    """Reads the headers of an .npy or .npz file, and none of its values.

    Returns:
        The arrays by name; that of an .npy is called "data".

    Raises:
        Exception: whatever zipfile and NumPy raise for what is no such file.
    """
    with path.open("rb") as file:
        start = file.read(len(_NPY))
        size = file.seek(0, 2)
    if start == _NPY:
        return {"data": _array(lambda: path.open("rb"), size)}
    if not start.startswith(_ZIP):
        raise ValueError("it is neither .npy nor .npz; Python's pickles are never read")
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
    return {
        member.filename.removesuffix(".npy"): _array(_opener(path, member), member.file_size)
        for member in members
    }


def check(path: Path, arrays: Iterable[Stored]) -> None:
    """Checks that arrays can be read: numbers or text, complete, and not blown up.

    Raises:
        ValueError: they cannot; says why.
    """
    total = 0
    for array in arrays:
        if array.dtype.hasobject:
            raise ValueError("it holds Python objects, which are never read")
        size = math.prod(array.shape) * array.dtype.itemsize
        if size > array.held:
            raise ValueError(f"its header speaks of {size:,} bytes, and it holds {array.held:,}")
        total += size
    if total > max(_HARMLESS, _MOST_EXPANSION * path.stat().st_size):
        raise ValueError(f"it would unpack to {total:,} bytes: save it without compression")


def load(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns arrays of a file that `stored` names, after `check`; nothing in it can run code.

    Raises:
        Exception: as for `stored` and `check`.
    """
    arrays = stored(path)
    chosen = {name: arrays[name] for name in names}
    check(path, chosen.values())
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return dict.fromkeys(chosen, loaded)
    with loaded:
        return {name: loaded[name] for name in chosen}


def reason(error: Exception) -> str:
    """Returns what an error of reading an array file says, in a line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removesuffix(".")[:200]


def _opener(path: Path, member: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    return lambda: cast("BinaryIO", zipfile.ZipFile(path).open(member))


def _array(opened: Callable[[], BinaryIO], size: int) -> Stored:
    with opened() as file:
        shape, fortran, dtype = _header(file)
        held = size - file.tell()

    def at_the_values() -> BinaryIO:
        file = opened()
        _header(file)
        return file

    return Stored(shape, dtype, fortran and len(shape) > 1, held, at_the_values)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    return (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
