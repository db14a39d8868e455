"""Arrays in .npy, .npz and idx files: headers come first: a small file makes no large array."""

import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

__all__ = ["Stored", "check", "is_array_file", "is_idx_file", "load", "reason", "stored"]

_SUFFIXES = (".npy", ".npz")
_NPY, _ZIP, _GZIP = b"\x93NUMPY", b"PK", b"\x1f\x8b"
_IDX_NAME = re.compile(r".*[-._]idx\d-[a-z]+(\.gz)?", re.IGNORECASE)
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_BLOCK = 2**20
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
    """Reads the headers of an .npy, .npz or idx file (also gzipped), and keeps none of its values.

    Returns:
        The arrays by name; that of an .npy or idx file is called "data".

    Raises:
        Exception: whatever zipfile, gzip and NumPy raise for what is no such file.
    """
    if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
        raise ValueError("it is no plain file")
    with path.open("rb") as file:
        start = file.read(len(_NPY))
        size = file.seek(0, 2)
    if start == _NPY:
        return {"data": _array(lambda: path.open("rb"), size)}
    if start.startswith(_GZIP) or _is_idx(start):
        return {"data": _idx_array(path, size)}
    if not start.startswith(_ZIP):
        raise ValueError("it is neither .npy nor .npz nor idx; Python's pickles are never read")
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
    return {
        member.filename.removesuffix(".npy"): _array(_opener(path, member), member.file_size)
        for member in members
    }


def is_array_file(path: Path) -> bool:
    """Returns whether a file is of arrays by its name, or is an idx file by its first bytes."""
    return path.suffix.lower() in _SUFFIXES or is_idx_file(path)


def is_idx_file(path: Path) -> bool:
    """Returns whether a file is an idx file by its name (x-idx3-ubyte.gz) or its first bytes."""
    return bool(_IDX_NAME.fullmatch(path.name)) or _begins_as_idx(path)


def _begins_as_idx(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe would keep its reader waiting
            return False
        with _unpacked(path) as file:
            return _is_idx(file.read(4))
    except (OSError, EOFError, zlib.error):
        return False


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
    if total > _most(path.stat().st_size):
        raise ValueError(f"it would unpack to {total:,} bytes: save it without compression")


def load(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns arrays of a file that `stored` names, after `check`; nothing in it can run code.

    Their numbers are in this machine's byte order.

    Raises:
        Exception: as for `stored` and `check`.
    """
    arrays = stored(path)
    chosen = {name: arrays[name] for name in names}
    check(path, chosen.values())
    if _begins_as_idx(path):
        return {name: _native(_values(array)) for name, array in chosen.items()}
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return dict.fromkeys(chosen, _native(loaded))
    with loaded:
        return {name: _native(loaded[name]) for name in chosen}


def reason(error: Exception) -> str:
    """Returns what an error of reading an array file says, in a line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removesuffix(".")[:200]


def _most(size: int) -> int:
    """Returns how many bytes a file of so many may unpack to."""
    return max(_HARMLESS, _MOST_EXPANSION * size)


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


def _is_idx(start: bytes) -> bool:
    """Returns whether bytes begin as an idx file: two zeros, a type, at least one dimension."""
    return start[:2] == b"\0\0" and len(start) > 3 and start[2] in _IDX_TYPES and start[3] > 0


def _unpacked(path: Path) -> BinaryIO:
    """Opens a file, and what is in it where it is gzipped."""
    return cast("BinaryIO", gzip.open(path)) if _is_packed(path) else path.open("rb")


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def _idx_array(path: Path, size: int) -> Stored:
    with _unpacked(path) as file:
        shape, dtype = _idx_header(file)
        wanted, start = math.prod(shape) * dtype.itemsize, file.tell()
        held = _count(file, wanted, _most(size)) if _is_packed(path) else size - start

    def at_the_values() -> BinaryIO:
        file = _unpacked(path)
        file.seek(start)
        return file

    return Stored(shape, dtype, False, held, at_the_values)


def _idx_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    magic = file.read(4)
    if not _is_idx(magic):
        raise ValueError("what is packed in it is no idx file")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError("its header is cut off")
    return struct.unpack(f">{magic[3]}I", sizes), np.dtype(_IDX_TYPES[magic[2]])


def _count(file: BinaryIO, wanted: int, most: int) -> int:
    """Returns how many of the wanted bytes there are, keeping none; too many are not counted."""
    if wanted > most:
        return wanted
    held = 0
    while block := file.read(min(_BLOCK, wanted - held)):
        held += len(block)
    file.read(1)  # the checksum is compared at the end
    return held


def _values(array: Stored) -> np.ndarray:
    with array.open() as file:
        content = bytearray(file.read(math.prod(array.shape) * array.dtype.itemsize))
    return np.frombuffer(content, array.dtype).reshape(array.shape)


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)
