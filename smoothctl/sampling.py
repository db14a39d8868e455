"""Samples of a run by method: what is available, and drawing from it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.errors import RunError, UsageError, near_misses
from smoothctl.files import write_bytes
from smoothctl.randomness import generator
from smoothctl.runs import Run
from smoothctl.smoothing import TwoStep

__all__ = [
    "METHODS",
    "Drawn",
    "Method",
    "available_methods",
    "check_target",
    "draw",
    "save_samples",
]

Method = Literal["two-step", "single-step", "smoothed", "baseline"]
METHODS: tuple[Method, ...] = get_args(Method)


class Drawn(NamedTuple):
    """Samples (n, *event) and, for methods that start from it, the smoothed x̃ of each."""

    samples: Tensor
    smoothed: Tensor | None


def available_methods(run: Run) -> list[Method]:
    """Returns the methods that the run's complete stages allow, the best first."""
    stages = run.stages()
    found: list[Method] = []
    if "joint" in stages or {"prior", "denoiser"} <= set(stages):
        found.append("two-step")
    if "joint" in stages or "prior" in stages:
        found += ["single-step", "smoothed"]
    if "baseline" in stages:
        found.append("baseline")
    return found


def draw(run: Run, method: str, n: int, seed: int = 0, progress: Progress | None = None) -> Drawn:
    """Draws n samples; the same seed gives all methods the same x̃.

    Args:
        run: an opened run.
        method: one of METHODS.
        n: how many.
        seed: determines the samples.
        progress: told (dimensions done, dimensions).

    Raises:
        UsageError: an unknown method, or n below one.
        RunError: the run lacks a stage that the method needs.
        NotAvailable: the kernel has no usable posterior mean.
    """
    if method not in METHODS:
        raise UsageError(f"There is no method '{method}'{near_misses(method, METHODS)}")
    if n < 1:
        raise UsageError(f"The number of samples must be at least 1, not {n}.")
    available = available_methods(run)
    if method not in available:
        have = ", ".join(available) or "none"
        raise RunError(f"{run.path} lacks the stages for '{method}' samples; it allows: {have}.")
    if method == "baseline":
        stream = generator(seed, "baseline")
        return Drawn(run.density("baseline").sample(n, generator=stream, progress=progress), None)
    two_step = run.method()
    assert two_step is not None
    smoothed = two_step.sample_smoothed(n, generator(seed, "smoothed"), progress)
    finish: dict[str, Callable[[TwoStep], Drawn]] = {
        "smoothed": lambda _: Drawn(smoothed, None),
        "single-step": lambda t: Drawn(t.single_step(smoothed), smoothed),
        "two-step": lambda t: Drawn(
            t.denoise(smoothed, generator(seed, "denoised"), progress), smoothed
        ),
    }
    return finish[method](two_step)


def check_target(path: Path, overwrite: bool) -> None:
    """Checks, before any work, that samples may be written to a path and its picture beside it.

    Raises:
        UsageError: the path does not end in .npz.
        RunError: one of the files is there and must not be replaced.
    """
    if path.suffix != ".npz":
        raise UsageError(f"Samples are written as .npz, not as '{path.name}'.")
    for file in (path, path.with_suffix(".png")):
        if file.exists() and not overwrite:
            raise RunError(f"{file} is there already: choose another --out, or --overwrite it.")


def save_samples(path: Path, drawn: Drawn) -> None:
    """Writes an .npz file with `samples` and, where there are any, `smoothed`, atomically.

    Raises:
        RunError: it cannot be written.
    """
    arrays = {"samples": drawn.samples.cpu().numpy()}
    if drawn.smoothed is not None:
        arrays["smoothed"] = drawn.smoothed.cpu().numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())
