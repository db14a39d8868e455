"""Images in tables: Parquet and Arrow files, and the Hugging Face hub, through `datasets`."""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from smoothctl.datasets.image_sources import Item, Source, damage_named, files_key, split_of
from smoothctl.datasets.library import quietly
from smoothctl.datasets.rows import check_file
from smoothctl.errors import DataError, RunError, UsageError, near_misses
from smoothctl.storage.files import check_inside

__all__ = ["TABLE_SUFFIXES", "HubSource", "TableSource", "Where", "table_files"]

TABLE_SUFFIXES = (".parquet", ".arrow")
_LABELS = ("label", "labels", "fine_label")
_ROWS = 32
"""Rows of a Parquet file that are in memory at once."""

_OFFLINE = (
    "without the Hugging Face hub, a folder of images, an .npz or a .parquet file serves, as in "
    "`dataset=FOLDER`"
)


class Where(Protocol):
    """The settings that say which columns hold the images and their classes."""

    @property
    def column(self) -> str | None:
        """The column of images; None: found by its type."""

    @property
    def label_column(self) -> str | None:
        """The column of classes; None: found by its type or name."""

    @property
    def subset(self) -> str | None:
        """The configuration of a hub dataset that has several."""


def table_files(path: str, candidates: Iterable[Path]) -> list[Path]:
    """Returns the files that a path or glob means, sorted; of a folder, its tables.

    Args:
        path: the file, folder or glob.
        candidates: the files that it means.
    """
    if Path(path).is_dir():
        tables = (file for file in candidates if file.suffix in TABLE_SUFFIXES)
        return sorted(file for file in tables if not file.name.startswith("cache-"))
    return sorted(candidates)


class _Tables(Source):
    """Tables that `datasets` opens, one a split."""

    def __init__(self, name: str, settings: Where) -> None:
        super().__init__(name)
        self._settings = settings

    @abstractmethod
    def _load(self) -> Mapping[str, Any]:
        """Opens the splits by the names that they have there."""

    @abstractmethod
    def _folders(self) -> list[Path]:
        """Returns the folders whose files its rows may name."""

    def _chosen(self) -> str:
        s = self._settings
        return "\0".join(map(str, (s.column, s.label_column, s.subset)))

    def splits(self) -> dict[str, Iterable[Item]]:
        """Returns the splits in the order of their rows."""
        tables = _known_splits(self.name, self._load())
        features = next(iter(tables.values())).features or {}
        image = _image_column(self.name, features, self._settings.column)
        label = _label_column(self.name, features, self._settings.label_column)
        self.classes = getattr(features[label], "num_classes", None) if label else None
        counts: list[Any] = [getattr(table, "num_rows", None) for table in tables.values()]
        self.count = None if None in counts else sum(counts)
        return {split: self._items(split, t, image, label) for split, t in tables.items()}

    def _items(self, split: str, table: Any, image: str, label: str | None) -> Iterator[Item]:
        from datasets import Image

        table_name, folders = f"{self.name} [{split}]", self._folders()
        with damage_named(table_name):
            table = table.select_columns([image] if label is None else [image, label])
            for row, values in enumerate(table.cast_column(image, Image(decode=False))):
                where, stored = f"Row {row} of {table_name}", values[image] or {}
                content = stored.get("bytes")
                if content is None and stored.get("path"):
                    content = _file(where, stored["path"], folders)
                number = None if label is None else values[label]
                yield Item(where, content or b"", None if number is None else int(number))


class TableSource(_Tables):
    """Local Parquet or Arrow files, read as a stream; nothing is copied.

    Where there are several, names such as train-00000-of-00001.parquet say the split.

    Args:
        name: the path, glob or folder.
        files: what `table_files` gives for it.
        settings: the columns.
    """

    def __init__(self, name: str, files: list[Path], settings: Where) -> None:
        super().__init__(name, settings)
        self._files = files

    @property
    def key(self) -> str:
        """Changes with the files' names, sizes and times, and the columns."""
        return files_key(self._files, self._files[0].parent) + self._chosen()

    def _folders(self) -> list[Path]:
        if Path(self.name).is_dir():
            return [Path(self.name)]
        return [Path(os.path.commonpath([file.parent for file in self._files]))]

    def _load(self) -> Mapping[str, Any]:
        kinds = {file.suffix.lower() for file in self._files}
        if len(kinds) > 1 or not kinds <= set(TABLE_SUFFIXES):
            held = ", ".join(sorted(kind or "others" for kind in kinds))[:100]
            raise DataError(f"{self.name} must hold .parquet or .arrow files alone, not {held}.")
        splits: dict[str, list[Path]] = {}
        for file in self._files:
            check_file(file, "a table")
            name = split_of(file.name) or split_of(file.parent.name)
            splits.setdefault(name or "train", []).append(file)
        with quietly(self.name, "restore it, or choose another") as datasets:
            if kinds == {".parquet"}:
                return {name: _Parquet(files) for name, files in splits.items()}
            named = {name: list(map(str, files)) for name, files in splits.items()}
            return dict(datasets.load_dataset("arrow", data_files=named, streaming=True))


class _Parquet:
    """Rows of Parquet files as a table of `datasets` gives them, but with few in memory at once.

    There a group of rows is read whole, which a small file can make as large as it likes.

    Args:
        files: with the same columns.
        columns: those to read; all if None.

    Raises:
        Exception: whatever pyarrow and `datasets` raise for a file that is damaged.
    """

    def __init__(self, files: list[Path], columns: list[str] | None = None) -> None:
        from datasets import Features
        from pyarrow.parquet import read_metadata, read_schema

        self._files, self._columns = files, columns
        self.features = Features.from_arrow_schema(read_schema(files[0]))
        self.num_rows = sum(read_metadata(file).num_rows for file in files)

    def select_columns(self, columns: list[str]) -> "_Parquet":
        """Returns a table of fewer columns."""
        return _Parquet(self._files, columns)

    def cast_column(self, column: str, image: Any) -> Iterator[dict[str, Any]]:
        """Yields the rows, with the images of a column as bytes and path."""
        del image
        for values in self._rows():
            stored = values[column]
            if isinstance(stored, bytes | str):
                values[column] = {"bytes" if isinstance(stored, bytes) else "path": stored}
            yield values

    def _rows(self) -> Iterator[dict[str, Any]]:
        from pyarrow.parquet import ParquetFile

        for file in self._files:
            with ParquetFile(file) as opened:
                for batch in opened.iter_batches(_ROWS, columns=self._columns):
                    yield from batch.to_pylist()


class HubSource(_Tables):
    """A dataset of the Hugging Face hub, downloaded by `datasets` into its own cache.

    Args:
        name: owner/name.
        settings: the columns and the subset.
    """

    _loaded: Mapping[str, Any] | None = None

    def _folders(self) -> list[Path]:
        from datasets.config import HF_DATASETS_CACHE
        from huggingface_hub.constants import HF_HUB_CACHE

        return [Path(HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]

    @property
    def key(self) -> str:
        """Changes with the hub's files and the columns."""
        tables = _known_splits(self.name, self._load())
        prints = [f"{name}:{table._fingerprint}" for name, table in sorted(tables.items())]
        return " ".join([self.name, *prints, self._chosen()])

    def _load(self) -> Mapping[str, Any]:
        if self._loaded is None:
            with quietly(self.name, _OFFLINE) as datasets:
                self._loaded = dict(datasets.load_dataset(self.name, self._settings.subset))
        return self._loaded


def _known_splits(name: str, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns train, validation and test; a single split whatever its name."""
    if len(tables) == 1:
        return {"whole": next(iter(tables.values()))}
    known = {split_of(split): table for split, table in tables.items()}
    if "train" not in known:
        raise DataError(f"{name} has no split train; its splits are {', '.join(tables)}.")
    return {split: known[split] for split in ("train", "validation", "test") if split in known}


def _image_column(name: str, features: Mapping[str, Any], chosen: str | None) -> str:
    from datasets import Image

    if chosen is not None:
        return _column(name, features, chosen)
    images = [key for key, feature in features.items() if isinstance(feature, Image)]
    images = images or [key for key, feature in features.items() if _may_hold_images(feature)]
    if len(images) != 1:
        what = f"columns of images ({', '.join(images)})" if images else "no column of images"
        columns = ", ".join(features)
        raise DataError(f"{name} has {what}: choose one of {columns} with `data.column=NAME`.")
    return images[0]


def _may_hold_images(feature: Any) -> bool:
    """Returns whether a column without a type of its own holds files: bytes, or bytes and path."""
    inner = feature.get("bytes") if isinstance(feature, dict) else feature
    return getattr(inner, "dtype", None) in ("binary", "large_binary")


def _label_column(name: str, features: Mapping[str, Any], chosen: str | None) -> str | None:
    from datasets import ClassLabel

    if chosen is not None:
        return _column(name, features, chosen)
    typed = [key for key, feature in features.items() if isinstance(feature, ClassLabel)]
    named = [
        key
        for key in _LABELS
        if key in features and "int" in str(getattr(features[key], "dtype", ""))
    ]
    both = [key for key in named if key in typed] + typed[:1] + named
    return both[0] if both else None


def _column(name: str, features: Mapping[str, Any], chosen: str) -> str:
    if chosen not in features:
        raise UsageError(f"{name} has no column '{chosen}'{near_misses(chosen, features)}")
    return chosen


def _file(where: str, path: str, folders: Iterable[Path]) -> Path:
    """Returns the file that a row names, in one of the folders that it may name files of.

    Raises:
        DataError: it lies elsewhere.
    """
    for folder in folders:
        with suppress(RunError):
            return check_inside(folder / path, folder)
    raise DataError(
        f"{where} names the file {path!r:.200}, which does not lie in the table's folder and is "
        "not opened: put the bytes of images into the table, or their files beside it."
    )
