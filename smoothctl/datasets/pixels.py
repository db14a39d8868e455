"""One image, from a file, its bytes or an array, as 8-bit grey or RGB pixels of a given size."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smoothctl.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "Content", "arrange", "arranged", "open_image", "to_array"]

Content = Path | bytes | np.ndarray
"""What an image is stored as; an array has shape (H, W) or (H, W, 3), uint8."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""What is decoded, whatever a file is called: PostScript would be run by another program."""

_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_CLEAR = ("LA", "PA", "La", "RGBA", "RGBa")


def open_image(content: Content, check: Callable[[tuple[int, int]], None] | None = None) -> "Image":
    """Decodes an image to mode L (grey) or RGB.

    Of an animation it is the first frame; transparent pixels are laid on white; 16 bits are
    rounded to 8; palettes, CMYK and other colour spaces become RGB; EXIF rotation is ignored.

    Args:
        content: what it is stored as.
        check: told a file's (width, height) before its pixels are decoded; raises if wrong.

    Raises:
        Exception: whatever Pillow raises for a file that is damaged or no image.
    """
    from PIL import Image

    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    if isinstance(content, Path) and content.exists() and not content.is_file():
        raise ValueError("it is no plain file")  # a pipe would keep its reader waiting
    if content == b"":
        raise ValueError("the image is missing")  # as of a row of a table that has none
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    with Image.open(file, formats=FORMATS) as image:
        if check is not None:
            check(image.size)
        image.load()
        return _eight_bits(image)


def _eight_bits(image: "Image") -> "Image":
    from PIL import Image

    if image.mode in ("L", "RGB"):
        return image.copy()
    if image.mode == "1":
        return image.convert("L")
    if image.mode in _SIXTEEN_BITS:
        return Image.fromarray(_rounded(np.asarray(image)))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if image.mode in _CLEAR or "transparency" in image.info:
        grey = image.mode in ("LA", "La")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
        return image.convert("L" if grey else "RGB")
    return image.convert("RGB")


def _rounded(wide: np.ndarray) -> np.ndarray:
    """Scales 0 … 65,535 to 0 … 255."""
    if wide.min() < 0 or wide.max() > 65_535:
        raise ValueError("pixels of more than 16 bits")
    wide = wide.astype(np.uint32)
    wide += 128
    wide //= 257
    return wide.astype(np.uint8)


def arranged(
    found: tuple[int, int], crop: int | None, size: int | None, where: str
) -> tuple[int, int]:
    """Returns the width and height that `arrange` makes of those of an image.

    Raises:
        DataError: the image is smaller than `crop`.
    """
    if (crop or 0) > min(found):
        width, height = found
        raise DataError(
            f"{where} is {width}×{height}, smaller than crop={crop}: set a smaller crop, or 0."
        )
    side = size or crop
    return (side, side) if side else found


def arrange(image: "Image", crop: int | None, size: int | None, where: str) -> "Image":
    """Cuts the centre and resizes.

    Args:
        image: of mode L or RGB.
        crop: side of the centred square to cut; none if 0 or None.
        size: side to resize to, with the antialiased Lanczos filter; none if 0 or None. What is
            not square loses its longer ends first, so that nothing is distorted.
        where: the image, for messages.

    Raises:
        DataError: the image is smaller than `crop`.
    """
    from PIL import Image

    wanted = arranged(image.size, crop, size, where)
    side = crop or (min(image.size) if size else 0)
    if side:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return image if image.size == wanted else image.resize(wanted, Image.Resampling.LANCZOS)


def to_array(image: "Image", channels: int) -> np.ndarray:
    """Returns the pixels as uint8 with shape (channels, H, W); 1 channel is the luma."""
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
