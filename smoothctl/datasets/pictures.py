"""Images in and out: bytes, grids and PNG files of samples, and a user's images and masks."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from smoothctl.datasets.array_files import is_array_file, load, reason, stored
from smoothctl.datasets.listing import is_folder
from smoothctl.datasets.pixels import open_image, to_array
from smoothctl.errors import DataError, UsageError, near_misses
from smoothctl.storage.files import write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "MASKS",
    "png",
    "read_array",
    "read_columns",
    "read_events",
    "read_mask",
    "snap",
    "to_uint8",
    "write_png",
]

MASKS = ("bottom-half", "top-half", "left-half", "right-half", "centre")
"""The named masks: each says what is missing."""


_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def to_uint8(images: Tensor) -> np.ndarray:
    """Returns images as bytes, rounded and, for show, clipped to [−1, 1]: shape as given."""
    scaled = (images.detach().double().cpu().nan_to_num(nan=-1.0) + 1) * 127.5
    return scaled.round().clamp(0, 255).to(torch.uint8).numpy()


def snap(x: Tensor, levels: int | None) -> Tensor:
    """Returns the nearest values v · 2/(levels − 1) − 1 that a discretised model knows."""
    if levels is None:
        return x
    half = (levels - 1) / 2
    return ((x + 1) * half).round().clamp(0, levels - 1) / half - 1


def png(image: np.ndarray) -> bytes:
    """Returns bytes (C, H, W) as the content of a PNG file, grey where C is 1."""
    from PIL import Image

    buffer = io.BytesIO()
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Writes bytes (C, H, W) as a PNG, atomically.

    Raises:
        RunError: it cannot be written.
    """
    write_bytes(Path(path), png(image))


def read_events(
    path: Path, event_shape: Sequence[int], keys: Sequence[str] = (), reach: float = 1.0
) -> Tensor:
    """Reads images, or vectors, of the shape that a run models.

    An image file, a folder of them (sorted, not looked into more deeply), or an .npz, .npy or
    idx file of bytes or of numbers in [−1, 1]. Colours become grey or RGB as the event has one
    or three channels; sizes must fit as they are.

    Args:
        path: the file or folder.
        event_shape: (C, H, W), or (D,) for vectors, which only array files hold.
        keys: names to look for in an .npz with several arrays, the best first.
        reach: largest absolute value that an image's float may have.

    Returns:
        (n, *event), float32.

    Raises:
        DataError: missing, damaged, empty, or of another shape; the message names the file.
    """
    folder = is_folder(str(path))
    if folder is None:
        raise DataError(f"There is no file or folder {path}.")
    if not folder and is_array_file(path):
        return _from_array(path, read_array(path, keys), tuple(event_shape), reach)
    if len(event_shape) != 3:
        raise DataError(f"{path} must be an .npz, .npy or idx file: this run models vectors.")
    if not folder:
        return _read_image(path, event_shape)[None]
    try:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in _SUFFIXES and f.is_file())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise DataError(f"{path} holds no images ({', '.join(_SUFFIXES)}).")
    return torch.stack([_read_image(file, event_shape) for file in files])


def read_mask(text: str, event_shape: Sequence[int]) -> Tensor:
    """Returns which pixels are known: bool, (1, 1, H, W).

    Args:
        text: a name of `MASKS`, which says what is missing, or an image file: white is known.
        event_shape: (C, H, W).

    Raises:
        UsageError: neither a name nor a file, or nothing is missing.
        DataError: the file is no image of the event's size.
    """
    _, height, width = event_shape
    known = torch.ones(1, 1, height, width, dtype=torch.bool)
    missing = {
        "bottom-half": (slice(height // 2, None), slice(None)),
        "top-half": (slice(None, height // 2), slice(None)),
        "left-half": (slice(None), slice(None, width // 2)),
        "right-half": (slice(None), slice(width // 2, None)),
        "centre": (_middle(height), _middle(width)),
    }
    missing["center"] = missing["centre"]
    if text in missing:
        known[(..., *missing[text])] = False
    elif Path(text).is_file():
        known = _read_image(Path(text), (1, height, width))[None] > 0
    else:
        raise UsageError(
            f"The mask '{text}' is neither a file nor a name{near_misses(text, MASKS)}"
        )
    if known.all():
        raise UsageError(f"The mask '{text}' leaves nothing to draw: white is known, black is not.")
    return known


def read_columns(text: str, event_shape: Sequence[int]) -> Tensor:
    """Returns which columns of vectors are known: bool, (1, D).

    Args:
        text: what is missing: the numbers of columns, from 0, with commas between; or "last-half".
        event_shape: (D,).

    Raises:
        UsageError: there is no such column.
    """
    (columns,) = event_shape
    known = torch.ones(1, columns, dtype=torch.bool)
    if text == "last-half":
        known[:, columns // 2 :] = False
        return known
    try:
        missing = [int(part) for part in text.split(",")]
    except ValueError:
        missing = [-1]
    if not all(0 <= column < columns for column in missing):
        raise UsageError(
            f"The mask '{text}' must be last-half, or the numbers of missing columns with commas "
            f"between, from 0 to {columns - 1}."
        )
    known[:, missing] = False
    return known


def _middle(length: int) -> slice:
    return slice(length // 4, length - length // 4)


def _read_image(path: Path, event_shape: Sequence[int]) -> Tensor:
    """Reads one image as float32 (C, H, W) in [−1, 1]; its size is checked before its pixels."""
    channels, height, width = event_shape

    def check(size: tuple[int, int]) -> None:
        if size != (width, height):
            raise DataError(
                f"{path} is {size[0]}×{size[1]}, and this run models {width}×{height}: resize it."
            )

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = _pixels(open_image(path, check), channels)
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their formats do
        raise DataError(f"{path} cannot be read as an image: {reason(error)}.") from error
    return torch.from_numpy(pixels).float() / 127.5 - 1


def _pixels(image: "Image", channels: int) -> np.ndarray:
    if channels not in (1, 3):
        raise ValueError(f"this run's images have {channels} channels; give an .npz file")
    return to_array(image, channels).copy()


def read_array(path: Path, keys: Sequence[str] = ()) -> np.ndarray:
    """Reads one array of an .npz, .npy or idx file; nothing in it can run code.

    Args:
        path: the file.
        keys: names to look for in an .npz with several arrays, the best first.

    Raises:
        DataError: damaged, or several arrays and none of these names.
    """
    try:
        held = list(stored(path))
        known = [key for key in keys if key in held]
        names = known or (held if len(held) == 1 else [])
        arrays = load(path, names[:1])
    except Exception as error:  # zipfile and zlib raise their own kinds on damaged archives
        said = reason(error)
        raise DataError(f"{path} cannot be read as an array file: {said}.") from error
    if not arrays:
        wanted = " or ".join(keys) or "one array"
        have = ", ".join(held) or "nothing"
        raise DataError(f"{path} must hold one array, or {wanted}; it holds {have:.300}.")
    return arrays[names[0]]


def _from_array(path: Path, array: np.ndarray, event: tuple[int, ...], reach: float) -> Tensor:
    shaped = _shaped(array, event)
    if shaped is None or array.dtype.kind not in "fu" or not array.size:
        shape = "×".join(map(str, event))
        raise DataError(
            f"{path} must hold events of shape {shape}, as bytes or floats, "
            f"not {array.dtype} of shape {array.shape}."
        )
    if shaped.dtype == np.uint8 and len(event) == 3:
        return torch.from_numpy(shaped.astype(np.float32)) / 127.5 - 1
    values = torch.from_numpy(shaped.astype(np.float32))
    if not values.isfinite().all():
        raise DataError(f"{path} holds values that are not finite.")
    largest = float(values.abs().max())
    if len(event) == 3 and largest > reach + 1e-6:
        raise DataError(
            f"{path} has values up to {largest:.4g}: images are bytes, or floats in [−1, 1]."
        )
    return values


def _shaped(array: np.ndarray, event: tuple[int, ...]) -> np.ndarray | None:
    """Returns the array as (n, *event), from the layouts that people use; None if it is none."""
    if array.shape == event:
        return array[None]
    if array.shape[1:] == event:
        return array
    if len(event) != 3:
        return None
    channels, height, width = event
    if array.shape[-3:] == (height, width, channels) and array.ndim in (3, 4):
        return np.moveaxis(array, -1, -3).reshape(-1, *event)
    if channels == 1 and array.shape[-2:] == (height, width) and array.ndim in (2, 3):
        return array.reshape(-1, *event)
    return None
