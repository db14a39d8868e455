"""Denoising and inpainting of given events with the models of a run."""

from typing import NamedTuple, overload

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density
from smoothctl.datasets.pictures import snap
from smoothctl.errors import NotAvailable, RunError, UsageError, near_misses
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import available_methods, best_method, class_labels, say_how
from smoothctl.smoothing import batching
from smoothctl.smoothing.batching import AT_ONCE, Execution
from smoothctl.smoothing.resampling import completions, resample
from smoothctl.smoothing.two_step import TwoStep

__all__ = [
    "INPAINTING",
    "Denoised",
    "Inpainted",
    "denoise",
    "inpaint",
    "inpainting_method",
    "kernel_sigma",
    "number_of_candidates",
    "smooth",
]

INPAINTING = ("two-step", "single-step", "baseline")
"""The methods that can complete an image, the best first."""

_CANDIDATES = 8
"""That a completion is chosen from unless one asks for another number."""


class Denoised(NamedTuple):
    """What denoising gives for each x̃."""

    smoothed: Tensor
    """x̃, (n, *event)."""
    single_step: Tensor | None
    """E[x|x̃], (n, *event); None where the kernel has no usable form."""
    samples: Tensor
    """Draws from p(x|x̃), (n, draws, *event)."""


class Inpainted(NamedTuple):
    """What inpainting gives for each image."""

    images: Tensor
    """What was completed, on the model's grid of values, (n, *event)."""
    known: Tensor
    """Where it was kept: bool, (1 or n, 1, H, W) or (1 or n, D)."""
    samples: Tensor
    """The completed images, (n, draws, *event)."""


def kernel_sigma(run: Run) -> float:
    """Returns the standard deviation of the run's smoothing, in data units."""
    return _two_step(run).kernel.sigma


def smooth(run: Run, x: Tensor, seed: int = 0) -> Tensor:
    """Adds the noise of the run's kernel to clean events: shape of x, on the run's device."""
    method = _two_step(run)
    x = snap(_like(method.prior, x), method.denoiser.levels if method.denoiser else None)
    return method.kernel.sample(x, generator(seed, "noise"))


def denoise(
    run: Run,
    x_smooth: Tensor,
    draws: int = 4,
    seed: int = 0,
    labels: Tensor | int | None = None,
    execution: Execution = AT_ONCE,
) -> Denoised:
    """Draws from p(x|x̃) for given x̃, beside the single-step mean.

    Args:
        run: an opened run with prior and denoiser.
        x_smooth: noisy events, (n, *event), in data units and never clipped.
        draws: how many for each.
        seed: determines the draws.
        labels: classes, int64 (n,), or one for all, for class-conditional models.
        execution: how they are drawn, which does not change them.

    Raises:
        UsageError: fewer than one draw, or more than memory holds.
        RunError: a stage is missing or half done.
    """
    method = _two_step(run)
    x_smooth = _like(method.prior, x_smooth)
    batching.check_room(method.prior, len(x_smooth) * draws, 2)
    classes = _classes(method, labels, len(x_smooth))
    try:
        mean = method.single_step(x_smooth, classes)
    except NotAvailable:
        mean = None
    rows, repeated = _repeated(x_smooth, draws), _repeated(classes, draws)
    samples = method.denoise(rows, repeated, generator(seed, "denoised"), execution)
    say_how(method, execution)
    return Denoised(x_smooth, mean, _by_draw(samples, draws))


def inpaint(
    run: Run,
    x: Tensor,
    known: Tensor,
    draws: int = 4,
    method: str | None = None,
    seed: int = 0,
    labels: Tensor | int | None = None,
    execution: Execution = AT_ONCE,
    candidates: int | None = None,
) -> Inpainted:
    """Draws what is missing of given events (ARDS appendix C.2); what is known stays exactly.

    A draw is conditioned on what comes before it in the model's order, and two-step on no more
    than x̃ of that: the more candidates it is chosen from, the nearer it is to one of p(x | all
    that is known).

    Args:
        run: an opened run.
        x: clean events, (n, *event), images in [−1, 1]; what is not known is ignored.
        known: bool, True where x is kept: (1 or n, 1, H, W) for images, (1 or n, D) for vectors.
        draws: how many for each.
        method: "two-step"; "single-step", where the prior completes x̃ and E[x|x̃] is taken of
            that; or "baseline" for the unsmoothed model. None: the first that the run allows.
        seed: determines the draws.
        labels: classes, int64 (n,), or one for all, for class-conditional models.
        execution: how they are drawn, which does not change them.
        candidates: that each draw is chosen from, in proportion to how likely they make what is
            known (`resample`); 1: the procedure of the paper; None: 8, and 1 of single-step and
            where the model cannot weigh them.

    Raises:
        UsageError: an unknown method, a mask of another shape, fewer than one draw or candidate,
            or more than memory holds.
        RunError: a stage that the method needs is missing or half done.
        NotAvailable: the architecture cannot inpaint, or not weigh candidates.
    """
    method = inpainting_method(run) if method is None else method
    model = _model(run, method)
    last = model if isinstance(model, Density) else model.denoiser or model.prior
    last.check_known(known, len(x))
    batching.check_room(last, len(x) * draws, 4)
    candidates = _candidates(model, method, candidates)
    x, known = snap(_like(last, x), last.levels), known.to(_like(last, x).device)
    rows, mask = _repeated(x, draws), known if len(known) == 1 else _repeated(known, draws)
    classes = _repeated(_classes(model, labels, len(x)), draws)
    stream = generator(seed, "inpainted")
    if candidates > 1:
        samples = _chosen(model, rows, mask, candidates, classes, stream, execution)
    elif isinstance(model, Density):
        samples = batching.inpaint(model, rows, mask, None, classes, stream, execution)
    elif method == "two-step":
        samples = model.inpaint(rows, mask, classes, stream, execution)
    else:
        x_smooth = model.inpaint_smoothed(rows, mask, classes, stream, execution)
        samples = torch.where(mask, rows, model.single_step(x_smooth, classes))
    say_how(model, execution)
    return Inpainted(x, known, _by_draw(samples, draws))


def inpainting_method(run: Run) -> str:
    """Returns the best method that the run's stages allow, which all can inpaint.

    Raises:
        RunError: they allow none.
    """
    return best_method(run)


def number_of_candidates(run: Run, method: str, wanted: int | None = None) -> int:
    """Returns how many candidates `inpaint` chooses from, where so many are wanted.

    Raises:
        UsageError: fewer than one, or an unknown method.
        RunError: a stage that the method needs is missing or half done.
        NotAvailable: several, and the method cannot weigh them.
    """
    return _candidates(_model(run, method), method, wanted)


def _candidates(model: TwoStep | Density, method: str, wanted: int | None) -> int:
    """Returns how many candidates to choose from; see `number_of_candidates`."""
    stages = (model,) if isinstance(model, Density) else (model.prior, model.denoiser)
    able = all(stage is not None and stage.weighs_completions for stage in stages)
    weighed = able and method != "single-step"
    if wanted is None:
        return _CANDIDATES if weighed else 1
    if wanted < 1:
        raise UsageError(f"The number of candidates must be at least 1, not {wanted}.")
    if wanted > 1 and not weighed:
        raise NotAvailable(
            f"{method} of this run cannot weigh candidates by how likely they make what is known: "
            "ask for one candidate."
        )
    return wanted


def _model(run: Run, method: str) -> TwoStep | Density:
    """Returns what inpaints by a method, checked before any work."""
    if method not in INPAINTING:
        raise UsageError(f"'{method}' cannot inpaint{near_misses(method, INPAINTING)}")
    return run.density("baseline") if method == "baseline" else _smoothed(run, method)


def _chosen(
    model: TwoStep | Density,
    x: Tensor,
    known: Tensor,
    candidates: int,
    labels: Tensor | None,
    stream: Generator,
    execution: Execution,
) -> Tensor:
    """Returns one of several completions of each row, in proportion to its weight."""
    if isinstance(model, Density):
        found = completions(model, x, known, candidates, labels, stream, execution)
    else:
        found = model.completions(x, known, candidates, labels, stream, execution)
    chosen = resample(found, stream)
    effective = float(chosen.effective.mean())
    few = (
        ": more `candidates` may fit better to what is known" if 2 * effective < candidates else ""
    )
    execution.note(
        f"Each draw was chosen among {candidates} candidates, of which {effective:.1f} count by "
        f"their weights{few}."
    )
    return chosen.rows


def _smoothed(run: Run, method: str) -> TwoStep:
    """Returns the model for two-step or single-step inpainting, checked before any work."""
    if method == "two-step":
        return _two_step(run)
    model = run.two_step()
    if model is None:
        raise RunError(run.stage("prior").lacking())
    model.check_single_step()
    return model


def _two_step(run: Run) -> TwoStep:
    if "two-step" not in available_methods(run):
        run.check("prior", "denoiser")
    method = run.two_step()
    assert method is not None
    return method


def _like(density: Density, x: Tensor) -> Tensor:
    """Returns x in the density's precision and on its device."""
    first = next(density.parameters(), None)
    return x if first is None else x.to(first)


def _classes(model: TwoStep | Density, labels: Tensor | int | None, n: int) -> Tensor | None:
    """Returns the labels where the model has classes, on its device."""
    if isinstance(labels, int):
        return class_labels(model, 0, n, labels)
    wanted = class_labels(model, 0, n)
    if wanted is None:
        return None
    if labels is None:
        raise UsageError(
            f"This run is conditioned on {model.classes} classes: name the images' class (`label`)."
        )
    return labels.to(wanted)


@overload
def _repeated(rows: Tensor, draws: int) -> Tensor: ...
@overload
def _repeated(rows: None, draws: int) -> None: ...
@overload
def _repeated(rows: Tensor | None, draws: int) -> Tensor | None: ...
def _repeated(rows: Tensor | None, draws: int) -> Tensor | None:
    """Returns all rows, then all again, `draws` times: more draws leave the first ones alone."""
    if draws < 1:
        raise UsageError(f"The number of draws must be at least 1, not {draws}.")
    return None if rows is None else torch.cat([rows] * draws)


def _by_draw(samples: Tensor, draws: int) -> Tensor:
    """(draws · n, *event) -> (n, draws, *event)."""
    return samples.view(draws, -1, *samples.shape[1:]).transpose(0, 1).contiguous()
