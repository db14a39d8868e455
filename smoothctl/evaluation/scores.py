"""All figures of one run: likelihoods beside the true entropy, samples beside a true sample."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.datasets.base import Dataset, Domain, Note
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.evaluation.image_quality import Judge, Judging, Quality, score_images
from smoothctl.evaluation.likelihood import (
    Estimate,
    bounds,
    exact_by_quadrature,
    gain_estimate,
    latent_bounds,
    plain_likelihood,
)
from smoothctl.evaluation.records import plain, stamp
from smoothctl.metrics.gain import gain_note
from smoothctl.metrics.image_sets import of_tensor, of_view
from smoothctl.metrics.two_sample import (
    FEWEST,
    classifier_test,
    energy_distance,
    sliced_wasserstein,
)
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw_all, samples_key, usable_methods
from smoothctl.smoothing.batching import KEPT_ROWS
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.storage.partial import NOWHERE, Parts

__all__ = [
    "EFFORTS",
    "FLOOR",
    "Effort",
    "SampleScore",
    "Scores",
    "score_parts",
    "score_run",
]

ProgressFor = Callable[[str], Progress | None]
"""Returns a progress callback for a named piece of work."""


@dataclass(frozen=True)
class Effort:
    """How much work scoring does.

    Args:
        limit: test examples; all if None.
        draws: the K of the importance-weighted bounds.
        samples: samples to judge; 0 leaves them out.
        quadrature: examples of the exact integral in one and two dimensions; 0 leaves it out.
    """

    limit: int | None
    draws: tuple[int, ...]
    samples: int
    quadrature: int


EFFORTS: dict[Domain, Effort] = {
    "vector": Effort(limit=None, draws=(16, 256), samples=5000, quadrature=256),
    "image": Effort(limit=1000, draws=(2, 8), samples=64, quadrature=0),
}
"""What is affordable by domain: one image costs as much as thousands of vectors."""

FLOOR = "test images (floor)"
"""The row of what perfect samples would get."""

_BY_DEFAULT = Judging()


@dataclass(frozen=True)
class SampleScore:
    """Two-sample statistics of drawn samples against the test data; None where not available.

    Args:
        method: how they were drawn.
        energy_distance: see `two_sample.energy_distance`.
        sliced_wasserstein: see `two_sample.sliced_wasserstein`.
        classifier_accuracy: of a classifier of samples against test data; 0.5 where it cannot tell
            them apart. Of vectors only: images have features for it.
        classifier_p: probability of such an accuracy, were the distributions equal.
        off_support: share of samples where true data practically never are.
    """

    method: str
    energy_distance: float
    sliced_wasserstein: float
    classifier_accuracy: float | None
    classifier_p: float | None
    off_support: float | None


@dataclass(frozen=True)
class Scores:
    """The figures of one run, with what is needed to repeat them."""

    run: str
    dataset: str
    time: str
    smoothctl: str
    versions: dict[str, str]
    weights: str
    sampler: dict[str, Any]
    seed: int
    limit: int | None
    draws: list[int]
    quadrature: int
    samples_each: int
    true_entropy: float | None
    likelihood: list[Estimate]
    gain: Estimate | None
    samples: list[SampleScore]
    quality: Quality | None
    not_available: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; figures that are not finite become null."""
        return plain(self)


def score_run(
    run: Run,
    *,
    limit: int | None = None,
    draws: int | Sequence[int] | None = None,
    samples: int | None = None,
    quadrature: int | None = None,
    seed: int = 0,
    judging: Judging | None = _BY_DEFAULT,
    progress: ProgressFor = lambda _: None,
    note: Note = lambda _: None,
    processes: Processes = ALONE,
    parts: Parts = NOWHERE,
) -> Scores:
    """Scores every complete stage of a run on its dataset.

    Likelihoods are of the test view. Samples of images are compared with the training view by
    the features of an extractor, and test images beside them.

    Args:
        run: an opened run.
        limit: test examples to use, the first ones; 0: all. Here and below, None is the domain's
            `Effort`.
        draws: K of the importance-weighted bounds.
        samples: samples to draw and judge; 0 leaves them out.
        quadrature: examples of the exact integral in one and two dimensions; 0 leaves it out.
        seed: seed of noise, samples, projections and subsets.
        judging: how images are judged; None leaves it out.
        progress: makes progress callbacks.
        note: told what a person should know.
        processes: those that share likelihoods and samples; the first alone judges them, and gets
            their figures.
        parts: keeps what was evaluated and drawn: those of `score_parts` for the same arguments.

    Raises:
        RunError: a stage's files are damaged.
        DataError: drawn samples are not finite, or are not images of the reference's shape.
        NotAvailable: the named features cannot be had.
    """
    if samples == 1:
        raise UsageError("Two-sample statistics need at least 2 samples, or 0 for none.")
    if limit == 1:
        raise UsageError("A standard error needs at least 2 test examples; 0 takes all.")
    dataset = run.dataset()
    chosen = _effort(dataset, limit, draws, samples, quadrature)
    missing: dict[str, str] = {}
    by: Judge | None = None
    if chosen.samples and judging is not None and processes.is_first and dataset.domain == "image":
        by = _judge(run, dataset, judging, note)  # what cannot be had is said before the work
    share = (processes, parts)
    likelihood = _likelihood(run, dataset, chosen, seed, progress, missing, *share)
    gain = _gain(run, dataset, chosen, seed)
    if gain is not None and (said := gain_note(gain.nats, dataset.event_shape)):
        note(said)
    entropy = _or_missing(dataset.true_entropy, "true entropy", missing)
    drawn: dict[str, Tensor] = {}
    if chosen.samples:
        methods, told = usable_methods(run, missing), progress("samples")
        found = draw_all(run, methods, chosen.samples, seed, told, parts=parts, processes=processes)
        drawn = {name: each.samples.cpu() for name, each in found.items()}
    scored = _two_sample(dataset, drawn, chosen.samples, seed, missing)
    if dataset.domain == "image":  # nobody expects these of images
        for name in ("true entropy", "off support"):
            missing.pop(name, None)
    quality = None if by is None or not drawn else _quality(dataset, drawn, by, seed, progress)
    return Scores(
        run=str(run.path),
        dataset=dataset.name,
        **stamp(),
        weights=run.weights,
        sampler=dict(run.sampler),
        seed=seed,
        limit=chosen.limit,
        draws=list(chosen.draws),
        quadrature=chosen.quadrature,
        samples_each=chosen.samples,
        true_entropy=entropy,
        likelihood=likelihood,
        gain=gain,
        samples=scored,
        quality=quality,
        not_available=missing,
    )


def score_parts(
    run: Run,
    *,
    limit: int | None = None,
    draws: int | Sequence[int] | None = None,
    samples: int | None = None,
    quadrature: int | None = None,
    seed: int = 0,
    note: Note = lambda _: None,
    processes: Processes = ALONE,
) -> Parts:
    """Returns where `score_run` with the same arguments may keep what it has, so that it goes on.

    That is a hidden folder of the run, named by what the figures are a function of. Work that is
    one block of evaluations is not kept.
    """
    dataset = run.dataset()
    effort = _effort(dataset, limit, draws, samples, quadrature)
    examples = min(len(dataset.test), effort.limit or len(dataset.test))
    if examples * (1 + max(effort.draws)) + effort.samples <= KEPT_ROWS[dataset.domain]:
        return NOWHERE
    key = {**samples_key(run), "data": dataset.fingerprint, **asdict(effort), "seed": seed}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    return Parts(run.path / f".score-{digest}.parts", key, note, processes)


def _effort(
    dataset: Dataset,
    limit: int | None,
    draws: int | Sequence[int] | None,
    samples: int | None,
    quadrature: int | None,
) -> Effort:
    """Returns the domain's effort, with what was chosen instead."""
    default = EFFORTS[dataset.domain]
    counts = (draws,) if isinstance(draws, int) else draws or default.draws
    return Effort(
        limit=default.limit if limit is None else limit or None,
        draws=tuple(sorted(set(counts))),
        samples=default.samples if samples is None else samples,
        quadrature=default.quadrature if quadrature is None else quadrature,
    )


def _likelihood(
    run: Run,
    dataset: Dataset,
    effort: Effort,
    seed: int,
    progress: ProgressFor,
    missing: dict[str, str],
    processes: Processes,
    parts: Parts,
) -> list[Estimate]:
    x = dataset.test.head(effort.limit).to(run.device)
    labels = None
    if dataset.classes is not None:
        labels = dataset.test.head_labels(effort.limit).to(run.device)
    found = []
    if "baseline" in run.stages():
        baseline = run.density("baseline")
        if _has_likelihood(baseline, "baseline likelihood", missing):
            rows, work = x.to(_dtype(baseline)), progress("likelihood")
            if baseline.bounded:
                found += latent_bounds("baseline", baseline, rows, effort.draws, seed, work)
            else:
                given = (labels, work, processes, parts)
                found.append(plain_likelihood("baseline", baseline, rows, *given))
    method = run.method()
    if method is None and not found:
        run.check("prior")
    if method is None:
        if run.stage("prior").started or "denoiser" in run.stages():
            missing["two-step bound"] = run.stage("prior").lacking()
        return found
    if method.denoiser is None:
        missing["two-step bound"] = run.stage("denoiser").lacking()
    elif all(
        _has_likelihood(stage, "two-step bound", missing)
        for stage in (method.prior, method.denoiser)
    ):
        shared = replace(method, processes=processes, parts=parts)
        found += _bounds(shared, x.to(_dtype(method.prior)), labels, effort, seed, progress)
    return found


def _gain(run: Run, dataset: Dataset, effort: Effort, seed: int) -> Estimate | None:
    """Returns the gain from x̃ of a complete denoiser."""
    method = run.method()
    if method is None or method.denoiser is None:
        return None
    x = dataset.test.head(effort.limit).to(run.device, _dtype(method.denoiser))
    labels = None
    if dataset.classes is not None:
        labels = dataset.test.head_labels(effort.limit).to(run.device)
    return gain_estimate("two-step", method, x, seed, labels)


def _bounds(
    method: TwoStep,
    x: Tensor,
    labels: Tensor | None,
    effort: Effort,
    seed: int,
    progress: ProgressFor,
) -> list[Estimate]:
    """Returns the bounds and, of one- and two-dimensional vectors, the exact integral."""
    work = progress("bounds")
    found, tighter = bounds("two-step", method, x, effort.draws, seed, work, labels)
    if effort.quadrature and x[0].numel() <= 2 and x.ndim == 2 and method.tractable:
        work = progress("quadrature")
        found.append(exact_by_quadrature("two-step", method, x, tighter, effort.quadrature, work))
    return found


def _has_likelihood(density: Density, name: str, missing: dict[str, str]) -> bool:
    has = density.tractable or density.bounded
    if not has:
        missing[name] = f"{type(density).__name__} gives scores, the gradients of log p, alone"
    return has


def _two_sample(
    dataset: Dataset,
    drawn: Mapping[str, Tensor],
    n: int,
    seed: int,
    missing: dict[str, str],
) -> list[SampleScore]:
    """Compares samples, and true ones for a floor, with the first n test examples."""
    if not drawn:
        return []
    reference = dataset.test.head(n)
    every = {"true sample (floor)": dataset.reference(n, seed), **drawn}
    return [
        _sample_score(name, samples.to(reference), reference, dataset, seed, missing)
        for name, samples in every.items()
    ]


def _judge(run: Run, dataset: Dataset, judging: Judging, note: Note) -> Judge:
    """Makes the extractor for the reference, the run's training images if none is given."""
    train = of_view(f"{Path(dataset.name).name} (train)", dataset, dataset.train)
    reference = judging.reference or train
    train.check_comparable(reference)
    return judging.judge(reference, str(run.device), note)


def _quality(
    dataset: Dataset, drawn: Mapping[str, Tensor], by: Judge, seed: int, progress: ProgressFor
) -> Quality:
    """Judges samples and, for a floor, as many test images."""
    test = of_view(f"{Path(dataset.name).name} (test)", dataset, dataset.test)
    n = len(next(iter(drawn.values())))
    sets = {FLOOR: test.pick(n, seed), **{key: of_tensor(key, x) for key, x in drawn.items()}}
    return score_images(sets, by, test, seed, progress)


def _sample_score(
    method: str,
    samples: Tensor,
    reference: Tensor,
    dataset: Dataset,
    seed: int,
    missing: dict[str, str],
) -> SampleScore:
    x, y = samples.flatten(1), reference.flatten(1)
    told_apart = None
    if dataset.domain == "vector" and min(len(x), len(y)) >= FEWEST:
        told_apart = classifier_test(x, y, seed)
    return SampleScore(
        method,
        energy_distance(x, y),
        sliced_wasserstein(x, y, generator=generator(seed, "projections")),
        told_apart and told_apart.accuracy,
        told_apart and told_apart.p_value,
        _or_missing(
            lambda: float(dataset.off_support(samples).float().mean()), "off support", missing
        ),
    )


def _or_missing(compute: Callable[[], float], name: str, missing: dict[str, str]) -> float | None:
    try:
        return compute()
    except NotAvailable as error:
        missing[name] = str(error)
        return None


def _dtype(density: Any) -> Any:
    return next(density.parameters()).dtype
