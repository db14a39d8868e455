"""`smoothctl score`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.references import (
    ReferenceImages,
    is_run,
    needs_reference,
    refuse_options_of_runs,
)
from smoothctl.cli.targets import device_name, open_run, sampler_settings, stoppable
from smoothctl.distributed.processes import is_first
from smoothctl.errors import UsageError
from smoothctl.reporting.flags import with_flags

if TYPE_CHECKING:
    from smoothctl.evaluation.image_quality import ImageComparison
    from smoothctl.evaluation.scores import Effort, Scores
    from smoothctl.runs.run import Run
    from smoothctl.smoothing.annealing import Annealing
    from smoothctl.storage.partial import PartialResults

__all__ = ["command"]

_NONE, _DIGITS = "none", 100
_OF_ANNEALING = ("temperatures", "moves", "leapfrogs", "chains")
_OF_RUNS = (
    *("limit", "draws", "samples", "quadrature", "bound", *_OF_ANNEALING),
    *("weights", "sigma", "assignments", "dataset"),
)
"""Options that mean nothing for a set of images."""

_PANEL = "Annealing (--bound ais, sandwich)"


def _work(name: str, help: str, default: int, least: int = 1) -> typer.models.OptionInfo:
    """Returns an option that says how much work annealing is."""
    option: typer.models.OptionInfo = typer.Option(
        f"--{name}", min=least, help=help, show_default=str(default), rich_help_panel=_PANEL
    )
    return option


def command(
    context: typer.Context,
    target: options.RunOrImages = None,
    reference: options.Reference = None,
    split: options.Split = None,
    data: options.ReferenceSettings = None,
    skip_corrupt: options.SkipCorruptImages = False,
    features: options.FeatureName = None,
    feature_weights: options.FeatureWeights = None,
    feature_sha256: options.FeatureSha256 = None,
    download: options.Download = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=0,
            help="Test examples, the first ones; 0: all.",
            show_default="all; 1000 images",
        ),
    ] = None,
    draws: Annotated[
        str | None,
        typer.Option(
            "--draws",
            metavar="K,…",
            help="Draws K of the importance-weighted bounds.",
            show_default="16,256; 2,8 for images",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=0,
            help="Samples to draw and judge; 0: none.",
            show_default="5000; 64 images",
        ),
    ] = None,
    quadrature: Annotated[
        int | None,
        typer.Option(
            "--quadrature",
            min=0,
            help="Examples for the exact likelihood of two-step models in 1-d and 2-d; 0: none.",
            show_default="256",
        ),
    ] = None,
    bound: Annotated[
        Literal["weighted", "ais", "sandwich"],
        typer.Option(
            "--bound",
            help="Of two-step models: importance-weighted alone; annealed importance sampling, "
            "too; or that and both sides of −log p of the model's own samples.",
        ),
    ] = "weighted",
    temperatures: Annotated[
        int | None, _work("temperatures", "Distributions from q(x̃|x) to p(x̃|x).", 60, 2)
    ] = None,
    moves: Annotated[int | None, _work("moves", "Moves at each temperature.", 1)] = None,
    leapfrogs: Annotated[
        int | None, _work("leapfrogs", "Gradients of a move; 1: Langevin, more: Hamiltonian.", 3)
    ] = None,
    chains: Annotated[
        int | None, _work("chains", "Chains for each example, whose weights are averaged.", 1)
    ] = None,
    sigma: options.ChosenSigma = None,
    assignments: options.SamplerSettings = None,
    seed: options.Seed = 0,
    weights: options.Weights = "last",
    device: options.Device = "auto",
    dataset: options.RunData = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Score a run, or any set of images against a reference.

    Of a run: likelihood bounds, and samples beside true ones; also added to RUN/scores.json.

    Of images: FID, KID, Inception score, precision, recall, density, coverage, and copies.

    --features none leaves images unjudged.
    """
    from smoothctl.distributed.processes import launched
    from smoothctl.evaluation.records import append_scores, read_scores
    from smoothctl.evaluation.scores import effort_for, partial_scores, score_run
    from smoothctl.reporting.scores import print_scores
    from smoothctl.smoothing.batching import Execution

    notes, counts = Notes(quiet), _counts(draws)
    named = ReferenceImages(reference, split, data, skip_corrupt, notes)
    comparison = _comparison(features, named, feature_weights, feature_sha256, download)
    if target is not None and not is_run(target):
        if comparison is None or comparison.reference is None:
            raise needs_reference(target)
        refuse_options_of_runs(context, target, _OF_RUNS)
        if is_first():  # sets of images are judged by one of several processes
            _score_images(target, comparison, named, seed, device, as_json)
        return
    processes, sampler = launched(device), sampler_settings(assignments, sigma)
    path = None if target is None else Path(target)
    run = open_run(path, weights, device, notes, sampler, dataset)
    _check_comparable(run, comparison)
    read_scores(run.path)  # what cannot be added to is said before the work
    work = {"temperatures": temperatures, "moves": moves, "leapfrogs": leapfrogs, "chains": chains}
    annealing = _annealing(work)
    effort = effort_for(run, limit, counts, samples, quadrature, bound, annealing)
    _note_limits(run, limit, effort, notes)
    kept = partial_scores(run, effort, seed, notes.note, processes)
    execution = Execution(processes=processes, partial=kept, note=notes.note)
    score = partial(score_run, run, effort, seed, comparison, note=notes.note, execution=execution)
    if not processes.is_first:
        score()
        return
    with _held(run, kept, notes):
        with notes.work() as progress:
            record = _with_flags(score(progress=progress)).to_dict()
        try:
            print_json(record) if as_json else print_scores(record)
        finally:  # a full disk loses no figures, and nor does a stdout that cannot be written
            append_scores(run.path, record)
            if kept is not None:
                kept.done()


def _with_flags(scores: "Scores") -> "Scores":
    """Returns the scores with reasons as a person reads them on the command line."""
    reasons = {name: with_flags(reason) for name, reason in scores.not_available.items()}
    return replace(scores, not_available=reasons)


def _comparison(
    features: str | None,
    named: ReferenceImages,
    weights: Path | None,
    sha256: str | None,
    download: bool,
) -> "ImageComparison | None":
    """Returns how images are compared; None where --features says that they are not."""
    from smoothctl.evaluation.image_quality import ImageComparison

    reference = named.open()
    if features != _NONE:
        return ImageComparison(features, reference, weights, sha256, download)
    if reference is not None or weights or sha256 or download:
        raise UsageError(f"--features {_NONE} compares no images: leave its options out.")
    return None


def _check_comparable(run: "Run", comparison: "ImageComparison | None") -> None:
    from smoothctl.evaluation.image_quality import ImageComparison
    from smoothctl.sampling.draw import is_image_run

    if comparison not in (None, ImageComparison()) and not is_image_run(run):
        raise UsageError(f"{run.path} models vectors: --features and --reference are for images.")


@contextmanager
def _held(run: "Run", kept: "PartialResults | None", notes: Notes) -> Iterator[None]:
    """Holds what is kept, so that nobody else removes them, and says what is left after a stop."""
    from smoothctl.storage.locks import hold

    if kept is None:
        yield
        return
    left = f"Stopped before {run.path} was scored; the same command goes on from what it has."
    lock = kept.folder.with_suffix(".lock")
    with stoppable(lambda: left), hold(lock, f"this score of {run.path}", notes.note):
        yield


def _score_images(
    target: str,
    comparison: "ImageComparison",
    named: ReferenceImages,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Judges one set of images and, for a floor, as many test images where there are any."""
    from smoothctl.evaluation.image_quality import score_images
    from smoothctl.evaluation.records import plain, stamp
    from smoothctl.evaluation.scores import FLOOR
    from smoothctl.reporting.scores import print_quality

    assert comparison.reference is not None
    images, test = named.open_judged(target), named.open_test()
    floor = {} if test is None else {FLOOR: test.pick(len(images), seed)}
    by = comparison.extractor(comparison.reference, device_name(device), named.notes.note)
    with named.notes.work() as progress:
        quality = score_images({**floor, images.name: images}, by, test, seed, progress)
    record = plain(quality)
    print_json({**stamp(), **record}) if as_json else print_quality(record)


def _counts(text: str | None) -> list[int] | None:
    """Reads the values of K."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < _DIGITS and int(part) > 0 for part in parts):
        raise UsageError(f"--draws takes whole numbers from 1, such as 2,8,64, not '{text:.80}'.")
    return [int(part) for part in parts]


def _annealing(work: dict[str, int | None]) -> "Annealing | None":
    """Returns the settings of annealing; None where none was given."""
    from smoothctl.config import build
    from smoothctl.smoothing.annealing import Annealing

    given = {name: value for name, value in work.items() if value is not None}
    return build(Annealing, given, "annealing") if given else None


def _note_limits(run: "Run", limit: int | None, effort: "Effort", notes: Notes) -> None:
    """Says that only the first test images are taken, where that is so."""
    first = effort.limit
    if limit is None and first is not None and len(run.dataset().test) > first:
        notes.note(f"Takes the first {first} test images; --limit takes more, 0 all.")
