"""The gain from x̃: how much better a denoiser knows x by its own x̃ than by another example's."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["GAIN_EXAMPLES", "gain_from_context", "gain_note"]

GAIN_EXAMPLES = {"image": 64, "vector": 1024}
"""How many examples tell it: an image costs as much as many vectors."""

_SMALL = 0.1
"""Bits a dimension under which a denoiser does not use x̃."""


@torch.no_grad()
def gain_from_context(log_prob: Callable[[Tensor], Tensor], x_smooth: Tensor) -> Tensor:
    """Returns log p(x|x̃) − log p(x|x̃′) of each example in nats, x̃′ being its neighbour's: (batch,).

    Zero for a denoiser that does not look at x̃. Of a perfect one the mean is at least the
    information that x̃ has about x; one that is too sure of itself may have more.

    Args:
        log_prob: maps x̃, (batch, *event), to log p(x|x̃) in nats, (batch,).
        x_smooth: the smoothed examples, at least two.
    """
    return log_prob(x_smooth) - log_prob(x_smooth.roll(1, 0))


def gain_note(nats: float, event_shape: Sequence[int]) -> str | None:
    """Returns a sentence where the gain is small; None where it is not.

    Args:
        nats: the mean gain an example.
        event_shape: of the examples.
    """
    bits = nats / math.prod(event_shape) / math.log(2)
    if bits >= _SMALL:
        return None
    return (
        f"The denoiser does not use x̃ yet (gain {bits:.4f} bits a dimension): fit longer, or take "
        "a smaller sigma if it hides nearly all of x."
    )
