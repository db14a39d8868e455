"""Annealed Langevin dynamics: samples, completions and what lies on the way, step by step."""

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from smoothctl.rng import normal

__all__ = ["Convention", "ImageNoise", "Known", "Noise", "Score", "langevin", "vector_noise"]

Convention = Literal["paper", "image-code"]
"""What a step is: x + α/2·s + √α·z in NCSN's algorithm 1, x + α·s + √(2α)·z in its image code."""

Score = Callable[[Tensor, int], Tensor]
"""s(x, i) at the i-th level, counted from 0: (n, *event) to the same shape."""

Noise = Callable[[], Tensor]
"""Gives fresh standard normals, (n, *event), at every call."""


class Known(NamedTuple):
    """Coordinates that are given, for inpainting (NCSN algorithm 2)."""

    x: Tensor
    """Their values, (n, *event); elsewhere whatever."""

    mask: Tensor
    """True where they are known, broadcastable to x."""

    sigma: float
    """The noise that x has already: 0 for clean data, the kernel's σ for x̃."""


def langevin(
    score: Score,
    x: Tensor,
    levels: Tensor,
    steps: int,
    step_size: float,
    noise: Noise,
    convention: Convention = "paper",
    known: Known | None = None,
) -> Iterator[Tensor]:
    """Yields x after every step of annealed Langevin dynamics (NCSN algorithm 1).

    At level σᵢ the step size is αᵢ = ε σᵢ²/σ_L². One level alone is plain Langevin dynamics.
    Known coordinates follow at each level with the noise of that level (NCSN algorithm 2); at a
    last level of no more noise than they have already they are exact.

    Args:
        score: the model.
        x: where to start, (n, *event).
        levels: σ₁ > … > σ_L, (L,).
        steps: T, steps at each level.
        step_size: ε, in units of squared data.
        noise: gives standard normals like x.
        convention: what a step is.
        known: what is not to be drawn.
    """
    half = 1.0 if convention == "image-code" else 0.5
    for i, sigma in enumerate(levels.tolist()):
        alpha = step_size * (sigma / float(levels[-1])) ** 2
        given = None if known is None else _at_level(known, sigma, noise)
        x = _with_known(x, known, given)
        for _ in range(steps):
            x = x + half * alpha * score(x, i) + math.sqrt(2 * half * alpha) * noise()
            x = _with_known(x, known, given)
            yield x


def _at_level(known: Known, sigma: float, noise: Noise) -> Tensor:
    extra = math.sqrt(max(0.0, sigma**2 - known.sigma**2))
    return known.x + extra * noise() if extra > 0 else known.x


def _with_known(x: Tensor, known: Known | None, given: Tensor | None) -> Tensor:
    return x if known is None or given is None else torch.where(known.mask, given, x)


def vector_noise(like: Tensor, generator: Generator | None) -> Noise:
    """Returns noise for vectors, all rows from one generator."""
    return lambda: normal(like.shape, like, generator)


class ImageNoise:
    """Noise for images, each from a generator of its own: no image depends on its batch.

    Args:
        like: gives shape, (n, C, H, W), dtype and device.
        source: where the images' seeds come from.
    """

    _AHEAD = 16

    def __init__(self, like: Tensor, source: Generator | None) -> None:
        self._like = like
        if source is None:
            source = torch.Generator()
            source.seed()
        seeds = torch.randint(2**62, (len(like),), generator=source, device=source.device)
        self._own = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        self._drawn: list[Tensor] = []

    def __call__(self) -> Tensor:
        """Returns the next (n, C, H, W); draws several at once, as each generator takes time."""
        if not self._drawn:
            shape = (self._AHEAD, *self._like.shape[1:])
            blank = torch.empty(0, dtype=self._like.dtype)
            rows = torch.stack([normal(shape, blank, own) for own in self._own], dim=1)
            self._drawn = list(rows.unbind())[::-1]
        return self._drawn.pop().to(self._like.device)
