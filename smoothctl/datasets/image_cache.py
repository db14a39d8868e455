"""Images decoded once into memory-mapped bytes in the user's cache."""

import hashlib
import json
import os
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from smoothctl.datasets.base import Note
from smoothctl.datasets.image_sources import Item, Source
from smoothctl.datasets.pixels import arrange, open_image, to_array
from smoothctl.errors import DataError, RunError
from smoothctl.storage.files import remove, write_json

__all__ = ["Decoded", "Decoding", "Part", "cache_folder", "decoded"]

_FORMAT = 1
_INDEX = "index.json"
_ABANDONED = 24 * 3600


class Decoding(Protocol):
    """The settings that change the pixels."""

    @property
    def size(self) -> int | None:
        """Side that images are resized to."""

    @property
    def crop(self) -> int | None:
        """Side of the centred square that is cut out first."""

    @property
    def grey(self) -> bool | None:
        """Whether to make images grey; None: as they are."""

    @property
    def skip_corrupt(self) -> bool:
        """Whether to leave out what cannot be decoded."""


@dataclass(frozen=True)
class Part:
    """One split: its images, uint8 (n, C, H, W), and their classes, int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Decoded:
    """All splits, the number of classes, and the SHA-256 over all pixels and labels."""

    parts: dict[str, Part]
    classes: int | None
    sha256: str
    skipped: int = 0


def cache_folder() -> Path:
    """Returns $SMOOTHCTL_CACHE, else $XDG_CACHE_HOME/smoothctl, else ~/.cache/smoothctl."""
    own, shared = os.environ.get("SMOOTHCTL_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "smoothctl"


def decoded(source: Source, settings: Decoding, note: Note) -> Decoded:
    """Returns a source's images from the cache, decoding them first where they are not there.

    Several processes may ask at once: each decodes for itself, and the first to finish gives
    the others its files.

    Args:
        source: where the images come from.
        settings: what is done to each.
        note: told when decoding begins, and of images that were left out.

    Raises:
        DataError: an image cannot be decoded, their sizes differ, there are too few, or the
            cache cannot be written.
    """
    folder = cache_folder() / "images" / _key(source, settings)
    cache = _read(folder)
    if cache is None:
        note(f"Decodes the images of {source.name} into {folder}, once.")
        with _made(folder) as beside:
            _Writer(beside, settings).write(source)
        cache = _read(folder)
        if cache is None:
            raise DataError(f"The decoded images in {folder} were removed meanwhile: try again.")
    if cache.skipped:
        total = cache.skipped + sum(len(part.images) for part in cache.parts.values())
        note(f"Leaves out {cache.skipped} of {total} images of {source.name}: they are corrupt.")
    return cache


def _key(source: Source, settings: Decoding) -> str:
    chosen = [settings.size or None, settings.crop or None, settings.grey, settings.skip_corrupt]
    text = json.dumps([_FORMAT, source.key, *chosen])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(folder: Path) -> Decoded | None:
    """Returns what a folder holds; None where it is missing or damaged."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        parts = {name: _part(folder, name, entry) for name, entry in index["splits"].items()}
        skipped = sum(entry["skipped"] for entry in index["splits"].values())
        return Decoded(parts, index["classes"], index["sha256"], skipped)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _part(folder: Path, name: str, entry: dict[str, Any]) -> Part:
    images = _mapped(folder / f"{name}.images", np.dtype(np.uint8), tuple(entry["shape"]))
    if not entry["labels"]:
        return Part(images)
    labels = _mapped(folder / f"{name}.labels", np.dtype("<i8"), (len(images),))
    return Part(images, np.array(labels))


def _mapped(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    if file.stat().st_size != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{file} is truncated")
    return np.memmap(file, dtype, "r", shape=shape)


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
            "free space there, or set $SMOOTHCTL_CACHE to another folder."
        ) from error
    finally:
        with suppress(RunError):
            remove(beside)


def _rename(beside: Path, folder: Path) -> None:
    if folder.exists() and _read(folder) is None:
        remove(folder)
    try:
        beside.rename(folder)
    except OSError:
        if _read(folder) is None:
            raise


def _remove_abandoned(folder: Path) -> None:
    """Removes what processes that were killed a day ago or earlier left half-written."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError, RunError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                remove(path)


class _ColourFound(Exception):
    """Images taken for grey are not all grey."""


@dataclass
class _Writer:
    """Writes the splits of a source one image at a time: memory does not grow with their number."""

    folder: Path
    settings: Decoding
    channels: int = 1
    first: tuple[tuple[int, ...], str] | None = None
    highest: int = -1

    def write(self, source: Source) -> None:
        """Writes all splits and the index; grey ones with one channel."""
        if self.settings.grey is False:
            self.channels = 3
        with warnings.catch_warnings():
            from PIL.Image import DecompressionBombWarning

            warnings.simplefilter("ignore")
            warnings.simplefilter("error", DecompressionBombWarning)
            try:
                entries = self._splits(source)
            except _ColourFound:
                self.channels, self.first = 3, None
                entries = self._splits(source)
        labelled = all(entry["labels"] for entry in entries.values()) and self.highest >= 0
        content = json.dumps([[e["shape"], e["sha256"], e["labels"]] for e in entries.values()])
        index = {
            "format": _FORMAT,
            "name": source.name,
            "classes": max(source.classes or 0, self.highest + 1) if labelled else None,
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
            "splits": entries,
        }
        write_json(self.folder / _INDEX, index)

    def _splits(self, source: Source) -> dict[str, dict[str, Any]]:
        return {name: self._split(name, items) for name, items in source.splits().items()}

    def _split(self, name: str, items: Iterable[Item]) -> dict[str, Any]:
        digest, skipped = hashlib.sha256(), 0
        labels: list[int] = []
        labelled = True
        with _synced(self.folder / f"{name}.images") as file:
            for item in items:
                pixels = self._pixels(item)
                if pixels is None:
                    skipped += 1
                    continue
                file.write(pixels)
                digest.update(pixels)
                labels.append(-1 if item.label is None else item.label)
                labelled = labelled and item.label is not None
        if self.first is None or not labels:
            raise DataError(f"The split {name} holds no image that can be decoded.")
        if labelled:
            content = np.array(labels, dtype="<i8").tobytes()
            digest.update(content)
            self.highest = max(self.highest, max(labels))
            with _synced(self.folder / f"{name}.labels") as file:
                file.write(content)
        return {
            "shape": [len(labels), *self.first[0]],
            "skipped": skipped,
            "labels": labelled,
            "sha256": digest.hexdigest(),
        }

    def _pixels(self, item: Item) -> bytes | None:
        """Returns one image's bytes; None where it is corrupt and may be left out."""
        try:
            image = open_image(item.content)
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises nearly every kind on damaged files
            if self.settings.skip_corrupt:
                return None
            raise DataError(
                f"{item.where} cannot be decoded ({_reason(error)}): repair or remove it, "
                "or leave such images out with `skip_corrupt`."
            ) from error
        if self.channels == 1 and image.mode == "RGB" and self.settings.grey is None:
            raise _ColourFound
        image = arrange(image, self.settings.crop, self.settings.size, item.where)
        pixels = to_array(image, self.channels)
        self.first = self.first or (pixels.shape, item.where)
        if pixels.shape != self.first[0]:
            (_, height, width), where = self.first
            raise DataError(
                f"Images differ in size: {where} is {width}×{height} and {item.where} is "
                f"{image.width}×{image.height}; make them equal with `data.size=32`, for instance."
            )
        return pixels.tobytes()


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200].rstrip('.')}" if lines else repr(error)


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to write that is on the disk when it is closed."""
    with path.open("wb", buffering=2**20) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
