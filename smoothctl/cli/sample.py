"""`smoothctl sample`."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes
from smoothctl.cli.targets import Target, default_name, note_clipping, open_run, sampler_settings
from smoothctl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from smoothctl.datasets.base import Dataset
    from smoothctl.distributed.processes import Processes
    from smoothctl.runs.run import Run
    from smoothctl.sampling.draw import Samples
    from smoothctl.storage.partial import PartialResults

__all__ = ["command"]

_COUNT, _COUNT_IMAGES, _ROWS = 5000, 64, 8
_TITLES = {
    "smoothed": "smoothed x̃",
    "single-step": "single-step E[x|x̃]",
    "two-step": "two-step x ~ p(x|x̃)",
    "baseline": "baseline, unsmoothed",
}
"""The columns of ARDS figure 6, in its order."""


@dataclass(frozen=True)
class _Request:
    """What shall be drawn: the options of the command, resolved for the run."""

    run: "Run"
    images: bool
    method: str
    n: int
    seed: int
    label: int | None
    batch_size: int | None
    sigmas: list[float]
    frames: int | None

    def file(self) -> Path:
        """Returns where the samples go without --out."""
        extra = ["moved"] * bool(self.sigmas) + [f"{self.frames}-frames"] * bool(self.frames)
        name = default_name(
            self.run, self.method, *extra, seed=self.seed, label=self.label, n=self.n
        )
        return self.run.samples_file(name)

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON says of it."""
        return {
            "run": str(self.run.path),
            "method": self.method,
            "n": self.n,
            "seed": self.seed,
            "weights": self.run.weights,
            "sampler": dict(self.run.sampler),
            **({"frames": self.frames} if self.frames else {}),
        }


def command(
    run: options.RunFolder = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="two-step, single-step, smoothed or baseline; or all, from the same x̃ and side by "
            "side in one picture.",
            show_default="the best that the run allows",
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n", "--number", min=1, help="How many samples.", show_default="5000; 64 images"
        ),
    ] = None,
    unsmoothed_sigmas: Annotated[
        str | None,
        typer.Option(
            "--unsmoothed-sigmas",
            metavar="SIGMA,…",
            help="With --method baseline: also move its samples by the single-step update "
            "x + σ²∇log p(x) of the unsmoothed model, for each σ (ARDS appendix C.6).",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            min=1,
            help="With --method smoothed or baseline, of an architecture that draws step by step, "
            "or two-step of a denoiser of several steps: keep this many intermediate samples, and "
            "show a row for each sample.",
        ),
    ] = None,
    sigma: options.ChosenSigma = None,
    assignments: options.SamplerSettings = None,
    label: options.Label = None,
    batch_size: options.DrawnAtOnce = None,
    seed: options.Seed = 0,
    weights: options.Weights = "last",
    device: options.Device = "auto",
    dataset: options.RunData = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The .npz file to write, with a picture beside it; for images also a .png for "
            "the picture alone, or a folder (no ending) for one PNG an image.",
            show_default="RUN/samples/METHOD-seedS-N.npz",
        ),
    ] = None,
    overwrite: options.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Draw samples from a run: an .npz file and a picture of images, 1-d and 2-d data.

    Images can go into a folder of PNG files instead. Models with classes draw them in turn.
    """
    from smoothctl.distributed.processes import launched
    from smoothctl.sampling.draw import best_method, is_image_run

    notes, processes = Notes(quiet), launched(device)
    sampler = sampler_settings(assignments, sigma)
    opened = open_run(run, weights, device, notes, sampler, dataset)
    images, method = is_image_run(opened), method or best_method(opened)
    request = _Request(
        run=opened,
        images=images,
        method=method,
        n=n or ((_ROWS if frames else _COUNT_IMAGES) if images else _COUNT),
        seed=seed,
        label=label,
        batch_size=batch_size,
        sigmas=_sigmas(unsmoothed_sigmas, method),
        frames=frames,
    )
    target = Target(out or request.file(), overwrite or out is None, notes, as_json)
    if not processes.is_first and (frames or not images):
        return  # these are not shared
    if frames:
        _draw_frames(request, frames, target)
    else:
        _draw(request, target, processes)


def _draw(request: _Request, target: Target, processes: "Processes") -> None:
    """Draws, going on with what was kept, and writes; all processes share the work."""
    from smoothctl.sampling.draw import draw_all, samples_key, shard_size
    from smoothctl.smoothing.batching import Execution

    several = request.method == "all" or bool(request.sigmas)
    if several and not target.path.suffix:
        raise UsageError(f"A folder takes the samples of one method: name --out {target.path}.npz.")
    run, n, label = request.run, request.n, request.label
    methods = _all_methods(run, target.notes) if request.method == "all" else [request.method]
    choices = {"methods": methods, "seed": request.seed, "label": label, "sigmas": request.sigmas}
    kept = target.kept({**samples_key(run), **choices}, processes)
    shards = kept if request.images and n > shard_size(run) else None
    execution = Execution(request.batch_size, None, processes, shards, target.notes.note)
    draw = partial(draw_all, run, methods, n, request.seed, label)
    if not processes.is_first:
        draw(execution)
        return
    complete = f"all-{n:08d}"
    target = target.again(kept, complete)
    target.check(picture_alone=request.images, folder=request.images)
    with target.held(partial(_left, shards, n, target)):
        with target.notes.work() as progress:
            drawn = draw(replace(execution, progress=progress(request.method)))
        with target.writing(kept, complete):
            _write(request, drawn, target)


def _left(partial_results: "PartialResults | None", n: int, target: Target) -> str:
    """Says what is left of samples that were not drawn to their end."""
    from smoothctl.sampling.draw import images_kept

    if partial_results is None:
        return target.unwritten()
    kept = min(n, images_kept(partial_results))
    return f"Stopped after {kept} of {n} images; the same command goes on from there."


def _write(request: _Request, drawn: "dict[str, Samples]", target: Target) -> None:
    from smoothctl.sampling.output import write_folder

    if request.images and "smoothed" in drawn:
        note_clipping(target.notes)
    if not target.path.suffix:
        write_folder(target.path, drawn[request.method].samples)
        target.tell(request.to_dict(), None)
        return
    arrays, titles = _arrays(drawn), {_TITLES[name]: drawn[name].samples for name in drawn}
    for sigma, samples in _moved(request, drawn).items():
        arrays[f"sigma_{sigma:g}"] = titles[f"moved, σ = {sigma:g}"] = samples
    target.save(arrays)
    target.tell(request.to_dict(), _picture(request, drawn, titles, target))


def _picture(
    request: _Request, drawn: "dict[str, Samples]", titles: "dict[str, Tensor]", target: Target
) -> Path | None:
    """Writes all samples side by side; those of one method alone beside data and x̃."""
    from smoothctl.reporting.figures import comparison, save_samples_picture

    dataset = None if request.images else _dataset(request.run, target.notes)
    with target.painting():
        if len(titles) > 1:
            return target.paint(comparison(titles, dataset))
        ((method, samples),) = drawn.items()
        return save_samples_picture(target.picture, dataset, samples, method)


def _draw_frames(request: _Request, frames: int, target: Target) -> None:
    """Writes `frames` (K, n, *event) and their picture: NCSN figure 4 of images, else panels."""
    from smoothctl.sampling.draw import draw_frames, samples_key

    if request.sigmas or request.label is not None or request.batch_size is not None:
        raise UsageError("--frames goes with -n, --seed and --set alone of the drawing options.")
    run, method, n = request.run, request.method, request.n
    kept = target.kept({**samples_key(run), **request.to_dict()})
    target = target.again(kept)
    target.check(picture_alone=request.images)
    with target.held():
        with target.notes.work() as progress:
            states = draw_frames(run, method, n, frames, request.seed, progress(method))
        with target.writing(kept):
            target.save({"frames": states})
            target.tell(request.to_dict(), _picture_of_frames(request, states, target))


def _picture_of_frames(request: _Request, frames: "Tensor", target: Target) -> Path | None:
    from smoothctl.reporting.figures import columns, comparison

    with target.painting():
        if request.images:
            title = f"{request.method}, step by step"
            return target.paint(columns({title: frames.transpose(0, 1)}))
        titles = {f"{k} of {len(frames)}": x for k, x in enumerate(frames, start=1)}
        return target.paint(comparison(titles, _dataset(request.run, target.notes)))


def _arrays(drawn: "dict[str, Samples]") -> "dict[str, Tensor | None]":
    """Returns the arrays of one method, or one array for each of several."""
    first = next(iter(drawn.values()))
    if len(drawn) == 1:
        return dict(first._asdict())
    named = {name.replace("-", "_"): each.samples for name, each in drawn.items()}
    return {**named, "labels": first.labels}


def _moved(request: _Request, drawn: "dict[str, Samples]") -> "dict[float, Tensor]":
    from smoothctl.sampling.draw import unsmoothed_single_steps

    if not request.sigmas:
        return {}
    samples, _, labels = drawn["baseline"]
    density = request.run.density("baseline")
    return unsmoothed_single_steps(density, samples, request.sigmas, labels)


def _all_methods(run: "Run", notes: Notes) -> list[str]:
    """Returns all methods that the run allows, in the order of the picture."""
    from smoothctl.sampling.draw import best_method, shown_methods

    best_method(run)  # there is one
    missing: dict[str, str] = {}
    methods: list[str] = [*shown_methods(run, missing)]
    for reason in missing.values():
        notes.note(reason)
    return methods


def _dataset(run: "Run", notes: Notes) -> "Dataset | None":
    from smoothctl.errors import DataError, RunError

    try:
        return run.dataset()
    except (DataError, RunError) as error:
        notes.note(f"No picture beside the samples: {error}")
        return None


def _sigmas(text: str | None, method: str) -> list[float]:
    if text is None:
        return []
    if method != "baseline":
        raise UsageError("--unsmoothed-sigmas moves the baseline's samples: add --method baseline.")
    try:
        sigmas = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--unsmoothed-sigmas takes numbers such as 0.1,0.3, not '{text}'."
        ) from None
    if not all(0 < sigma < float("inf") for sigma in sigmas):
        raise UsageError(f"--unsmoothed-sigmas takes positive numbers, not '{text}'.")
    return list(dict.fromkeys(sigmas))
