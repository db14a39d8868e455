"""Datasets by name (entry-point group `smoothctl.datasets`) or by the path of an array file."""

from pathlib import Path
from typing import TYPE_CHECKING

from smoothctl.errors import UsageError
from smoothctl.registry import Registry

if TYPE_CHECKING:
    from smoothctl.datasets.base import Dataset

__all__ = ["canonical_name", "load", "names", "open_dataset", "registry"]


def _contract() -> "type[Dataset]":
    from smoothctl.datasets.base import Dataset

    return Dataset


registry: "Registry[Dataset]" = Registry("smoothctl.datasets", "dataset", _contract)
load = registry.load
names = registry.names


def canonical_name(name_or_path: str) -> str:
    """Returns a registered name as it is, and a path as an absolute one.

    Raises:
        UsageError: a path that is not valid text.
    """
    from smoothctl.datasets.arrays import looks_like_array_path

    if not looks_like_array_path(name_or_path):
        return name_or_path
    try:
        name_or_path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"The path {name_or_path!r} is not valid text: rename it.") from error
    return str(Path(name_or_path).absolute())


def open_dataset(name_or_path: str) -> "Dataset":
    """Returns the dataset of a registered name, or the vectors in an .npy or .npz file.

    Raises:
        UsageError: neither a registered name nor the path of an array file.
        DataError: the file is missing, malformed or holds values that are not finite.
    """
    from smoothctl.datasets.arrays import ArrayDataset, looks_like_array_path

    if looks_like_array_path(name_or_path):
        return ArrayDataset(name_or_path)
    return load(name_or_path)()
