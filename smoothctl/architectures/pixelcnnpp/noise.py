"""The noise that determines a sampled image: drawn image by image, whatever the batch."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from smoothctl.rng import row_generators, uniform

__all__ = ["PixelNoise", "pixel_noise"]


class PixelNoise(NamedTuple):
    """Standard noise for every pixel of n images."""

    gumbel: Tensor
    """Chooses the components: (H, W, n, K)."""

    logistic: Tensor
    """Places the channels: (H, W, n, C)."""


def pixel_noise(
    n: int,
    height: int,
    width: int,
    mixtures: int,
    channels: int,
    like: Tensor,
    source: Generator | None,
) -> PixelNoise:
    """Draws the noise of n images.

    Each image has a generator of its own, seeded by the next number from `source`: the i-th image
    drawn from a source is the same however the images are cut into batches.

    Args:
        n: images.
        height: of each.
        width: of each.
        mixtures: K.
        channels: C.
        like: gives dtype and device.
        source: where the images' seeds come from; fresh entropy if None.
    """
    blank = torch.empty(0, dtype=like.dtype)
    shape = (height, width, n, mixtures + channels)
    draws = torch.empty(shape, dtype=like.dtype)
    for i, own in enumerate(row_generators(n, source)):
        draws[:, :, i] = uniform((height, width, mixtures + channels), blank, own)
    u, v = draws.to(like.device).split([mixtures, channels], dim=-1)
    return PixelNoise(u.log().neg_().log_().neg_(), torch.logit(v))
