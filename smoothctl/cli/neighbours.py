"""`smoothctl neighbours`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes
from smoothctl.cli.references import (
    ReferenceImages,
    is_run,
    needs_reference,
    refuse_options_of_runs,
)
from smoothctl.cli.targets import Target, default_name, device_name, open_run
from smoothctl.errors import NotAvailable

if TYPE_CHECKING:
    from smoothctl.metrics.features import Features
    from smoothctl.metrics.image_sets import ImageSet
    from smoothctl.metrics.neighbours import Memorisation, Neighbours
    from smoothctl.runs.run import Run, Weights

__all__ = ["command"]

_DRAWN, _MOST, _SHOWN = 64, 10_000, 10
_TESTS = 1000
_PIXELS = "pixels"


def command(
    context: typer.Context,
    target: options.RunOrImages = None,
    reference: options.Reference = None,
    split: options.Split = None,
    data: options.ReferenceSettings = None,
    skip_corrupt: options.SkipCorruptImages = False,
    features: Annotated[
        str,
        typer.Option(
            "--features",
            help="Feature extractor (see 'smoothctl features list').",
            rich_help_panel="Comparing images",
        ),
    ] = _PIXELS,
    feature_weights: options.FeatureWeights = None,
    feature_sha256: options.FeatureSha256 = None,
    download: options.Download = False,
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
    label: options.Label = None,
    seed: options.Seed = 0,
    weights: options.Weights = "last",
    device: options.Device = "auto",
    dataset: options.RunData = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The .npz file to write, with a picture beside it; or a .png for the picture "
            "alone.",
            show_default="under RUN/samples/, or beside the images",
        ),
    ] = None,
    overwrite: options.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Find the training images nearest to samples, and say whether samples are copies of them.

    By ℓ2, as in ARDS appendix C.5; where there are test images, beside these.
    """
    from smoothctl.evaluation.image_quality import ImageComparison
    from smoothctl.metrics.neighbours import search
    from smoothctl.sampling.draw import best_method

    notes = Notes(quiet)
    named = ReferenceImages(reference, split, data, skip_corrupt, notes)
    run = _open_run(target, weights, device, dataset, notes)
    if run is None:
        refuse_options_of_runs(context, str(target), ("method", "label", "weights", "dataset"))
    else:
        method = method or best_method(run)
    train, test = _references(named, run, target)
    by = [_plain(features)] * (features != _PIXELS)
    beside = [_plain(Path(reference).stem)] if reference and run else []
    file = _default_file(run, str(target), [str(method), *by, *beside], seed, label)
    files = Target(out or file, overwrite or out is None, notes, as_json)
    files.check(picture_alone=True)
    comparison = ImageComparison(features, train, feature_weights, feature_sha256, download)
    extractor = comparison.extractor(train, device_name(device), notes.note).features
    if run is None:
        samples = _first(named.open_judged(str(target)), n, notes)
    else:
        samples = _draw(run, str(method), n or _DRAWN, seed, label, notes)
    tests = None if test is None else test.pick(max(_TESTS, len(samples)), seed)
    with notes.work() as progress:
        near, copying = search(samples, train, tests, k, extractor, progress("neighbours"))
    picture = _write(files, samples, train, near, keep=run is not None)
    if not as_json:
        _print(near, copying, samples, train, features, notes)
    about = {
        "samples": samples.name,
        "method": method,
        "n": len(samples),
        "seed": seed,
        "weights": None if run is None else weights,
        "reference": train.name,
        "images": len(train),
        "features": features,
    }
    about |= _figures(near, copying, extractor) | _names(samples, train, near)
    files.tell(about, picture, "neighbours")


def _figures(
    near: "Neighbours", copying: "Memorisation | None", extractor: "Features"
) -> dict[str, Any]:
    return {
        "features_sha256": extractor.sha256,
        "preprocessing": extractor.preprocessing,
        "details": extractor.details,
        "k": near.indices.shape[1],
        "nearest": near.indices[:, 0].tolist(),
        "distances": near.distances[:, 0].tolist(),
        "memorisation": None if copying is None else copying._asdict(),
    }


def _names(samples: "ImageSet", train: "ImageSet", near: "Neighbours") -> dict[str, Any]:
    """Returns the files of the samples and of the image nearest to each; None without any."""
    return {
        "sample_files": samples.files(range(len(samples))),
        "nearest_files": train.files(near.indices[:, 0].tolist()),
    }


def _open_run(
    target: str | None, weights: "Weights", device: str, dataset: str | None, notes: Notes
) -> "Run | None":
    """Returns the run that is meant; None where it is a set of images."""
    from smoothctl.sampling.draw import is_image_run

    if target is not None and not is_run(target):
        return None
    path = None if target is None else Path(target)
    run = open_run(path, weights, device, notes, dataset=dataset)
    if not is_image_run(run):
        raise NotAvailable(f"{run.path} models vectors: neighbours are of images.")
    return run


def _references(
    named: ReferenceImages, run: "Run | None", target: str | None
) -> "tuple[ImageSet, ImageSet | None]":
    """Returns the images to search and test images beside them: a run's own if none are named."""
    from smoothctl.metrics.image_sets import of_view

    train = named.open()
    if train is not None:
        return train, named.open_test()
    if run is None:
        raise needs_reference(str(target))
    dataset = run.dataset()
    train = of_view(f"{dataset.name} (train)", dataset, dataset.train)
    return train, of_view(f"{dataset.name} (test)", dataset, dataset.test)


def _first(samples: "ImageSet", n: int | None, notes: Notes) -> "ImageSet":
    if n is not None and n > len(samples):
        notes.note(f"{samples.name} has {len(samples)} images: takes all.")
    if n is None and len(samples) > _MOST:
        notes.note(f"Takes the first {_MOST} of {len(samples)} images; --number takes more.")
    return samples.head(n or _MOST)


def _draw(
    run: "Run", method: str, n: int, seed: int, label: int | None, notes: Notes
) -> "ImageSet":
    from smoothctl.metrics.image_sets import of_tensor
    from smoothctl.sampling.draw import draw
    from smoothctl.smoothing.batching import Execution

    if method == "smoothed":
        notes.note("x̃ is rounded to 8 bits and clipped to [−1, 1] before it is compared.")
    with notes.work() as progress:
        execution = Execution(progress=progress(method))
        samples = draw(run, method, n, seed, label, execution).samples
    return of_tensor(f"{run.path} ({method})", samples)


def _default_file(
    run: "Run | None", target: str, parts: list[str], seed: int, label: int | None
) -> Path:
    """Returns where the arrays go without --out; the name tells what was compared with what."""
    if run is None:
        return _beside(target, "-".join(["neighbours", *parts[1:]]) + ".npz")
    first = f"neighbours-{parts[0]}"
    return run.samples_file(default_name(run, first, *parts[1:], seed=seed, label=label))


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
    files: Target, samples: "ImageSet", train: "ImageSet", near: "Neighbours", keep: bool
) -> Path:
    """Writes the arrays, with the samples where nobody else has them, and the picture."""
    from smoothctl.datasets.pictures import write_png
    from smoothctl.metrics.neighbours import gather
    from smoothctl.reporting.figures import neighbour_rows

    drawn = samples.read(0, len(samples)) if keep else None
    files.save({**near._asdict(), "samples": drawn})
    shown = samples.read(0, min(_SHOWN, len(samples)))
    write_png(files.picture, neighbour_rows(shown, gather(train, near.indices[: len(shown)])))
    return files.picture


def _print(
    near: "Neighbours",
    copying: "Memorisation | None",
    samples: "ImageSet",
    train: "ImageSet",
    features: str,
    notes: Notes,
) -> None:
    _print_nearest(near, samples, train, features)
    if copying is None:
        notes.note(f"Says nothing of memorisation: beside {train.name} there are no test images.")
    else:
        _print_memorisation(copying)


def _print_nearest(
    near: "Neighbours", samples: "ImageSet", train: "ImageSet", features: str
) -> None:
    from smoothctl.reporting.tables import Table, decimals, print_table, right

    n, k = near.indices.shape
    by = "pixels in [−1, 1]" if features == _PIXELS else f"'{features}' features"
    some = f"; the first {_SHOWN} of {n} samples" if n > _SHOWN else ""
    title = f"Nearest of the {len(train)} images of {train.name} by ℓ2 of {by}{some}"
    columns = right("sample", "nearest image", "its distance", f"distance of neighbour {k}")
    shown, nearest = range(min(n, _SHOWN)), near.indices[:_SHOWN, 0].tolist()
    names = samples.files(shown) or map(str, shown)
    images = train.files(nearest) or map(str, nearest)
    distances = ([decimals(float(d[j]), 4) for j in (0, -1)] for d in near.distances[:_SHOWN])
    rows = [[a, b, *c] for a, b, c in zip(names, images, distances, strict=True)]
    print_table(Table(title, columns, [rows]))


def _print_memorisation(copying: "Memorisation") -> None:
    from smoothctl.reporting.tables import Table, decimals, left, print_table, right

    title = f"Memorisation: {copying.samples} samples beside {copying.tests} test images"
    columns = [*left("quantity"), *right("value", "± s.e.", "fresh data")]
    nearer = [decimals(value, 3) for value in (copying.nearer_than_test, copying.standard_error)]
    rows = [
        ["P(nearer to a training image than a test image is)", *nearer, "0.5"],
        ["nearer than 99 % of test images", f"{100 * copying.copies:.1f} %", "", "1 %"],
        ["exact copies of training images", str(copying.exact_copies), "", ""],
    ]
    print_table(Table(title, columns, [rows]))
