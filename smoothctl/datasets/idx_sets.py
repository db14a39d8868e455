"""Images in idx files, the format of MNIST's originals: four files, or one and its labels."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from smoothctl.datasets.array_files import is_idx_file, stored
from smoothctl.datasets.image_sources import ArraySource, NamedArray, damage_named, files_key
from smoothctl.errors import DataError

__all__ = ["IdxSource", "idx_files"]

_NAME = re.compile(
    r"(?P<of>.*?)(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?",
    re.IGNORECASE,
)
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_LETTERS = {"images": "x", "labels": "y"}


class IdxSource(ArraySource):
    """8-bit images in idx files, plain or gzipped, and their classes. They are read as streams.

    Args:
        path: the file, folder or glob.
        files: what `idx_files` gives for it.
    """

    def __init__(self, path: Path, files: dict[str, Path]) -> None:
        super().__init__(path)
        self._files = files

    @property
    def key(self) -> str:
        """Changes with the files' names, sizes and times."""
        files = list(self._files.values())
        return files_key(files, files[0].parent)

    def _arrays(self) -> dict[str, NamedArray]:
        return {name: _named(file) for name, file in self._files.items()}


def _named(file: Path) -> NamedArray:
    with damage_named(str(file)):
        return NamedArray(file, "data", str(file), stored(file)["data"])


def idx_files(path: str, candidates: Iterable[Path]) -> dict[str, Path]:
    """Returns the idx files of a path or glob by what they hold, as `ArraySource` names arrays.

    Of a folder, at any depth, they are train-images-idx3-ubyte and the like, plain before
    gzipped. A single file is called images, and the labels beside it labels.

    Args:
        path: the file, folder or glob.
        candidates: the files that it means.

    Returns:
        x_train, y_train, x_test and y_test as far as there are; images and labels; or nothing.

    Raises:
        DataError: the files are of several datasets.
    """
    if Path(path).is_file():
        return _with_labels(Path(path)) if is_idx_file(Path(path)) else {}
    sets: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted(candidates):
        match = _NAME.fullmatch(file.name)
        if match and file.is_file():
            what = f"{_LETTERS[match['what'].lower()]}_{_SPLITS[match['split'].lower()]}"
            sets[f"{file.parent}/{match['of']}"].setdefault(what, file)
    sets = {name: files for name, files in sets.items() if any(key[0] == "x" for key in files)}
    if len(sets) > 1:
        raise DataError(
            f"{path} holds several sets of idx files: choose one of them with a glob in quotes, "
            f"such as '{next(iter(sets))}*'."
        )
    return _whole(next(iter(sets.values()), {}))


def _whole(files: dict[str, Path]) -> dict[str, Path]:
    """Returns files of a single split as images and labels of no split."""
    images = [file for key, file in files.items() if key[0] == "x"]
    return files if len(images) != 1 else _with_labels(images[0])


def _with_labels(images: Path) -> dict[str, Path]:
    """Returns an images file, and the labels beside it where there are any."""
    name = images.name.removesuffix(".gz").replace("images", "labels")
    name = re.sub(r"idx\d", "idx1", name)
    beside = [images.with_name(name + ending) for ending in ("", ".gz")]
    labels = [file for file in beside if file.name != images.name and file.is_file()]
    return {"images": images, **({"labels": labels[0]} if labels else {})}
