"""Samples as files: arrays, and folders of PNG images."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from smoothctl.datasets.pictures import to_uint8, write_png
from smoothctl.errors import RunError, UsageError
from smoothctl.storage.files import MANIFEST, new_folder, write_bytes

__all__ = ["check_folder", "check_target", "save_arrays", "write_folder"]


def check_target(
    path: Path, overwrite: bool, picture_alone: bool = False, folder: bool = False
) -> None:
    """Checks, before any work, that samples may be written to a path and its picture beside it.

    Args:
        path: where they shall go: an .npz file.
        overwrite: replace what is there.
        picture_alone: a .png file will do as well.
        folder: a folder (a name without ending) will do as well.

    Raises:
        UsageError: the path ends in something else.
        RunError: one of the files is there and must not be replaced.
    """
    if folder and not path.suffix:
        check_folder(path, overwrite)
        return
    if path.suffix != ".npz" and not (picture_alone and path.suffix == ".png"):
        kinds = ".npz" + ", .png" * picture_alone + ", or a folder (no ending)" * folder
        raise UsageError(f"Samples are written as {kinds}, not as '{path.name}'.")
    for file in (path, path.with_suffix(".png")):
        if file.is_dir():
            raise RunError(f"{file} is a folder: choose another `out`.")
        if file.exists() and not overwrite:
            raise RunError(f"{file} is there already: choose another `out`, or `overwrite` it.")


def save_arrays(path: Path, arrays: Mapping[str, Tensor | None]) -> None:
    """Writes an .npz file of the tensors that are there, atomically.

    Raises:
        RunError: it cannot be written.
    """
    plain = {name: tensor.cpu().numpy() for name, tensor in arrays.items() if tensor is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **plain)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def write_folder(path: Path, images: Tensor) -> None:
    """Writes 00000.png, 00001.png, … and a manifest into a folder that appears when complete.

    Args:
        path: the folder; one that `check_folder` allows is replaced.
        images: (n, C, H, W) in [−1, 1], C 1 or 3.

    Raises:
        RunError: it cannot be written.
    """
    with new_folder(path) as beside:
        for number, image in enumerate(to_uint8(images)):
            write_png(beside / f"{number:05}.png", image)


def check_folder(path: Path, overwrite: bool) -> None:
    """Checks that a folder may be written: not there, empty, or our own and to be replaced.

    Raises:
        UsageError: the path has no name of its own.
        RunError: it is a file, or holds something.
    """
    if not path.name:
        raise UsageError(f"Images go into a new folder, not into '{path}': name one.")
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() and not (overwrite and (path / MANIFEST).is_file()):
        hint = "" if overwrite else ", or `overwrite` it where smoothctl wrote it"
        raise RunError(f"{path} is there already: choose another `out`{hint}.")
