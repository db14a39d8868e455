"""Images decoded once into memory-mapped bytes in the user's cache, and checked when read."""

import errno
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smoothctl.datasets.base import Note
from smoothctl.datasets.checked_rows import CheckedRows
from smoothctl.datasets.image_decoding import Decoding, decode
from smoothctl.datasets.image_sources import Source
from smoothctl.errors import DataError, RunError
from smoothctl.storage.cache import cache_folder
from smoothctl.storage.files import read_json, remove, sha256_of, write_json

__all__ = ["Decoded", "Part", "decoded"]

_FORMAT = 3
_INDEX = "index.json"
_LARGEST_INDEX = 2**26
_ABANDONED = 24 * 3600
_REMEDY = "set $SMOOTHCTL_CACHE to a folder of your own"


@dataclass(frozen=True)
class Part:
    """One split: its images, uint8 (n, C, H, W), and their classes, int64 (n,).

    Images that came from files of their own have these, a line of JSON each, in `listed`.
    """

    images: np.ndarray | CheckedRows
    labels: np.ndarray | None = None
    listed: Path | None = None

    def files(self, rows: Sequence[int]) -> list[str] | None:
        """Returns the files of some images, below the folder that they came from; None without.

        Raises:
            DataError: their list was damaged meanwhile.
        """
        if self.listed is None:
            return None
        try:
            lines = self.listed.read_bytes().splitlines()
            return [json.loads(lines[row]) for row in rows]
        except (OSError, ValueError, IndexError) as error:
            raise DataError(f"{self.listed} is damaged: run the same command again.") from error


@dataclass(frozen=True)
class Decoded:
    """All splits, the number of classes, and the SHA-256 over all pixels and labels."""

    parts: dict[str, Part]
    classes: int | None
    sha256: str
    skipped: int = 0


def decoded(opened: Callable[[], Source], settings: Decoding, note: Note) -> Decoded:
    """Returns a source's images from the cache, decoding them first where they are not there.

    Several processes may ask at once: each decodes for itself, and the first to finish gives
    the others its files. Pixels that turn out to be damaged when they are read are decoded again.

    Args:
        opened: returns where the images come from; called again for images that are damaged.
        settings: what is done to each.
        note: told when decoding begins, and of images that were left out.

    Raises:
        DataError: an image cannot be decoded, their sizes differ, there are too few, they do not
            fit, or the cache cannot be read or written.
    """
    source = opened()
    folder = cache_folder() / "images" / _key(source, settings)

    def restore() -> None:
        again = opened()
        if _key(again, settings) != folder.name:
            raise DataError(
                f"The images of {again.name} have changed while they were in use: run the same "
                "command again."
            )
        _check_ours(folder)
        remove(folder)
        _make(folder, again, settings, note, damaged=True)

    cache = _read(folder, restore)
    if cache is None:
        _check_ours(folder)
        _make(folder, source, settings, note, damaged=folder.exists())
        cache = _read(folder, restore)
        if cache is None:
            raise DataError(f"The decoded images in {folder} were removed meanwhile: try again.")
    if cache.skipped:
        total = cache.skipped + sum(len(part.images) for part in cache.parts.values())
        note(f"Leaves out {cache.skipped} of {total} images of {source.name}: they are corrupt.")
    return cache


def _key(source: Source, settings: Decoding) -> str:
    chosen = [settings.size or None, settings.crop or None, settings.grey, settings.skip_corrupt]
    return _sha256([_FORMAT, source.key, *chosen])[:32]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _make(folder: Path, source: Source, settings: Decoding, note: Note, damaged: bool) -> None:
    """Decodes the images of a source into a folder, in the place of what is damaged there."""
    again = ", again, as what is there is damaged" if damaged else ", once"
    note(f"Decodes the images of {source.name} into {folder}{again}.")
    with _made(folder) as beside:
        index = {"format": _FORMAT, **decode(source, settings, beside)}
        write_json(beside / _INDEX, {**index, "check": _sha256(index)})


def _read(folder: Path, restore: Callable[[], None] = lambda: None) -> Decoded | None:
    """Returns what a folder holds; None where it is missing or damaged.

    Raises:
        DataError: it is another user's, who lets nobody else read it.
    """
    _check_readable(folder)
    try:
        index = read_json(folder / _INDEX, _LARGEST_INDEX)
        if index.pop("check") != _sha256(index):
            return None
        splits = index["splits"].items()
        parts = {name: _part(folder, name, entry, restore) for name, entry in splits}
        skipped = sum(entry["skipped"] for _, entry in splits)
        return Decoded(parts, index["classes"], index["sha256"], skipped)
    except (RunError, OSError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _part(folder: Path, name: str, entry: dict[str, Any], restore: Callable[[], None]) -> Part:
    images = CheckedRows(folder / f"{name}.images", entry["shape"], entry["blocks"], restore)
    labels = _checked(folder / f"{name}.labels", entry["labels"])
    files = _checked(folder / f"{name}.files", entry["files"])
    return Part(images, None if labels is None else _read_labels(labels, len(images)), files)


def _read_labels(file: Path, n: int) -> np.ndarray:
    if file.stat().st_size != 8 * n:
        raise ValueError(f"{file} has another length")
    return np.fromfile(file, "<i8").astype(np.int64)


def _checked(file: Path, digest: str | None) -> Path | None:
    """Returns a file that has its digest; None where there is no digest."""
    if digest is None:
        return None
    if not file.is_file() or sha256_of(file) != digest:
        raise ValueError(f"{file} is damaged")
    return file


def _check_readable(folder: Path) -> None:
    """Checks that this user may read what another one may have made."""
    try:
        for path in folder.iterdir():
            if path.exists() and not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DataError(
            f"The decoded images in {folder} cannot be read ({error.strerror}): let their owner "
            f"make them readable (chmod -R a+rX), or {_REMEDY}."
        ) from error


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """Yields a hidden sibling to fill, which becomes `folder` unless another was quicker."""
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        _remove_abandoned(folder.parent)
        beside.mkdir(parents=True)
        yield beside
        _rename(beside, folder)
    except (OSError, RunError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"Cannot keep decoded images in {folder.parent} ({str(reason).rstrip('.')}): "
            f"free space there, let its owner make it writable for you, or {_REMEDY}."
        ) from error
    finally:
        with suppress(RunError):
            remove(beside)


def _rename(beside: Path, folder: Path) -> None:
    if _read(folder) is None:
        remove(folder)
    try:
        beside.rename(folder)
    except OSError:
        if _read(folder) is None:
            raise


def _check_ours(folder: Path) -> None:
    """Checks that what is to be replaced is not another user's."""
    if os.path.lexists(folder) and not _is_ours(folder):
        raise DataError(
            f"The decoded images in {folder} are damaged: let their owner remove them, or "
            f"{_REMEDY}."
        )


def _remove_abandoned(folder: Path) -> None:
    """Removes what this user's processes, killed a day ago or earlier, left half-written."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError, RunError):
            written = max(each.stat().st_mtime for each in (path, *path.iterdir()))
            if _is_ours(path) and time.time() - written > _ABANDONED:
                remove(path)


def _is_ours(path: Path) -> bool:
    return path.lstat().st_uid == os.getuid()
