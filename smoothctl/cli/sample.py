"""`smoothctl sample`."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smoothctl.cli import drawing, options
from smoothctl.cli.console import Notes, print_json, work
from smoothctl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from smoothctl.datasets.base import Dataset
    from smoothctl.distributed.processes import Processes
    from smoothctl.runs.run import Run
    from smoothctl.sampling.draw import Samples
    from smoothctl.storage.partial import Parts

__all__ = ["command"]

_COUNT, _COUNT_IMAGES, _ROWS = 5000, 64, 8
_TITLES = {
    "smoothed": "smoothed x̃",
    "single-step": "single-step E[x|x̃]",
    "two-step": "two-step x ~ p(x|x̃)",
    "baseline": "baseline, unsmoothed",
}
"""The columns of ARDS figure 6, in its order."""


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
            help="With --method smoothed or baseline, of an architecture that draws step by step: "
            "keep this many intermediate samples, and show a row for each sample.",
        ),
    ] = None,
    assignments: options.SamplerSettings = None,
    label: drawing.Label = None,
    batch_size: drawing.BatchSize = None,
    seed: options.Seed = 0,
    weights: options.WeightsChoice = options.WeightsName.last,
    device: options.Device = options.DeviceChoice.auto,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The .npz file to write, with a picture beside it; for images also a .png for "
            "the picture alone, or a folder (no ending) for one PNG an image.",
            show_default="RUN/samples/METHOD-seedS-N.npz",
        ),
    ] = None,
    overwrite: drawing.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Draw samples from a run: an .npz file and a picture of images, 1-d and 2-d data.

    Images can go into a folder of PNG files instead. Models with classes draw them in turn.
    """
    from smoothctl.cli.fitting import sampler_settings
    from smoothctl.cli.opening import open_run
    from smoothctl.distributed.processes import launched
    from smoothctl.sampling.draw import best_method, draw_all, draw_frames, is_image_run
    from smoothctl.sampling.output import check_target
    from smoothctl.smoothing.batching import Execution

    notes = Notes(quiet)
    processes = launched(device.value)
    sampler = sampler_settings(assignments)
    opened = open_run(run, weights.value, device.value, notes, sampler)
    images = is_image_run(opened)
    chosen = method or best_method(opened)
    sigmas = _sigmas(unsmoothed_sigmas, chosen)
    count = n or ((_ROWS if frames else _COUNT_IMAGES) if images else _COUNT)
    extra = ["moved"] * bool(sigmas) + [f"{frames}-frames"] * bool(frames) + drawing.named(sampler)
    name = _name(chosen, weights.value, seed, count, label, extra)
    path = out or opened.samples_file(name)
    replace = overwrite or out is None
    result = {
        "run": str(opened.path),
        "method": chosen,
        "n": count,
        "seed": seed,
        "weights": weights.value,
        "sampler": sampler,
    }
    if not processes.is_first and (frames or not images):
        return  # these are not shared
    if frames:
        if sigmas or label is not None or batch_size is not None:
            raise UsageError(
                "--frames goes with -n, --seed and --set alone of the drawing options."
            )
        check_target(path, replace, picture_alone=images)
        with drawing.held(path, notes, lambda: f"Stopped before {path} was written."):
            with work(quiet) as progress:
                drawn_frames = draw_frames(opened, chosen, count, frames, seed, progress(chosen))
            _write_frames(opened, drawn_frames, path, {**result, "frames": frames}, notes, as_json)
        return
    several = chosen == "all" or bool(sigmas)
    if several and not path.suffix:
        raise UsageError(f"A folder takes the samples of one method: name --out {path}.npz.")
    methods = _all_methods(opened, notes) if chosen == "all" else [chosen]
    choices = {"methods": methods, "seed": seed, "label": label}
    parts = _parts(opened, path, count, choices, notes, processes)
    execution = Execution(batch_size, processes=processes, partial=parts)
    draw = partial(draw_all, opened, methods, count, seed, label)
    if not processes.is_first:
        draw(execution)
        return
    complete = f"all-{count:08d}"
    replace = replace or parts.has(complete)  # what is there is of the work that goes on
    check_target(path, replace, picture_alone=images, folder=images)
    with drawing.held(path, notes, lambda: _left(parts, count, path)):
        with work(quiet) as progress:
            drawn = draw(dataclasses.replace(execution, progress=progress(chosen)))
        parts.mark(complete)
        _write(opened, drawn, sigmas, path, result, notes, as_json)
        parts.done()


def _parts(
    run: "Run",
    path: Path,
    n: int,
    choices: Mapping[str, object],
    notes: Notes,
    processes: "Processes",
) -> "Parts":
    """Returns where the shards of more images than one shard has are kept: beside the target."""
    from smoothctl.sampling.draw import is_image_run, samples_key, shard_size
    from smoothctl.storage.partial import NOWHERE, Parts

    if not is_image_run(run) or n <= shard_size(run):
        return NOWHERE
    folder, key = path.with_name(f".{path.name}.parts"), {**samples_key(run), **choices}
    return Parts(folder, key, notes.note, processes)


def _left(parts: "Parts", n: int, path: Path) -> str:
    """Says what is left of samples that were not drawn to their end."""
    from smoothctl.sampling.draw import images_kept

    if parts.folder is None:
        return f"Stopped before {path} was written."
    kept = min(n, images_kept(parts))
    return f"Stopped after {kept} of {n} images; the same command goes on from there."


def _write_frames(
    run: "Run",
    frames: "Tensor",
    path: Path,
    result: dict[str, object],
    notes: Notes,
    as_json: bool,
) -> None:
    """Writes `frames` (K, n, *event) and their picture: NCSN figure 4 of images, else panels."""
    from smoothctl.reporting.figures import columns, comparison, save
    from smoothctl.sampling.output import save_arrays

    def paint(file: Path) -> Path | None:
        if frames.ndim == 5:
            figure = columns({f"{result['method']}, step by step": frames.transpose(0, 1)})
        else:
            titles = {f"{k} of {len(frames)}": x for k, x in enumerate(frames, start=1)}
            found = comparison(titles, _dataset(run, notes))
            if found is None:
                return None
            figure = found
        save(figure, file)
        return file

    drawing.print_files(
        result, path, lambda file: save_arrays(file, {"frames": frames}), paint, as_json
    )


def _write(
    run: "Run",
    drawn: "dict[str, Samples]",
    sigmas: list[float],
    path: Path,
    result: dict[str, object],
    notes: Notes,
    as_json: bool,
) -> None:
    from smoothctl.reporting.figures import comparison, save, save_samples_picture
    from smoothctl.sampling.output import save_arrays, write_folder

    if not path.suffix:
        ((method, (samples, *_)),) = drawn.items()
        if method == "smoothed":
            drawing.note_clipping(notes)
        write_folder(path, samples)
        files = {"samples": str(path), "picture": None}
        print_json({**result, **files}) if as_json else print(path)
        return
    moved = _moved(run, drawn, sigmas)
    arrays, titles = _arrays(drawn), {_TITLES[name]: drawn[name].samples for name in drawn}
    arrays |= {f"sigma_{sigma:g}": samples for sigma, samples in moved.items()}
    titles |= {f"moved, σ = {sigma:g}": samples for sigma, samples in moved.items()}

    def paint(file: Path) -> Path | None:
        first = next(iter(drawn))
        dataset = None if drawn[first].samples.ndim == 4 else _dataset(run, notes)
        if len(titles) == 1:
            return save_samples_picture(file, dataset, drawn[first], first)
        figure = comparison(titles, dataset)
        if figure is None:
            return None
        save(figure, file)
        return file

    if "smoothed" in drawn and drawn["smoothed"].samples.ndim == 4:
        drawing.note_clipping(notes)
    drawing.print_files(result, path, lambda file: save_arrays(file, arrays), paint, as_json)


def _arrays(drawn: "dict[str, Samples]") -> "dict[str, Tensor | None]":
    """Returns the arrays of one method, or one array for each of several."""
    first = next(iter(drawn.values()))
    if len(drawn) == 1:
        return dict(first._asdict())
    named = {name.replace("-", "_"): each.samples for name, each in drawn.items()}
    return {**named, "labels": first.labels}


def _moved(run: "Run", drawn: "dict[str, Samples]", sigmas: list[float]) -> "dict[float, Tensor]":
    from smoothctl.sampling.draw import unsmoothed_single_steps

    if not sigmas:
        return {}
    samples, _, labels = drawn["baseline"]
    return unsmoothed_single_steps(run.density("baseline"), samples, sigmas, labels)


def _all_methods(run: "Run", notes: Notes) -> list[str]:
    """Returns all methods that the run allows, in the order of the picture."""
    from smoothctl.sampling.draw import available_methods, best_method, usable_methods

    best_method(run)  # there is one
    missing: dict[str, str] = {}
    usable = [*usable_methods(run, missing)]
    for reason in missing.values():
        notes.note(reason)
    usable += [name for name in available_methods(run) if name == "smoothed"]
    return [name for name in _TITLES if name in usable]


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


def _name(method: str, weights: str, seed: int, n: int, label: int | None, extra: list[str]) -> str:
    parts = [method + ("-best" if weights == "best" else ""), *extra, f"seed{seed}", str(n)]
    return "-".join([*parts, *([] if label is None else [f"label{label}"])]) + ".npz"
