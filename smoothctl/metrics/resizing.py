"""Images resized as clean-fid does it, for networks that take one size."""

import re
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from smoothctl.errors import NotAvailable

__all__ = ["Resize"]


class Resize:
    """Pillow's bicubic filter on floats, clipped to 0 … 255 and not rounded (Parmar et al. 2022).

    Args:
        side: of the resized images, in pixels.

    Raises:
        NotAvailable: clean-fid is not installed.
    """

    def __init__(self, side: int) -> None:
        try:
            from cleanfid.resize import make_resizer
        except ImportError as error:
            raise NotAvailable(
                f"Resizing needs clean-fid ({error}): run pip install clean-fid."
            ) from error
        self._one: Callable[[np.ndarray], np.ndarray]
        self._one = make_resizer("PIL", False, "bicubic", (side, side))

    def __call__(self, images: Tensor) -> Tensor:
        """Returns resized images: uint8 (n, 1 or 3, H, W) -> float32 (n, 3, side, side)."""
        pixels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        threads = max(1, torch.get_num_threads())
        with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
            for category in (DeprecationWarning, FutureWarning):  # of Pillow, in clean-fid
                warnings.filterwarnings("ignore", re.escape("'mode' parameter"), category)
            resized = np.stack(list(pool.map(self._one, pixels)))
        return torch.from_numpy(resized).permute(0, 3, 1, 2).contiguous()
