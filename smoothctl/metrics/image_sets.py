"""Sets of 8-bit images to be judged or compared with, read a block at a time."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smoothctl import datasets
from smoothctl.datasets.array_files import is_array_file
from smoothctl.datasets.base import Dataset, FiniteView, Note, View
from smoothctl.datasets.checked_rows import CheckedRows
from smoothctl.datasets.image_sources import holds_images, holds_numbers
from smoothctl.datasets.listing import is_folder
from smoothctl.datasets.pictures import read_array, to_uint8
from smoothctl.errors import DataError, UsageError, near_misses
from smoothctl.rng import generator
from smoothctl.smoothing.batching import spans

__all__ = ["SPLITS", "ImageSet", "of_array", "of_tensor", "of_view", "open_images"]

SPLITS = ("train", "validation", "test")
_BLOCK = 1024


def _no_files(indices: Sequence[int]) -> None:
    """Says that images come from no files of their own."""
    del indices


@dataclass(frozen=True)
class ImageSet:
    """Images that are read when they are needed.

    Args:
        name: what results and messages call it.
        shape: (C, H, W) of each image.
        count: how many.
        read: (start, stop) -> those images, uint8 (stop − start, C, H, W).
        labels: the class of each, int64 (count,); None where there are none.
        classes: how many classes.
        lasting: whether the same images will be asked for again: those of a dataset, not samples.
        files: indices -> the files that those images came from; None where they have none.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    read: Callable[[int, int], Tensor]
    labels: Tensor | None = None
    classes: int | None = None
    lasting: bool = False
    files: Callable[[Sequence[int]], list[str] | None] = _no_files

    def __len__(self) -> int:
        """Returns the number of images."""
        return self.count

    def blocks(self, size: int = _BLOCK) -> Iterator[Tensor]:
        """Returns the images in order, at most `size` at a time, uint8 (k, C, H, W)."""
        return (self.read(start, stop) for start, stop in spans(self.count, size))

    def head(self, limit: int | None) -> "ImageSet":
        """Returns the first `limit` images; all of them if None."""
        if limit is None or limit >= self.count:
            return self
        labels = None if self.labels is None else self.labels[:limit]
        return replace(self, count=limit, labels=labels)

    def pick(self, limit: int, seed: int = 0) -> "ImageSet":
        """Returns `limit` images chosen at random, in order: stored sets are often sorted by class.

        All of them where there are no more.
        """
        if limit >= self.count:
            return self
        chosen = torch.randperm(self.count, generator=generator(seed, "pick"))[:limit].sort().values

        def read(start: int, stop: int) -> Tensor:
            return torch.cat([self.read(i, i + 1) for i in chosen[start:stop].tolist()])

        def files(indices: Sequence[int]) -> list[str] | None:
            return self.files(chosen[list(indices)].tolist())

        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, count=limit, read=read, labels=labels, files=files)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of shape, pixels and labels: equal for equal content, wherever it lies."""
        digest = hashlib.sha256(f"{self.count} {self.shape}".encode())
        for block in self.blocks():
            digest.update(block.numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    def check_comparable(self, other: "ImageSet") -> None:
        """Checks that two sets hold images of one shape.

        Raises:
            DataError: they do not; the message names both.
        """
        if self.shape != other.shape:
            mine, others = ("×".join(map(str, each.shape)) for each in (self, other))
            raise DataError(
                f"{self.name} holds images of {mine} and {other.name} of {others} "
                "(channels × height × width): make them equal, for instance with `data.size=32`."
            )


def of_tensor(name: str, images: Tensor) -> ImageSet:
    """Returns a set of images (n, C, H, W) in [−1, 1]: rounded to 8 bits, clipped.

    Raises:
        DataError: values that are not finite.
    """
    bad = int((~images.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise DataError(f"{bad} of the {len(images)} images of {name} are not finite.")
    pixels = to_uint8(images)
    return ImageSet(name, tuple(pixels.shape[1:]), len(pixels), partial(_rows, pixels))


def of_view(name: str, dataset: Dataset, view: View) -> ImageSet:
    """Returns a view of an image dataset, read from where it is stored.

    Raises:
        DataError: the dataset holds no images.
    """
    if dataset.domain != "image":
        raise DataError(f"{dataset.name} holds vectors: this is for images.")

    def read(start: int, stop: int) -> Tensor:
        return torch.from_numpy(to_uint8(view.rows(torch.arange(start, stop))))

    labels = None if dataset.classes is None else view.head_labels()
    files = view.files if isinstance(view, FiniteView) else _no_files
    return ImageSet(
        *(name, dataset.event_shape, len(view), read, labels, dataset.classes),
        lasting=True,
        files=files,
    )


def open_images(
    name_or_path: str,
    split: str | None = None,
    options: Mapping[str, Any] | None = None,
    note: Note | None = None,
) -> ImageSet:
    """Returns the images of a dataset, or of a user's folder or file.

    Args:
        name_or_path: what `open_dataset` takes; or an .npz or .npy file of bytes or of numbers in
            [−1, 1], as `smoothctl sample` writes it; FILE.npz:ARRAY takes one array of several.
        split: train, validation or test; "train" of what has splits, and otherwise all, if None.
        options: settings of the dataset, such as {"size": 32}.
        note: told what a person should know.

    Raises:
        UsageError: an unknown name, split or setting.
        DataError: fewer than two images, images of several sizes, damaged or missing files.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"There is no split '{split}'{near_misses(split, SPLITS)}")
    file, array = _array_of(name_or_path)
    if file is not None and split is not None:
        raise UsageError(f"{name_or_path} has no split '{split}': it is one set of images.")
    if file is not None:
        image_set = of_array(name_or_path, read_array(file, [array]))
    elif datasets.is_local(name_or_path):
        image_set = _local(name_or_path, split, options, note)
    else:
        dataset = datasets.open_dataset(name_or_path, options, note)
        chosen = split or "train"
        image_set = of_view(f"{name_or_path} ({chosen})", dataset, getattr(dataset, chosen))
    if image_set.count < 2:
        images = "one image" if image_set.count else "no images"
        raise DataError(f"{image_set.name} holds {images}: at least two are needed.")
    return image_set


def _local(
    path: str, split: str | None, options: Mapping[str, Any] | None, note: Note | None
) -> ImageSet:
    from smoothctl.datasets.images import local_images

    stored = local_images(path, options, note)
    whole = stored.parts.get("train") or next(iter(stored.parts.values()))
    part = whole if split is None else stored.parts.get(split)
    if part is None:
        have = ", ".join(stored.parts)
        raise UsageError(f"{path} has no split '{split}'; it has: {have}.")
    name = path if len(stored.parts) == 1 else f"{path} ({split or 'train'})"
    labels = None if part.labels is None else torch.from_numpy(part.labels)
    read = partial(_rows, part.images)
    return ImageSet(
        *(name, tuple(part.images.shape[1:]), len(part.images), read, labels, stored.classes),
        files=part.files,
    )


def _array_of(text: str) -> tuple[Path | None, str]:
    """Returns the file and the array in it, where the text means samples and no dataset."""
    file, _, array = text.rpartition(":")
    if file.lower().endswith(".npz") and is_folder(file) is False:
        return Path(file), array
    path = Path(text)
    if is_folder(text) is not False or not is_array_file(path):
        return None, ""
    return (None if holds_images(path) and not holds_numbers(path) else path), "samples"


def of_array(name: str, array: np.ndarray) -> ImageSet:
    """Returns the images of an array: bytes or floats, in any of the layouts that people use.

    Raises:
        DataError: they are no images, or not finite.
    """
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 5:  # several draws for each of several images
        array = array.reshape(-1, *array.shape[2:])
    if array.ndim == 4 and array.shape[-1] in (1, 3) and array.shape[1] not in (1, 3):
        array = np.moveaxis(array, -1, 1)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or array.dtype.kind not in "fu":
        raise DataError(
            f"{name} must hold images, (n, C, H, W) with 1 or 3 channels, as bytes or floats in "
            f"[−1, 1], not {array.dtype} of shape {array.shape}."
        )
    if array.dtype == np.uint8:
        pixels = np.ascontiguousarray(array)
        return ImageSet(name, pixels.shape[1:], len(pixels), partial(_rows, pixels))
    return of_tensor(name, torch.from_numpy(np.ascontiguousarray(array)))


def _rows(pixels: np.ndarray | CheckedRows, start: int, stop: int) -> Tensor:
    return torch.from_numpy(np.array(pixels[start:stop]))
