"""Image datasets: digits (embedded), MNIST and others of the hub, and a user's own images."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from math import isqrt
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from smoothctl.config import as_dict, build, config
from smoothctl.datasets.base import LARGEST_EVENT, Dataset, FiniteView, Note
from smoothctl.datasets.idx_sets import IdxSource, idx_files
from smoothctl.datasets.image_cache import Decoded, Part, decoded
from smoothctl.datasets.image_sources import ArraySource, FolderSource, Source, image_files
from smoothctl.datasets.image_tables import TABLE_SUFFIXES, HubSource, TableSource, table_files
from smoothctl.datasets.listing import listed
from smoothctl.errors import DataError
from smoothctl.rng import generator

__all__ = [
    "CIFAR10",
    "MNIST",
    "CelebA",
    "Digits",
    "FashionMNIST",
    "HubImages",
    "ImageDataset",
    "ImageSettings",
    "ImageView",
    "LocalImages",
    "NamedHubImages",
    "StoredImages",
    "local_images",
]

_HELD_OUT = 0.1
_MOST_HELD_OUT = 5000
_FEWEST = 20
_LARGEST_CROP = 2**14
"""No image of which so much could be cut is decoded."""

_PAPER = "the paper's value"
_DIGITS = files("smoothctl.datasets") / "data" / "digits.npz"


@config
class ImageSettings:
    """What is done to the images of a dataset."""

    size: int | None = Field(
        None,
        ge=0,
        le=isqrt(LARGEST_EVENT),
        description="side to resize to (Lanczos, antialiased), after crop; 0: none",
    )
    crop: int | None = Field(
        None, ge=0, le=_LARGEST_CROP, description="side of the centred square; 0: none"
    )
    grey: bool | None = Field(None, description="grey (true) or RGB (false); none: as they are")
    flip: bool = Field(False, description="mirror training images left to right at random")
    column: str | None = Field(None, description="column of images; none: found by its type")
    label_column: str | None = Field(None, description="column of classes; none: found")
    subset: str | None = Field(None, description="configuration of a hub dataset with several")
    skip_corrupt: bool = Field(False, description="leave out images that cannot be decoded")


class ImageView(FiniteView):
    """Images read from memory-mapped bytes v, a batch at a time, as 2v/(levels − 1) − 1.

    Args:
        part: the stored images, uint8 (n, C, H, W), and their classes.
        index: which of them this view shows, int64 (k,).
        levels: number of values of a pixel.
        flip: mirror each image of a batch left to right with probability a half; which ones is
            a function of the seed, the epoch and the position in it.
    """

    def __init__(self, part: Part, index: Tensor, levels: int = 256, flip: bool = False) -> None:
        super().__init__(None if part.labels is None else torch.from_numpy(part.labels)[index])
        self._part = part
        self._index = index
        self._half = (levels - 1) / 2
        self._flip = flip

    def __len__(self) -> int:
        return len(self._index)

    def rows(self, indices: Tensor) -> Tensor:
        """Returns the images at storage indices, float32, never mirrored."""
        stored = self._part.images[self._index[indices].numpy()]
        return torch.from_numpy(stored).float().div_(self._half).sub_(1)

    def files(self, indices: Sequence[int]) -> list[str] | None:
        """Returns the images' files, below the dataset's folder; None where they have none."""
        return self._part.files(self._index[list(indices)].tolist())

    def batch(self, seed: int, epoch: int, start: int, stop: int) -> Tensor:
        """Returns images start … stop of the epoch's permutation, mirrored where it says so."""
        images = super().batch(seed, epoch, start, stop)
        if not self._flip:
            return images
        draws = torch.rand(len(self), generator=generator(seed, "flip", epoch))
        mirrored = (draws < 0.5)[start:stop, None, None, None]
        return torch.where(mirrored, images.flip(-1), images)


class ImageDataset(Dataset):
    """Images in [−1, 1], in three views.

    Where the source has no test split, its validation split is the test, or else a seeded
    tenth of all; where it has no further validation split, that is a seeded tenth of train, at
    most 5,000.
    """

    domain = "image"
    levels: int = 256
    test_count: ClassVar[int | None] = None
    """Images held out for testing where there is no test split; None: a tenth."""

    def _show(self, images: Decoded, flip: bool = False) -> None:
        """Makes the views.

        Raises:
            DataError: there are too few images.
        """
        parts = images.parts
        train = parts.get("train", next(iter(parts.values())))
        test, validation = parts.get("test"), parts.get("validation")
        if test is None:
            test, validation = validation, None
        rest = torch.arange(len(train.images))
        if len(rest) < _FEWEST:
            raise DataError(f"{self.name} has {len(rest)} images; at least {_FEWEST} are needed.")
        rest, self._test = self._held_out(test, train, rest, "test", self.test_count)
        rest, self._validation = self._held_out(validation, train, rest, "validation")
        self._train = ImageView(train, rest, self.levels, flip)
        self.event_shape = tuple(train.images.shape[1:])
        self.classes = images.classes
        self._sha256 = images.sha256

    def _held_out(
        self, part: Part | None, train: Part, rest: Tensor, name: str, count: int | None = None
    ) -> tuple[Tensor, ImageView]:
        """Returns what is left of train, and the view of a split, taken from train if None."""
        if part is not None:
            return rest, ImageView(part, torch.arange(len(part.images)), self.levels)
        count = count or min(_MOST_HELD_OUT, max(1, round(_HELD_OUT * len(rest))))
        order = rest[torch.randperm(len(rest), generator=generator("split", name, len(rest)))]
        left, held_out = order[count:].sort().values, order[:count].sort().values
        return left, ImageView(train, held_out, self.levels)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of all pixels and labels, as decoded."""
        return self._sha256

    @property
    def train(self) -> ImageView:
        """The images to fit."""
        return self._train

    @property
    def validation(self) -> ImageView:
        """Images for choosing among models while fitting; never mirrored."""
        return self._validation

    @property
    def test(self) -> ImageView:
        """The images to score; never mirrored."""
        return self._test


class Digits(ImageDataset):
    """scikit-learn's 1,797 handwritten digits, 8×8 with values 0 … 16, part of this package."""

    summary = "handwritten digits, 8×8, grey, 17 levels; embedded"
    source = (
        "E. Alpaydin and C. Kaynak: Optical Recognition of Handwritten Digits (1998), UCI Machine "
        "Learning Repository, doi:10.24432/C50P49; the test set, as in scikit-learn"
    )
    licence = "CC BY 4.0"
    name = "digits"
    event_shape = (1, 8, 8)
    levels = 17
    classes = 10
    test_count = 357

    def __init__(self) -> None:
        with np.load(io.BytesIO(_DIGITS.read_bytes()), allow_pickle=False) as file:
            images, labels = file["images"][:, None], file["labels"].astype(np.int64)
        sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        self._show(Decoded({"whole": Part(images, labels)}, 10, sha256))


class StoredImages(ImageDataset):
    """8-bit images from elsewhere, decoded once into the user's cache."""

    Config = ImageSettings
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of this dataset where they differ from those of `ImageSettings`."""

    def _open(
        self,
        source: Callable[[ImageSettings, Note], Source],
        options: Mapping[str, Any] | None,
        note: Note | None,
    ) -> None:
        chosen = {key: value for key, value in (options or {}).items() if value is not None}
        settings = build(ImageSettings, {**self.defaults, **chosen}, self.name)
        resolved = as_dict(settings)
        self.options = {key: resolved[key] for key in chosen}
        note = note or _ignore
        self._show(decoded(partial(source, settings, note), settings, note), settings.flip)


class LocalImages(StoredImages):
    """A user's own images: a folder, Parquet or Arrow files, or an array file.

    Args:
        path: a folder of images at any depth, or of tables; one table or a glob of them; an
            .npy or .npz file.
        options: settings of `ImageSettings`.
        note: told what a person should know.

    Raises:
        UsageError: an unknown setting or a wrong value.
        DataError: there are no images, or they cannot be decoded.
    """

    summary = "images from a folder, Parquet, Arrow, .npz or .npy"
    source = "the user"
    licence = "the user's"

    def __init__(
        self, path: str, options: Mapping[str, Any] | None = None, note: Note | None = None
    ) -> None:
        self.name = path
        self._open(partial(_local_source, path), options, note)

    @property
    def slug(self) -> str:
        """The name of the folder, of the file without its ending, or of a glob's folder."""
        path = Path(self.name)
        if path.is_dir():
            return path.name
        return path.stem if path.exists() else path.parent.name


class HubImages(StoredImages):
    """Images of the Hugging Face hub.

    Args:
        hub: owner/name.
        options: settings of `ImageSettings`.
        note: told what a person should know.

    Raises:
        UsageError: an unknown setting or a wrong value.
        DataError: the hub cannot be reached, or the images cannot be decoded.
    """

    remote = True
    summary = "images of the Hugging Face hub"
    source = "https://huggingface.co/datasets"
    licence = "see the dataset's page on the hub"

    def __init__(
        self, hub: str, options: Mapping[str, Any] | None = None, note: Note | None = None
    ) -> None:
        self.name = hub
        self._open(partial(_hub_source, hub), options, note)

    @property
    def slug(self) -> str:
        """owner-name."""
        return self.name.replace("/", "-")


class NamedHubImages(StoredImages):
    """Images of the Hugging Face hub under a name of their own: a subclass says which.

    Args:
        options: settings of `ImageSettings`.
        note: told what a person should know.

    Raises:
        UsageError: an unknown setting or a wrong value.
        DataError: the hub cannot be reached, or the images cannot be decoded.
    """

    remote = True
    hub: ClassVar[str]
    """Its id there, owner/name."""

    def __init__(self, options: Mapping[str, Any] | None = None, note: Note | None = None) -> None:
        self._open(partial(_hub_source, self.hub), options, note)


class MNIST(NamedHubImages):
    """MNIST: 60,000 and 10,000 handwritten digits, 28×28, grey."""

    summary = "handwritten digits, 28×28, grey; from the hub"
    source = "Y. LeCun, C. Cortes, C. Burges: MNIST; ylecun/mnist on the Hugging Face hub"
    licence = "MIT, as the hub's page says"
    suggestion = _PAPER
    name = "mnist"
    hub = "ylecun/mnist"
    event_shape = (1, 28, 28)
    classes = 10
    suggested_sigma = 0.5


class FashionMNIST(NamedHubImages):
    """Fashion-MNIST: 60,000 and 10,000 pictures of clothes, 28×28, grey."""

    summary = "clothes, 28×28, grey; from the hub"
    source = (
        "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST (2017); "
        "zalando-datasets/fashion_mnist on the Hugging Face hub"
    )
    licence = "MIT"
    name = "fashion-mnist"
    hub = "zalando-datasets/fashion_mnist"
    event_shape = (1, 28, 28)
    classes = 10


class CIFAR10(NamedHubImages):
    """CIFAR-10: 50,000 and 10,000 photographs, 32×32, RGB."""

    summary = "photographs of ten classes, 32×32, RGB; from the hub"
    source = (
        "A. Krizhevsky: Learning multiple layers of features from tiny images (2009); "
        "uoft-cs/cifar10 on the Hugging Face hub"
    )
    licence = "not stated by its authors"
    suggestion = _PAPER
    name = "cifar10"
    hub = "uoft-cs/cifar10"
    event_shape = (3, 32, 32)
    classes = 10
    suggested_sigma = 0.3
    defaults: ClassVar = {"column": "img"}


class CelebA(NamedHubImages):
    """CelebA: 202,599 faces, the central 140×140 at 32×32, RGB."""

    summary = "faces, cut to 140×140 and resized to 32×32, RGB; from the hub"
    source = (
        "Z. Liu, P. Luo, X. Wang, X. Tang: Deep learning face attributes in the wild (2015); "
        "flwrlabs/celeba on the Hugging Face hub"
    )
    licence = "non-commercial research only"
    suggestion = _PAPER
    name = "celeba"
    hub = "flwrlabs/celeba"
    event_shape = (3, 32, 32)
    suggested_sigma = 0.3
    defaults: ClassVar = {"crop": 140, "size": 32}


def local_images(
    path: str, options: Mapping[str, Any] | None = None, note: Note | None = None
) -> Decoded:
    """Returns a user's own images as they are stored: any number, in the splits that there are.

    Args:
        path: as for `LocalImages`.
        options: settings of `ImageSettings`.
        note: told what a person should know.

    Raises:
        UsageError: an unknown setting or a wrong value.
        DataError: there are no images, they differ in size, or one cannot be decoded.
    """
    settings, note = build(ImageSettings, options or {}, path), note or _ignore
    return decoded(partial(_local_source, path, settings, note), settings, note)


def _hub_source(hub: str, settings: ImageSettings, note: Note) -> Source:
    del note
    return HubSource(hub, settings)


def _local_source(path: str, settings: ImageSettings, note: Note) -> Source:
    if path.lower().endswith((".npy", ".npz")):
        return ArraySource(Path(path))
    folder, found = Path(path), listed(path, note if settings.skip_corrupt else None)
    images = image_files(found) if folder.is_dir() else []
    if images:
        return FolderSource(folder, images)
    idx = idx_files(path, found)
    if idx:
        return IdxSource(folder, idx)
    tables = table_files(path, found)
    if [file.suffix.lower() for file in tables] in ([".csv"], [".tsv"]):
        raise DataError(f"{path} is a table of rows, not of images: images are needed here.")
    if tables:
        return TableSource(path, tables, settings)
    kinds = " and ".join(TABLE_SUFFIXES)
    rows = next((f"; for rows of numbers name the file, {f}" for f in folder.glob("*.[ct]sv")), "")
    raise DataError(f"{path} holds no images (PNG, JPEG, …) and no {kinds} files{rows}.")


def _ignore(message: str) -> None:
    """Says nothing."""
    del message
