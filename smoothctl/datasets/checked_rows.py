"""Rows of bytes in a file that are read when they are needed, in blocks of known SHA-256."""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from smoothctl.errors import DataError

__all__ = ["BlockDigests", "CheckedRows"]

_BLOCK = 2**20
"""Bytes of a block, in whole rows: part of the format of what is kept."""


class BlockDigests:
    """The SHA-256 of each block of rows that are being written."""

    def __init__(self) -> None:
        self._rows = 0
        self._digests = [hashlib.sha256()]

    def update(self, row: bytes) -> None:
        """Takes the next row, which has as many bytes as those before."""
        if self._rows == _rows_of_block(len(row)):
            self._digests.append(hashlib.sha256())
            self._rows = 0
        self._digests[-1].update(row)
        self._rows += 1

    def hexdigests(self) -> list[str]:
        """Returns the digest of each block."""
        return [digest.hexdigest() for digest in self._digests]


class CheckedRows:
    """Bytes (n, *shape) that are mapped from a file; each block is checked when first read.

    Args:
        file: of all rows, one after the other.
        shape: (n, *shape).
        digests: the SHA-256 of each block, as `BlockDigests` gives them.
        restore: replaces a file that is damaged or gone, by the same bytes or not.

    Raises:
        ValueError: the file or the digests are of another length.
        OSError: the file cannot be read.
    """

    def __init__(
        self,
        file: Path,
        shape: Sequence[int],
        digests: Sequence[str],
        restore: Callable[[], None],
    ) -> None:
        self.shape = tuple(shape)
        self._file, self._digests, self._restore = file, digests, restore
        self._block = _rows_of_block(math.prod(self.shape[1:]))
        if len(digests) != math.ceil(self.shape[0] / self._block):
            raise ValueError(f"{file} has another number of blocks")
        self._stored = self._mapped()
        self._unread = np.ones(len(digests), dtype=bool)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Returns rows, uint8 (k, *shape): a view of the file for a slice, else a copy.

        Raises:
            DataError: they are damaged, and cannot be had again.
        """
        if self._unread.any():
            numbers = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
            blocks = np.unique(numbers // self._block)
            while self._unread[blocks].any():  # a file that was replaced is read anew
                for block in blocks[self._unread[blocks]].tolist():
                    self._check(block)
        return self._stored[rows]

    def _check(self, block: int) -> None:
        if not self._is_whole(block) and not self._is_whole_now(block):
            self._restore()
            if not self._is_whole_now(block):
                raise DataError(
                    f"{self._file} was damaged, and is not what it was since it was made again: "
                    "run the same command again."
                )
        self._unread[block] = False

    def _is_whole_now(self, block: int) -> bool:
        """Opens the file again, which may have been replaced; returns whether a block is whole."""
        try:
            self._stored = self._mapped()
        except (OSError, ValueError):
            return False
        self._unread[:] = True
        return self._is_whole(block)

    def _is_whole(self, block: int) -> bool:
        start = block * self._block
        content = self._stored[start : start + self._block]
        return hashlib.sha256(content.data).hexdigest() == self._digests[block]

    def _mapped(self) -> np.ndarray:
        if not self._file.is_file() or self._file.stat().st_size != math.prod(self.shape):
            raise ValueError(f"{self._file} has another length")
        return np.asarray(np.memmap(self._file, np.uint8, "r", shape=self.shape))


def _rows_of_block(size: int) -> int:
    """Returns how many rows of so many bytes make a block."""
    return max(1, _BLOCK // size)
