"""`smoothctl neighbours`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli import drawing, judging, options
from smoothctl.cli.console import Notes, print_json, print_table, work
from smoothctl.errors import NotAvailable

if TYPE_CHECKING:
    from smoothctl.architectures.base import Progress
    from smoothctl.metrics.image_sets import ImageSet
    from smoothctl.metrics.neighbours import Memorisation, Neighbours
    from smoothctl.runs.run import Run, Weights

__all__ = ["command"]

_DRAWN, _MOST, _SHOWN = 64, 10_000, 10
_TESTS = 1000
_PIXELS = "pixels"


def command(
    context: typer.Context,
    target: judging.RunOrImages = None,
    reference: judging.Reference = None,
    split: judging.Split = None,
    data: judging.ReferenceSettings = None,
    skip_corrupt: judging.SkipCorruptImages = False,
    features: Annotated[
        str,
        typer.Option(
            "--features",
            help="Feature extractor (see 'smoothctl features list').",
            rich_help_panel="Comparing images",
        ),
    ] = _PIXELS,
    feature_weights: judging.FeatureWeights = None,
    feature_sha256: judging.FeatureSha256 = None,
    download: judging.Download = False,
    k: Annotated[
        int, typer.Option("-k", "--neighbours", min=1, help="Neighbours of each sample.")
    ] = 10,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--number",
            min=2,
            help=f"Samples to draw from a run, or to take, the first ones; {_SHOWN} are shown.",
            show_default=f"{_DRAWN} of a run; all images, at most {_MOST}",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="How to draw from a run: two-step, single-step, smoothed or baseline.",
            show_default="the best that the run allows",
        ),
    ] = None,
    label: drawing.Label = None,
    seed: options.Seed = 0,
    weights: options.WeightsChoice = options.WeightsName.last,
    device: options.Device = options.DeviceChoice.auto,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The .npz file to write, with a picture beside it; or a .png for the picture "
            "alone.",
            show_default="under RUN/samples/, or beside the images",
        ),
    ] = None,
    overwrite: drawing.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Find the training images nearest to samples, and say whether samples are copies of them.

    By ℓ2, as in ARDS appendix C.5; where there are test images, beside these.
    """
    from smoothctl.evaluation.image_quality import Judging
    from smoothctl.metrics.neighbours import search
    from smoothctl.sampling.draw import best_method
    from smoothctl.sampling.output import check_target

    notes = Notes(quiet)
    named = (reference, split, data, skip_corrupt, notes.note)
    train, test = judging.open_reference(*named), judging.open_test(*named)
    run = _open_run(target, weights.value, device.value, notes)
    if run is None:
        judging.refuse_options_of_runs(context, str(target), ("method", "label", "weights"))
    else:
        method = method or best_method(run)
    if train is None:
        train, test = _of_run(run, target)
    path = out or _default(run, target, method, features, reference, weights.value, seed, label)
    check_target(path, overwrite or out is None, picture_alone=True)
    how = Judging(features, train, feature_weights, feature_sha256, download)
    extractor = how.judge(train, judging.device_name(device.value), notes.note).extractor
    with work(quiet) as progress:
        if run is not None and method is not None:
            samples = _draw(run, method, n or _DRAWN, seed, label, progress(method), notes)
        else:
            samples = _first(judging.open_set(str(target), skip_corrupt, notes.note), n, notes)
        tests = _tests(test, max(_TESTS, len(samples)), seed)
        found, judged = search(samples, train, tests, k, extractor, progress("neighbours"))
    files = _write(path, samples, train, found, keep=run is not None)
    if not as_json:
        _print(found, judged, train, features, files, notes)
        return
    result = {
        "samples": samples.name,
        "method": method,
        "n": len(samples),
        "seed": seed,
        "weights": None if run is None else weights.value,
        "reference": train.name,
        "images": len(train),
        "features": features,
        "features_sha256": extractor.sha256,
        "preprocessing": extractor.preprocessing,
        "details": extractor.details,
        "k": k,
        "nearest": found.indices[:, 0].tolist(),
        "distances": found.distances[:, 0].tolist(),
        "memorisation": None if judged is None else judged._asdict(),
    }
    print_json({**result, **files})


def _open_run(target: str | None, weights: "Weights", device: str, notes: Notes) -> "Run | None":
    """Returns the run that is meant; None where it is a set of images."""
    from smoothctl.cli.opening import open_run
    from smoothctl.sampling.draw import is_image_run

    if target is not None and not judging.is_run(target):
        return None
    run = open_run(None if target is None else Path(target), weights, device, notes)
    if not is_image_run(run):
        raise NotAvailable(f"{run.path} models vectors: neighbours are of images.")
    return run


def _of_run(run: "Run | None", target: str | None) -> "tuple[ImageSet, ImageSet]":
    """Returns a run's own training and test images."""
    from smoothctl.metrics.image_sets import of_view

    if run is None:
        raise judging.needs_reference(str(target))
    dataset = run.dataset()
    train = of_view(f"{dataset.name} (train)", dataset, dataset.train)
    return train, of_view(f"{dataset.name} (test)", dataset, dataset.test)


def _tests(test: "ImageSet | None", n: int, seed: int) -> "ImageSet | None":
    """Returns test images at random; None where there are none."""
    return None if test is None else test.pick(n, seed)


def _first(samples: "ImageSet", n: int | None, notes: Notes) -> "ImageSet":
    if n is not None and n > len(samples):
        notes.note(f"{samples.name} has {len(samples)} images: takes all.")
    if n is None and len(samples) > _MOST:
        notes.note(f"Takes the first {_MOST} of {len(samples)} images; --number takes more.")
    return samples.head(n or _MOST)


def _draw(
    run: "Run",
    method: str,
    n: int,
    seed: int,
    label: int | None,
    progress: "Progress | None",
    notes: Notes,
) -> "ImageSet":
    from smoothctl.metrics.image_sets import of_tensor
    from smoothctl.sampling.draw import draw
    from smoothctl.smoothing.batching import Execution

    if method == "smoothed":
        notes.note("x̃ is rounded to 8 bits and clipped to [−1, 1] before it is compared.")
    samples = draw(run, method, n, seed, label, Execution(progress=progress)).samples
    return of_tensor(f"{run.path} ({method})", samples)


def _default(
    run: "Run | None",
    target: str | None,
    method: str | None,
    features: str,
    reference: str | None,
    weights: str,
    seed: int,
    label: int | None,
) -> Path:
    """Returns where the arrays go without --out; the name tells what was compared with what."""
    by = [] if features == _PIXELS else [_plain(features)]
    if run is None:
        return _beside(str(target), "-".join(["neighbours", *by]) + ".npz")
    parts = [*by, *([] if reference is None else [_plain(Path(reference).stem)])]
    name = drawing.default_name(
        f"neighbours-{method}", *parts, weights=weights, seed=seed, label=label
    )
    return run.samples_file(name)


def _beside(images: str, ending: str) -> Path:
    """Returns a file beside images; in the working folder where these are no files."""
    file, _, array = images.rpartition(":")
    if file and Path(file).is_file():
        return Path(file).with_name(f"{Path(file).stem}-{_plain(array)}-{ending}")
    if Path(images).exists():
        path = Path(images).resolve()
        return path.with_name(f"{path.stem}-{ending}")
    return Path(f"{_plain(images)}-{ending}")


def _plain(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


def _write(
    path: Path, samples: "ImageSet", train: "ImageSet", found: "Neighbours", keep: bool
) -> dict[str, str | None]:
    """Writes the arrays, with the samples where nobody else has them, and the picture."""
    from smoothctl.datasets.pictures import write_png
    from smoothctl.metrics.neighbours import gather
    from smoothctl.reporting.figures import neighbour_rows
    from smoothctl.sampling.output import save_arrays

    alone, picture = path.suffix == ".png", path.with_suffix(".png")
    if not alone:
        drawn = samples.read(0, len(samples)) if keep else None
        save_arrays(path, {**found._asdict(), "samples": drawn})
    shown = samples.read(0, min(_SHOWN, len(samples)))
    write_png(picture, neighbour_rows(shown, gather(train, found.indices[: len(shown)])))
    return {"neighbours": None if alone else str(path), "picture": str(picture)}


def _print(
    found: "Neighbours",
    judged: "Memorisation | None",
    train: "ImageSet",
    features: str,
    files: dict[str, Any],
    notes: Notes,
) -> None:
    _print_nearest(found, train, features)
    if judged is None:
        notes.note(f"Says nothing of memorisation: beside {train.name} there are no test images.")
    else:
        _print_memorisation(judged)
    print(*(file for file in files.values() if file), sep="\n")


def _print_nearest(found: "Neighbours", train: "ImageSet", features: str) -> None:
    from rich.table import Table

    n, k = found.indices.shape
    by = "pixels in [−1, 1]" if features == _PIXELS else f"'{features}' features"
    some = f"; the first {_SHOWN} of {n} samples" if n > _SHOWN else ""
    title = f"Nearest of the {len(train)} images of {train.name} by ℓ2 of {by}{some}"
    table = Table(title=title, title_justify="left")
    for heading in ("sample", "nearest image", "its distance", f"distance of neighbour {k}"):
        table.add_column(heading, justify="right")
    for i in range(min(_SHOWN, n)):
        first, last = (f"{float(found.distances[i, j]):.4f}" for j in (0, -1))
        table.add_row(str(i), str(int(found.indices[i, 0])), first, last)
    print_table(table)


def _print_memorisation(judged: "Memorisation") -> None:
    from rich.table import Table

    title = f"Memorisation: {judged.samples} samples beside {judged.tests} test images"
    table = Table(title=title, title_justify="left")
    table.add_column("quantity")
    for heading in ("value", "± s.e.", "fresh data"):
        table.add_column(heading, justify="right")
    shown = (f"{judged.nearer_than_test:.3f}", f"{judged.standard_error:.3f}")
    table.add_row("P(nearer to a training image than a test image is)", *shown, "0.5")
    table.add_row("nearer than 99 % of test images", f"{100 * judged.copies:.1f} %", "", "1 %")
    table.add_row("exact copies of training images", str(judged.exact_copies), "", "")
    print_table(table)
