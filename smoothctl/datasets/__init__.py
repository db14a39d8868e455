"""Datasets by registered name (`smoothctl.datasets`), by path, or by id on the Hugging Face hub."""

import re
from collections.abc import Callable, Mapping
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl.errors import DataError, UsageError
from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Registry

if TYPE_CHECKING:
    from smoothctl.datasets.base import Dataset

__all__ = ["canonical_name", "is_local", "is_packaged", "load", "names", "open_dataset", "registry"]

_TABLES = (".csv", ".tsv")
_FILES = (*_TABLES, ".npy", ".npz", ".parquet", ".arrow", "-ubyte", "-ubyte.gz")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

registry: "Registry[type[Dataset]]" = REGISTRIES["smoothctl.datasets"]
load = registry.load
names = registry.names


def canonical_name(name_or_path: str) -> str:
    """Returns what a run records: a path is absolute, a registered name `Registry.qualified`.

    Raises:
        UsageError: a path that is not valid text, or a name that nobody has registered.
    """
    if not is_local(name_or_path):
        hub = _HUB.fullmatch(name_or_path)
        return name_or_path if hub else registry.qualified(name_or_path)
    try:
        name_or_path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"The path {name_or_path!r} is not valid text: rename it.") from error
    return str(Path(name_or_path).absolute())


def open_dataset(
    name_or_path: str,
    options: Mapping[str, Any] | None = None,
    note: Callable[[str], None] | None = None,
) -> "Dataset":
    """Returns a dataset, its images decoded.

    Args:
        name_or_path: a registered name; a folder of images, of Parquet or Arrow files or of idx
            files; a .parquet or .arrow file or a glob; an .npy, .npz or idx file of vectors or
            of 8-bit images; a .csv or .tsv file of numbers; an id owner/name on the Hugging Face
            hub. A registered name goes before a path, and a path before the hub.
        options: settings of the dataset, such as {"size": 32} for images.
        note: told in one sentence each what a person should know, such as that images are
            decoded, or that corrupt ones are left out.

    Raises:
        UsageError: neither a registered name, a path nor a hub id; or a wrong setting.
        DataError: the data are missing, malformed, or cannot be reached.
    """
    if not is_local(name_or_path):
        return _from_afar(name_or_path, options, note)
    from smoothctl.datasets.array_files import is_array_file
    from smoothctl.datasets.listing import is_folder

    path, folder = Path(name_or_path), is_folder(name_or_path)
    if folder is None and not has_magic(name_or_path):
        raise DataError(f"There is no file or folder {name_or_path}.")
    if path.suffix.lower() in _TABLES and not folder:
        from smoothctl.datasets.tables import TableDataset

        return TableDataset(name_or_path, options, note)
    if not folder and is_array_file(path):
        from smoothctl.datasets.arrays import ArrayDataset
        from smoothctl.datasets.image_sources import holds_images

        if not holds_images(path):
            _refuse(options, name_or_path)
            return ArrayDataset(name_or_path)
    from smoothctl.datasets.images import LocalImages

    return LocalImages(name_or_path, options, note)


def _from_afar(
    name: str, options: Mapping[str, Any] | None, note: Callable[[str], None] | None
) -> "Dataset":
    if _HUB.fullmatch(name):
        from smoothctl.datasets.images import HubImages

        return HubImages(name, options, note)
    cls = load(name)
    if cls.Config is not None:
        made: Callable[..., Dataset] = cls
        return made(options, note)
    _refuse(options, name)
    return cls()


def _refuse(options: Mapping[str, Any] | None, name: str) -> None:
    if options:
        raise UsageError(f"{name} has no settings: leave out {', '.join(options)}.")


def is_local(name: str) -> bool:
    """Returns whether the name of a dataset means files, whether they exist or not.

    Nothing is searched for: what has the form of a path, of a glob or of a file's name does.
    """
    if registry.declares(name):
        return False
    if name.startswith((".", "/")) or name.count("/") > 1 or has_magic(name):
        return True
    if name.lower().endswith(_FILES):
        return True
    try:
        return name != "" and Path(name).exists()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def is_packaged(name: str) -> bool:
    """Returns whether a dataset comes with an installed package, as a run may name it.

    Opening one that does not reads a user's files or asks a host.

    Raises:
        UsageError: it is called as a package's, and no package has it.
    """
    if name.startswith("./") or Path(name).is_absolute() or _HUB.fullmatch(name):
        return False
    return not load(name).remote
