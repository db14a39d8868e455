"""Images of a source decoded into files of bytes, one at a time; what is too large is refused."""

import hashlib
import json
import math
import os
import shutil
import warnings
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from smoothctl.datasets.base import LARGEST_EVENT
from smoothctl.datasets.checked_rows import BlockDigests
from smoothctl.datasets.image_sources import Item, Source
from smoothctl.datasets.pixels import arrange, arranged, open_image, to_array
from smoothctl.errors import DataError
from smoothctl.storage.files import sha256_of

__all__ = ["Decoding", "decode"]

_MOST_CLASSES = 2**16


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


def decode(source: Source, settings: Decoding, folder: Path) -> dict[str, Any]:
    """Writes the images of each split to NAME.images, their classes and files beside these.

    NAME.labels has the classes, int64; NAME.files the files, each a line of JSON.

    Args:
        source: where they come from.
        settings: what is done to each.
        folder: an empty one; memory does not grow with the number of images.

    Returns:
        What an index says of the files: the number of classes, the SHA-256 over all, and of each
        split its shape, its SHA-256, those of its blocks, and how many images were left out.

    Raises:
        DataError: an image cannot be decoded, they differ in size, there are none, or they are
            larger than an event or than the disk.
        OSError: the folder cannot be written.
    """
    from PIL.Image import DecompressionBombWarning

    decoder = _Decoder(source, settings, folder, 3 if settings.grey is False else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DecompressionBombWarning)
        try:
            entries = decoder.splits()
        except _ColourFound:
            decoder = _Decoder(source, settings, folder, 3)
            entries = decoder.splits()
    labelled = all(entry["labels"] for entry in entries.values()) and decoder.highest >= 0
    content = json.dumps([[e["shape"], e["sha256"], bool(e["labels"])] for e in entries.values()])
    return {
        "classes": max(source.classes or 0, decoder.highest + 1) if labelled else None,
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "splits": entries,
    }


class _ColourFound(Exception):
    """Images taken for grey are not all grey."""


@dataclass
class _Decoder:
    """Writes splits whose images have one size and so many channels."""

    source: Source
    settings: Decoding
    folder: Path
    channels: int
    first: tuple[tuple[int, ...], str] | None = None
    highest: int = -1

    def splits(self) -> dict[str, dict[str, Any]]:
        """Writes all splits, and returns what an index says of each."""
        return {name: self._split(name, items) for name, items in self.source.splits().items()}

    def _split(self, name: str, items: Iterable[Item]) -> dict[str, Any]:
        digest, blocks, count, skipped = hashlib.sha256(), BlockDigests(), 0, 0
        labels, named = array("q"), False
        names = self.folder / f"{name}.files"
        with _synced(self.folder / f"{name}.images") as file, _synced(names) as lines:
            for item in items:
                pixels = self._pixels(item)
                if pixels is None:
                    skipped += 1
                    continue
                file.write(pixels)
                digest.update(pixels)
                blocks.update(pixels)
                count += 1
                if item.label is not None and item.label >= 0:  # below it are those without one
                    labels.append(_checked_label(item.label, item.where))
                if item.file is not None:
                    lines.write(json.dumps(item.file).encode() + b"\n")
                    named = True
        if self.first is None or not count:
            raise DataError(f"The split {name} holds no image that can be decoded.")
        entry = {"shape": [count, *self.first[0]], "skipped": skipped, "labels": None}
        entry["files"] = sha256_of(names) if named else None
        if len(labels) == count:
            self.highest = max(self.highest, *labels)
            content = _little_endian(labels)
            digest.update(content)
            entry["labels"] = hashlib.sha256(content).hexdigest()
            with _synced(self.folder / f"{name}.labels") as file:
                file.write(content)
        return {**entry, "sha256": digest.hexdigest(), "blocks": blocks.hexdigests()}

    def _pixels(self, item: Item) -> bytes | None:
        """Returns one image's bytes; None where it is corrupt and may be left out."""
        crop, size, where = self.settings.crop, self.settings.size, item.where

        def check(found: tuple[int, int]) -> None:
            width, height = arranged(found, crop, size, where)
            _check_event((1, height, width), where)

        try:
            image = open_image(item.content, check)
        except (MemoryError, DataError):
            raise
        except Exception as error:  # Pillow raises nearly every kind on damaged files
            if self.settings.skip_corrupt:
                return None
            raise DataError(
                f"{where} cannot be decoded ({_reason(error)}): repair or remove it, "
                "or leave such images out with `skip_corrupt`."
            ) from error
        if self.channels == 1 and image.mode == "RGB" and self.settings.grey is None:
            raise _ColourFound
        image = arrange(image, crop, size, where)
        pixels = to_array(image, self.channels)
        if self.first is None:
            _check_event(pixels.shape, where)
            self._check_room(pixels.nbytes)
            self.first = pixels.shape, where
        if pixels.shape != self.first[0]:
            (_, height, width), other = self.first
            raise DataError(
                f"Images differ in size: {other} is {width}×{height} and {where} is "
                f"{image.width}×{image.height}; make them equal with `data.size=32`, for instance."
            )
        return pixels.tobytes()

    def _check_room(self, size: int) -> None:
        """Checks that as many images of so many bytes as there are fit on the disk."""
        needed, free = (self.source.count or 0) * size, shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"The decoded images of {self.source.name} take {_mebibytes(needed)}, and "
                f"{self.folder.parent} has {_mebibytes(free)} left: free space there, set "
                "$SMOOTHCTL_CACHE to a folder with more, or make them smaller with `data.size=32`."
            )


def _check_event(shape: tuple[int, ...], where: str) -> None:
    channels, height, width = shape
    if math.prod(shape) > LARGEST_EVENT:
        raise DataError(
            f"{where} would be {width}×{height} pixels in {channels} "
            f"channel{'' if channels == 1 else 's'}: there may be {LARGEST_EVENT:,} values, so "
            "make images smaller with `data.size=32`, for instance."
        )


def _checked_label(label: int, where: str) -> int:
    if label >= _MOST_CLASSES:
        raise DataError(f"{where} is of class {label}: number classes below {_MOST_CLASSES:,}.")
    return label


def _little_endian(numbers: "array[int]") -> bytes:
    import numpy as np

    return np.asarray(numbers).astype("<i8").tobytes()


def _mebibytes(size: int) -> str:
    return f"{math.ceil(size / 2**20):,} MiB"


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
