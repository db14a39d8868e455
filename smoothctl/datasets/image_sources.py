"""Where images come from: folders of image files and arrays; each gives its splits as items."""

import hashlib
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smoothctl.datasets.array_files import Stored, check, load, reason, stored
from smoothctl.datasets.pixels import Content
from smoothctl.errors import DataError

__all__ = [
    "ArraySource",
    "FolderSource",
    "Item",
    "NamedArray",
    "Source",
    "damage_named",
    "files_key",
    "holds_images",
    "holds_numbers",
    "image_files",
    "split_of",
]

_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".jp2"),
)
_SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
_ARRAYS = {"train": ("train", "x_train"), "test": ("test", "x_test")}
_LABELS = {
    "train": ("y_train", "train_labels"),
    "test": ("y_test", "test_labels"),
    "whole": ("labels", "y", "y_train", "train_labels"),
}

_LARGEST = 2**28
"""Bytes of one image: as many as Pillow decodes from a file."""


class Item(NamedTuple):
    """One stored image."""

    where: str
    """What a message calls it."""

    content: Content

    label: int | None
    """Its class; None where there are none."""

    file: str | None = None
    """Its own file, below the source's folder; None where it has none."""


class Source(ABC):
    """Splits of stored images.

    Args:
        name: what messages call it.
    """

    classes: int | None = None
    """Number of classes where the source says so; known once `splits` was called."""

    count: int | None = None
    """Number of images where it is known before they are read, once `splits` was called."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def key(self) -> str:
        """Changes when the images do."""

    @abstractmethod
    def splits(self) -> dict[str, Iterable[Item]]:
        """Returns "train", "validation" and "test", as far as there are, or one of any name."""


def files_key(files: Iterable[Path], root: Path) -> str:
    """Returns a hash of the files' names below `root`, sizes and times of change.

    Raises:
        DataError: a file has vanished.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}.") from error
        digest.update(f"{os.path.relpath(file, root)}\0{status.st_size}\0".encode(errors="replace"))
        digest.update(f"{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def split_of(name: str) -> str | None:
    """Returns the split that a name speaks of: "train-00000-of-00001" is of train."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def image_files(files: Iterable[Path]) -> list[Path]:
    """Returns those of the files that are images by their names, sorted."""
    return sorted(file for file in files if file.name.lower().endswith(_SUFFIXES))


class FolderSource(Source):
    """A folder of image files, at any depth.

    Sub-folders called train, test and (optionally) validation are the splits. Where every image
    lies in one of several further sub-folders, these are the classes.

    Args:
        folder: the folder.
        files: its image files, as `image_files` gives them.
    """

    def __init__(self, folder: Path, files: list[Path]) -> None:
        super().__init__(str(folder))
        self._folder = folder
        self._files = files

    @property
    def key(self) -> str:
        """Changes with the files' names, sizes and times."""
        return files_key(self._files, self._folder)

    def splits(self) -> dict[str, Iterable[Item]]:
        """Returns the splits, each sorted by path."""
        roots = self._roots()
        inside = {
            split: [file for file in self._files if file.is_relative_to(root)]
            for split, root in roots.items()
        }
        below = [file.relative_to(roots[s]).parts for s, files in inside.items() for file in files]
        names = sorted({parts[0] for parts in below})
        named = len(names) > 1 and all(len(parts) > 1 for parts in below)
        classes = {name: number for number, name in enumerate(names)} if named else {}
        self.classes = len(classes) or None
        self.count = sum(map(len, inside.values()))
        return {split: self._items(inside[split], roots[split], classes) for split in roots}

    def _items(self, files: list[Path], root: Path, classes: dict[str, int]) -> Iterator[Item]:
        for file in files:
            label = classes.get(file.relative_to(root).parts[0])
            yield Item(str(file), file, label, str(file.relative_to(self._folder)))

    def _roots(self) -> dict[str, Path]:
        first = sorted({file.relative_to(self._folder).parts[0] for file in self._files})
        roots = {_SPLITS[n.lower()]: self._folder / n for n in first if n.lower() in _SPLITS}
        roots = {split: root for split, root in roots.items() if root.is_dir()}
        return roots if "train" in roots else {"whole": self._folder}


def holds_images(path: Path) -> bool:
    """Returns whether an array file has an array of three or four dimensions."""
    try:
        return any(len(array.shape) in (3, 4) for array in stored(path).values())
    except Exception:  # whatever is wrong with it, ArrayDataset says so
        return False


def holds_numbers(path: Path) -> bool:
    """Returns whether an array file has an array of floats, as samples are written."""
    try:
        return any(array.dtype.kind == "f" for array in stored(path).values())
    except Exception:  # whatever is wrong with it, its reader says so
        return False


class NamedArray(NamedTuple):
    """One array of a file, and what a message calls it."""

    file: Path
    key: str
    where: str
    stored: Stored


class ArraySource(Source):
    """8-bit images in an .npy or .npz file: (n, H, W), (n, H, W, C) or (n, C, H, W), C 1 or 3.

    An .npz has `train` and `test` (or `x_train` and `x_test`), or a single array of images;
    `y_train` and `y_test` (or `train_labels` and `test_labels`; `y` or `labels` beside a single
    array) are the classes. The file is read as a stream.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    @property
    def key(self) -> str:
        """Changes with the file's name, size and time."""
        return files_key([self._path], self._path.parent)

    def splits(self) -> dict[str, Iterable[Item]]:
        """Returns the splits in the order of the arrays."""
        arrays = self._arrays()
        chosen = {split: _first(names, arrays) for split, names in _ARRAYS.items()}
        if None in chosen.values():
            images = [key for key, array in arrays.items() if len(array.stored.shape) > 2]
            if len(images) != 1:
                raise DataError(
                    f"{self._path} must hold one array of images, or two called train and test; "
                    f"it holds {', '.join(sorted(arrays))}."
                )
            chosen = {"whole": images[0]}
        self.count = sum(arrays[str(key)].stored.shape[0] for key in chosen.values())
        return {s: self._items(arrays[str(key)], s, arrays) for s, key in chosen.items()}

    def _arrays(self) -> dict[str, NamedArray]:
        """Returns the arrays by the names that say what they are."""
        return {
            key: NamedArray(self._path, key, f"{self._path} [{key}]", array)
            for key, array in stored(self._path).items()
        }

    def _items(
        self, array: NamedArray, split: str, arrays: dict[str, NamedArray]
    ) -> Iterator[Item]:
        with damage_named(array.where):
            check(array.file, [array.stored])
        key = _first(_LABELS[split], arrays)
        labels = None if key is None else _labels(arrays[key], array.stored.shape[0])
        for row, image in enumerate(_images(array.where, array.stored)):
            where = f"Image {row} of {array.where}"
            yield Item(where, image, None if labels is None else int(labels[row]))


def _labels(array: NamedArray, n: int) -> np.ndarray:
    shape, dtype = array.stored.shape, array.stored.dtype
    if math.prod(shape) != n or n not in (1, *shape) or dtype.kind not in "iuO":
        raise DataError(
            f"{array.where} must be {n} whole numbers, one an image, not {dtype.name} {shape}."
        )
    with damage_named(array.where):
        return load(array.file, [array.key])[array.key].reshape(n)


def _first(names: Iterable[str], arrays: Iterable[str]) -> str | None:
    return next((name for name in names if name in arrays), None)


def _images(where: str, array: Stored) -> Iterator[np.ndarray]:
    """Reads images one by one, each (H, W) or (H, W, 3)."""
    shape = array.shape[1:]
    last, first = len(shape) == 3 and shape[-1] in (1, 3), len(shape) == 3 and shape[0] in (1, 3)
    if array.dtype != np.uint8 or not (len(shape) == 2 or last or first) or 0 in shape:
        raise DataError(
            f"{where} must hold 8-bit images: uint8 of shape (n, H, W), (n, H, W, C) or "
            f"(n, C, H, W) with 1 or 3 channels, not {array.dtype.name} {array.shape}."
        )
    if math.prod(shape) > _LARGEST:
        raise DataError(f"{where} holds images of {math.prod(shape):,} bytes: {_LARGEST:,} may be.")
    if array.in_fortran_order:
        raise DataError(f"{where} is in Fortran order: save numpy.ascontiguousarray of it.")
    with damage_named(where), array.open() as file:
        for _ in range(array.shape[0]):
            content = np.frombuffer(file.read(math.prod(shape)), np.uint8).reshape(shape)
            image = content if len(shape) == 2 or last else content.transpose(1, 2, 0)
            yield image[..., 0] if image.shape[2:] == (1,) else np.ascontiguousarray(image)


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Turns whatever reading a file raises into one sentence.

    Raises:
        DataError: for any error.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # zipfile and zlib raise their own kinds on damaged archives
        raise DataError(f"{where} is damaged ({type(error).__name__}: {reason(error)}).") from error
