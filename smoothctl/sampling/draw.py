"""Samples of a run by method: what is available, and drawing from it."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import torch
from torch import Generator, Tensor

from smoothctl import __version__
from smoothctl.architectures.base import Density, Progress
from smoothctl.distributed.processes import ALONE
from smoothctl.errors import NotAvailable, RunError, UsageError, near_misses
from smoothctl.rng import generator, skipped
from smoothctl.runs.config import StageName
from smoothctl.runs.run import WALK, Run
from smoothctl.smoothing import batching
from smoothctl.smoothing.batching import AT_ONCE, Execution, evaluate, rows_that_fit, spans
from smoothctl.smoothing.cascade import Cascade
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.storage.partial import PartialResults

__all__ = [
    "METHODS",
    "Method",
    "Samples",
    "available_methods",
    "best_method",
    "class_labels",
    "draw",
    "draw_all",
    "draw_frames",
    "event_shape",
    "images_kept",
    "is_image_run",
    "samples_key",
    "say_how",
    "shard_size",
    "shown_methods",
    "unsmoothed_single_steps",
    "usable_methods",
]

Method = Literal["two-step", "single-step", "smoothed", "baseline"]
METHODS: tuple[Method, ...] = get_args(Method)
FRAMED: tuple[Method, ...] = ("smoothed", "baseline")
"""The methods whose samples may have intermediate states, and come from no x̃."""

_NEEDS: Mapping[str, tuple[StageName, ...]] = {
    "two-step": ("prior", "denoiser"),
    "single-step": ("prior",),
    "smoothed": ("prior",),
    "baseline": ("baseline",),
}
"""Method -> the stages that it draws from; a joint one is both prior and denoiser."""

_BATCHES = 8
"""Batches of a shard."""

_NAME = "images-{:08d}-{:08d}"
"""Of the part that holds a shard: its first image, and the one after its last."""


class Samples(NamedTuple):
    """Samples (n, *event) with what belongs to them."""

    samples: Tensor
    smoothed: Tensor | None = None
    """The x̃ of each, for methods that start from it."""
    labels: Tensor | None = None
    """The class that each was drawn for, (n,), where the model has classes."""


def event_shape(run: Run) -> tuple[int, ...]:
    """Returns the shape of the events that the run's stages model."""
    return run.config().event_shape


def is_image_run(run: Run) -> bool:
    """Returns whether the run models images."""
    return len(event_shape(run)) == 3


def available_methods(run: Run) -> list[Method]:
    """Returns the methods that the run's complete stages allow, the best first."""
    stages = set(run.stages())
    if "joint" in stages:
        stages |= {"prior", "denoiser"}
    return [method for method in METHODS if stages.issuperset(_NEEDS[method])]


def best_method(run: Run) -> Method:
    """Returns the best method that the run's complete stages allow.

    Raises:
        RunError: they allow none; says what the prior lacks.
    """
    methods = available_methods(run)
    if not methods:
        raise RunError(run.stage("prior").lacking())
    return methods[0]


def usable_methods(run: Run, missing: dict[str, str]) -> list[Method]:
    """Returns the ways to clean samples, the best first: what the stages and the kernel allow.

    Args:
        run: an opened run.
        missing: is told why single-step is left out, where it is.
    """
    methods = available_methods(run)
    if "smoothed" in methods:
        methods.remove("smoothed")
    two_step = run.two_step()
    try:
        if two_step is not None:
            two_step.check_single_step()
    except NotAvailable as error:
        missing["single-step"] = str(error)
        methods.remove("single-step")
    return methods


def shown_methods(run: Run, missing: dict[str, str]) -> list[Method]:
    """Returns all usable methods and that of x̃, in the order of ARDS figure 6."""
    usable = usable_methods(run, missing)
    if "smoothed" in available_methods(run):
        usable.append("smoothed")
    order: tuple[Method, ...] = ("smoothed", "single-step", "two-step", "baseline")
    return [method for method in order if method in usable]


def draw(
    run: Run,
    method: str,
    n: int,
    seed: int = 0,
    label: int | None = None,
    execution: Execution = AT_ONCE,
) -> Samples:
    """Draws n samples; the same seed gives all methods the same x̃.

    Args:
        run: an opened run.
        method: one of METHODS.
        n: how many.
        seed: determines the samples.
        label: the class to draw, for class-conditional models; all in turn if None.
        execution: how they are drawn, which does not change them.

    Raises:
        UsageError: an unknown method, n or a batch size below one, more than memory holds, or no
            such class.
        RunError: the run lacks a stage that the method needs.
        NotAvailable: the kernel has no usable posterior mean.
    """
    return draw_all(run, [method], n, seed, label, execution)[method]


def draw_all(
    run: Run,
    methods: Sequence[str],
    n: int,
    seed: int = 0,
    label: int | None = None,
    execution: Execution = AT_ONCE,
) -> dict[str, Samples]:
    """Draws n samples by each of several methods from the same x̃; see `draw`.

    Images are drawn shard by shard, each of which may be kept, as the noise of a shard is skipped
    to: neither shards nor processes change any image. The first process alone draws vectors.

    Args:
        run: an opened run.
        methods: some of METHODS.
        n: how many of each.
        seed: determines the samples.
        label: see `draw`.
        execution: how they are drawn; `samples_key` says what is kept is a function of.

    Returns:
        By method; nothing in processes other than the first.
    """
    _check(run, methods, n)
    if not is_image_run(run):
        if not execution.processes.is_first:
            return {}
        execution = replace(execution, processes=ALONE, partial=None)
    drawing = _Drawing.of(run, methods, seed, label)
    if drawing.models:
        batching.check_room(drawing.models[0], n, 1 + len(methods))
    shards = _drawn(drawing, _shards(run, n), execution)
    say_how(drawing.two_step, execution)
    say_how(drawing.baseline, execution)
    if not execution.processes.is_first:
        return {}
    samples = {name: _whole(shards, name, run) for name in shards[0]}
    return {
        method: Samples(
            samples[method],
            None if method in FRAMED else samples["smoothed"],
            drawing.labels(method, 0, n),
        )
        for method in methods
    }


def say_how(model: TwoStep | Density | None, execution: Execution) -> None:
    """Tells what the stages of a model, or a baseline, have to say of how they drew samples."""
    stages: dict[str, Density | None]
    if isinstance(model, TwoStep):
        stages = {"prior": model.prior, "denoiser": model.denoiser}
    else:
        stages = {"baseline": model}
    for name, stage in stages.items():
        if stage is not None and (said := stage.sampling_note()) is not None:
            execution.note(f"The {name} drew {said}.")


@dataclass(frozen=True)
class _Drawing:
    """What draws by several methods from the same x̃, some samples at a time.

    Args:
        methods: some of METHODS.
        two_step: kernel and stages, where a method needs them.
        baseline: the unsmoothed model, where one does.
        seed: determines the samples.
        label: the class to draw; all in turn if None.
    """

    methods: Sequence[str]
    two_step: TwoStep | None
    baseline: Density | None
    seed: int
    label: int | None

    @classmethod
    def of(cls, run: Run, methods: Sequence[str], seed: int, label: int | None) -> Self:
        """Loads what the methods draw from."""
        two_step = run.two_step() if set(methods) - {"baseline"} else None
        if two_step is not None and "single-step" in methods:
            two_step.check_single_step()
        baseline = run.density("baseline") if "baseline" in methods else None
        return cls(methods, two_step, baseline, seed, label)

    @property
    def models(self) -> list[Density]:
        """The prior and the baseline, those of them that draw."""
        prior = None if self.two_step is None else self.two_step.prior
        return [model for model in (prior, self.baseline) if model is not None]

    def labels(self, method: str, start: int, stop: int) -> Tensor | None:
        """Returns the classes of a method's samples; None where its model has none."""
        model = self.baseline if method == "baseline" else self.two_step
        return None if model is None else class_labels(model, start, stop, self.label)

    def samples(self, start: int, stop: int, execution: Execution) -> dict[str, Tensor]:
        """Draws samples `start` to `stop` by each method, and the x̃ that they come from."""
        passes, drawn = self._passes(execution), {}
        if self.two_step is not None:
            x_smooth = drawn["smoothed"] = self._smoothed(self.two_step, start, stop, next(passes))
            labels = self.labels("smoothed", start, stop)
            if "single-step" in self.methods:
                drawn["single-step"] = self.two_step.single_step(x_smooth, labels, execution)
            if "two-step" in self.methods:
                noise = self._noise("denoised", start)
                drawn["two-step"] = self.two_step.denoise(x_smooth, labels, noise, next(passes))
        if self.baseline is not None:
            labels, noise = self.labels("baseline", start, stop), self._noise("baseline", start)
            given = (stop - start, None, labels, noise, next(passes))
            drawn["baseline"] = batching.sample(self.baseline, *given)
        return drawn

    def _smoothed(self, two_step: TwoStep, start: int, stop: int, execution: Execution) -> Tensor:
        labels, noise = self.labels("smoothed", start, stop), self._noise("smoothed", start)
        return two_step.sample_smoothed(stop - start, labels, noise, execution)

    def _passes(self, execution: Execution) -> Iterator[Execution]:
        """Yields the execution of each pass over the samples: smoothed, denoised, baseline."""
        smoothed = self.two_step is not None
        count = smoothed + ("two-step" in self.methods) + (self.baseline is not None)
        return (execution.part(number, count) for number in range(count))

    def _noise(self, name: str, start: int) -> Generator:
        """Returns the generator of one pass, skipped to a row."""
        return skipped(generator(self.seed, name), start)


def _drawn(
    drawing: _Drawing, cuts: Sequence[tuple[int, int]], execution: Execution
) -> list[Mapping[str, Tensor]]:
    """Draws what is not kept of the samples, part by part; only the first process holds any."""
    shards: list[Mapping[str, Tensor]] = []
    partial, told = execution.partial, False
    for number, (start, stop) in enumerate(cuts):
        name = _NAME.format(start, stop)
        shard = execution.kept(name)
        if shard is None:
            if start and not told and partial is not None:
                partial.note(f"Goes on at image {start + 1} of {cuts[-1][1]}.")
            told = True
            shard = drawing.samples(start, stop, execution.part(number, len(cuts)))
            execution.keep(name, shard)
        shards.append(shard if execution.processes.is_first else {})
    return shards


def _shards(run: Run, n: int) -> list[tuple[int, int]]:
    """Returns start and stop of each part of the work that is kept: vectors are drawn at once."""
    return list(spans(n, shard_size(run))) if is_image_run(run) else [(0, n)]


def _whole(shards: Sequence[Mapping[str, Tensor]], name: str, run: Run) -> Tensor:
    return torch.cat([shard[name] for shard in shards]).to(run.device)


def shard_size(run: Run) -> int:
    """Returns how many images are drawn and kept at once: a kill loses no more.

    They are eight batches, so that as many processes have something to share.
    """
    return _BATCHES * batching.most_images(torch.device(run.device))


def images_kept(partial: PartialResults) -> int:
    """Returns how many images the shards that are kept seem to hold."""
    cuts = [name.split("-")[1:] for name in partial.names() if name.startswith("images-")]
    return sum(int(stop) - int(start) for start, stop in cuts)


def samples_key(run: Run) -> dict[str, Any]:
    """Returns what a run's samples and figures are a function of, beside the choices of a command.

    Raises:
        RunError: a weights file cannot be read.
    """
    files = {name: run.stage(name).weights_file(run.weights) for name in run.stages()}
    return {
        "smoothctl": __version__,
        "torch": torch.__version__,
        "device": torch.device(run.device).type,
        "weights": {name: _sha256(file) for name, file in files.items() if file.is_file()},
        "sampler": dict(run.sampler),
    }


def draw_frames(
    run: Run, method: str, n: int, frames: int, seed: int = 0, progress: Progress | None = None
) -> Tensor:
    """Draws n samples and keeps their states on the way, where the architecture has any.

    Args:
        run: an opened run.
        method: "smoothed", the x̃ of the prior; "baseline"; or "two-step" of a cascade, whose
            states are x̃ at each level and x.
        n: how many.
        frames: states of each to keep; the last are the samples that `draw` gives for the seed.
        seed: determines the samples.
        progress: told (done, total).

    Returns:
        Shape (frames, n, *event).

    Raises:
        UsageError: another method, n or frames below one, or more than memory holds.
        RunError: the run lacks a stage that the method needs.
        NotAvailable: the architecture draws its samples in one go.
    """
    if method not in (*FRAMED, "two-step"):
        raise UsageError(
            f"Frames are of the {', '.join(FRAMED)} or two-step samples, not of '{method}': choose "
            "a method."
        )
    if frames < 1:
        raise UsageError(f"The number of frames must be at least 1, not {frames}.")
    _check(run, [method], n)
    if method == "two-step":
        return _levels(run, n, frames, seed)
    density = _framed(run, method)
    batching.check_room(density, n * frames)
    return density.trajectory(n, frames, generator(seed, method), progress)


def _framed(run: Run, method: str) -> Density:
    """Returns what draws samples step by step."""
    two_step = None if method == "baseline" else run.two_step()
    return run.density("baseline") if two_step is None else two_step.sampled_prior()


def _levels(run: Run, n: int, frames: int, seed: int) -> Tensor:
    """Returns states of a cascade from x̃ to x, evenly chosen: (frames, n, *event)."""
    two_step = run.two_step()
    assert two_step is not None
    denoiser = two_step.checked_denoiser()
    states = len(denoiser.sigmas) + 1 if isinstance(denoiser, Cascade) else 2
    if frames > states or not isinstance(denoiser, Cascade):
        raise UsageError(
            f"Two-step samples of {run.path} have {states} states, x̃ and x among them: choose at "
            f"most so many `frames`, of a denoiser of several steps ('sigmas')."
        )
    batching.check_room(denoiser, n * states)
    classes = class_labels(two_step, 0, n)
    x_smooth = two_step.sample_smoothed(n, classes, generator(seed, "smoothed"))
    own = two_step.labels_for(denoiser, classes)
    path = denoiser.path(n, x_smooth, own, generator(seed, "denoised"))
    chosen = torch.linspace(states - 1, 0, frames).round().long().tolist()
    return torch.stack([path[i] for i in reversed(chosen)])


def _check(run: Run, methods: Sequence[str], n: int) -> None:
    if n < 1:
        raise UsageError(f"The number of samples must be at least 1, not {n}.")
    available = available_methods(run)
    if run.sampler.get(WALK) and {*methods} == {"baseline"}:
        raise UsageError("`walk` draws x̃, and the baseline has none: leave it out.")
    for method in methods:
        if method not in _NEEDS:
            raise UsageError(f"There is no method '{method}'{near_misses(method, METHODS)}")
        if method not in available:
            run.check(*_NEEDS[method])


def unsmoothed_single_steps(
    density: Density, x: Tensor, sigmas: Sequence[float], labels: Tensor | None = None
) -> dict[float, Tensor]:
    """Returns x + σ² ∇ log p(x) of an unsmoothed model for each σ (ARDS appendix C.6).

    What single-step denoising does without smoothing: a discretised model's log-mass is
    differentiated, as if its argument were a real number.

    Args:
        density: a model of clean data.
        x: its samples, (n, *event).
        sigmas: the step sizes, standard deviations in data units; 0 leaves samples as they are.
        labels: classes, int64 (n,), for a class-conditional model.

    Raises:
        UsageError: a σ that is negative or not finite.
        NotAvailable: the model has no score.
    """
    for sigma in sigmas:
        if not (math.isfinite(sigma) and sigma >= 0):
            raise UsageError(f"Each sigma must be finite and not negative: {sigma:g} is not.")
    rows = rows_that_fit(density, gradient=True)
    score = evaluate(density.score_function, rows, x, None, labels)
    return {sigma: x + sigma**2 * score for sigma in sigmas}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}.") from error


def class_labels(
    model: TwoStep | Density, start: int, stop: int, label: int | None = None
) -> Tensor | None:
    """Returns the classes of samples: the given one, or all in turn; None without classes.

    Returns:
        int64 (stop − start,), on the model's device.

    Raises:
        UsageError: there is no such class, or the model has none.
    """
    classes = model.classes
    if classes is None:
        if label is not None:
            raise UsageError("This run was fitted without classes: leave `label` out.")
        return None
    if label is not None and not 0 <= label < classes:
        raise UsageError(f"There is no class {label}; this run has 0 to {classes - 1}.")
    device = batching.device_of(model.prior if isinstance(model, TwoStep) else model)
    if label is None:
        return torch.arange(start, stop, device=device) % classes
    return torch.full((stop - start,), label, device=device)
