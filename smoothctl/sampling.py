"""Samples of a run by method: what is available, and drawing from it."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from smoothctl import batches
from smoothctl.architectures.base import Density, Progress
from smoothctl.batches import evaluate, part_of, rows_that_fit
from smoothctl.errors import NotAvailable, RunError, UsageError, near_misses
from smoothctl.files import write_bytes
from smoothctl.pictures import check_folder
from smoothctl.randomness import generator
from smoothctl.runs import Run
from smoothctl.smoothing import TwoStep

__all__ = [
    "METHODS",
    "Drawn",
    "Method",
    "available_methods",
    "check_target",
    "class_labels",
    "draw",
    "draw_all",
    "draw_frames",
    "event_shape",
    "is_image_run",
    "save_arrays",
    "save_samples",
    "unsmoothed_single_steps",
    "usable_methods",
]

Method = Literal["two-step", "single-step", "smoothed", "baseline"]
METHODS: tuple[Method, ...] = get_args(Method)
FRAMED: tuple[Method, ...] = ("smoothed", "baseline")
"""The methods whose samples may have intermediate states."""


class Drawn(NamedTuple):
    """Samples (n, *event) with what belongs to them."""

    samples: Tensor
    smoothed: Tensor | None = None
    """The x̃ of each, for methods that start from it."""
    labels: Tensor | None = None
    """The class that each was drawn for, (n,), where the model has classes."""


def event_shape(run: Run) -> tuple[int, ...]:
    """Returns the shape of the events that the run's stages model."""
    return next(iter(run.configs().values())).event_shape


def is_image_run(run: Run) -> bool:
    """Returns whether the run models images."""
    return len(event_shape(run)) == 3


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


def usable_methods(run: Run, missing: dict[str, str]) -> list[Method]:
    """Returns the ways to clean samples, the best first: what the stages and the kernel allow.

    Args:
        run: an opened run.
        missing: is told why single-step is left out, where it is.
    """
    methods = available_methods(run)
    if "smoothed" in methods:
        methods.remove("smoothed")
    two_step = run.method()
    try:
        if two_step is not None:
            two_step.check_single_step()
    except NotAvailable as error:
        missing["single-step"] = str(error)
        methods.remove("single-step")
    return methods


def draw(
    run: Run,
    method: str,
    n: int,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    batch_size: int | None = None,
    label: int | None = None,
) -> Drawn:
    """Draws n samples; the same seed gives all methods the same x̃.

    Args:
        run: an opened run.
        method: one of METHODS.
        n: how many.
        seed: determines the samples.
        progress: told (done, total).
        batch_size: images drawn at once, which does not change them; chosen from memory if None.
        label: the class to draw, for class-conditional models; all in turn if None.

    Raises:
        UsageError: an unknown method, n or a batch size below one, or no such class.
        RunError: the run lacks a stage that the method needs.
        NotAvailable: the kernel has no usable posterior mean.
    """
    return draw_all(run, [method], n, seed, progress, batch_size=batch_size, label=label)[method]


def draw_all(
    run: Run,
    methods: Sequence[str],
    n: int,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    batch_size: int | None = None,
    label: int | None = None,
) -> dict[str, Drawn]:
    """Draws n samples by each of several methods from the same x̃; see `draw`."""
    _check(run, methods, n)
    found: dict[str, Drawn] = {}
    smoothing = [method for method in methods if method != "baseline"]
    passes = bool(smoothing) + ("two-step" in methods) + ("baseline" in methods)
    parts = [part_of(progress, part, passes) for part in range(passes)]
    if smoothing:
        two_step = run.method()
        assert two_step is not None
        if "single-step" in methods:
            two_step.check_single_step()
        labels = class_labels(two_step, n, label)
        rest = (labels, batch_size)
        x_smooth = two_step.sample_smoothed(n, generator(seed, "smoothed"), parts.pop(0), *rest)
        for method in smoothing:
            if method == "smoothed":
                found[method] = Drawn(x_smooth, None, labels)
            elif method == "single-step":
                found[method] = Drawn(two_step.single_step(x_smooth, labels), x_smooth, labels)
            else:
                stream = generator(seed, "denoised")
                samples = two_step.denoise(x_smooth, stream, parts.pop(0), *rest)
                found[method] = Drawn(samples, x_smooth, labels)
    if "baseline" in methods:
        density = run.density("baseline")
        labels = class_labels(density, n, label)
        stream = generator(seed, "baseline")
        samples = batches.sample(density, n, None, stream, parts.pop(0), labels, batch_size)
        found["baseline"] = Drawn(samples, None, labels)
    return {method: found[method] for method in methods}


def draw_frames(
    run: Run, method: str, n: int, frames: int, seed: int = 0, progress: Progress | None = None
) -> Tensor:
    """Draws n samples and keeps their states on the way, where the architecture has any.

    Args:
        run: an opened run.
        method: "smoothed", the x̃ of the prior; or "baseline".
        n: how many.
        frames: states of each to keep; the last are the samples that `draw` gives for the seed.
        seed: determines the samples.
        progress: told (done, total).

    Returns:
        Shape (frames, n, *event).

    Raises:
        UsageError: another method, or n or frames below one.
        RunError: the run lacks a stage that the method needs.
        NotAvailable: the architecture draws its samples in one go.
    """
    if method not in FRAMED:
        raise UsageError(
            f"Frames are of the {' or '.join(FRAMED)} samples, not of '{method}': choose a method."
        )
    if frames < 1:
        raise UsageError(f"The number of frames must be at least 1, not {frames}.")
    _check(run, [method], n)
    density = run.density("baseline" if method == "baseline" else "prior")
    return density.trajectory(n, frames, generator(seed, method), progress)


def _check(run: Run, methods: Sequence[str], n: int) -> None:
    if n < 1:
        raise UsageError(f"The number of samples must be at least 1, not {n}.")
    available = available_methods(run)
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"There is no method '{method}'{near_misses(method, METHODS)}")
        if method not in available:
            have = ", ".join(available) or "none"
            raise RunError(
                f"{run.path} lacks the stages for '{method}' samples; it allows: {have}."
            )


def class_labels(model: TwoStep | Density, n: int, label: int | None = None) -> Tensor | None:
    """Returns the classes of n samples: the given one, or all in turn; None without classes.

    Returns:
        int64 (n,), on the model's device.

    Raises:
        UsageError: there is no such class, or the model has none.
    """
    classes = model.classes
    if classes is None:
        if label is not None:
            raise UsageError("This run was fitted without classes: leave --label out.")
        return None
    if label is not None and not 0 <= label < classes:
        raise UsageError(f"There is no class {label}; this run has 0 to {classes - 1}.")
    device = batches.device_of(model.prior if isinstance(model, TwoStep) else model)
    if label is None:
        return torch.arange(n, device=device) % classes
    return torch.full((n,), label, device=device)


def unsmoothed_single_steps(
    density: Density, x: Tensor, sigmas: Sequence[float], labels: Tensor | None = None
) -> dict[float, Tensor]:
    """Returns x + σ² ∇ log p(x) of an unsmoothed model for each σ (ARDS appendix C.6).

    What single-step denoising does without smoothing: a discretised model's log-mass is
    differentiated, as if its argument were a real number.

    Args:
        density: a model of clean data.
        x: its samples, (n, *event).
        sigmas: the step sizes, standard deviations in data units.
        labels: classes, int64 (n,), for a class-conditional model.

    Raises:
        UsageError: a σ that is not positive and finite.
        NotAvailable: the model has no score.
    """
    for sigma in sigmas:
        if not (math.isfinite(sigma) and sigma > 0):
            raise UsageError(f"Each sigma must be positive and finite, not {sigma:g}.")
    rows = rows_that_fit(density, gradient=True)
    score = evaluate(density.score, rows, x, labels=labels)
    return {sigma: x + sigma**2 * score for sigma in sigmas}


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
            raise RunError(f"{file} is a folder: choose another --out.")
        if file.exists() and not overwrite:
            raise RunError(f"{file} is there already: choose another --out, or --overwrite it.")


def save_samples(path: Path, drawn: Drawn) -> None:
    """Writes an .npz file with `samples` and, where there are any, `smoothed` and `labels`.

    Raises:
        RunError: it cannot be written.
    """
    save_arrays(path, drawn._asdict())


def save_arrays(path: Path, arrays: Mapping[str, Tensor | None]) -> None:
    """Writes an .npz file of the tensors that are there, atomically.

    Raises:
        RunError: it cannot be written.
    """
    plain = {name: tensor.cpu().numpy() for name, tensor in arrays.items() if tensor is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **plain)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())
