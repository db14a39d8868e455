"""All figures of one run: likelihoods beside the true entropy, samples beside a true sample."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.datasets.base import Dataset, Domain, Note
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.evaluation.image_quality import Extractor, ImageComparison, Quality, score_images
from smoothctl.evaluation.likelihood import (
    AnnealingFigures,
    Estimate,
    annealed,
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
from smoothctl.sampling.draw import draw_all, is_image_run, samples_key, usable_methods
from smoothctl.smoothing.annealing import Annealing
from smoothctl.smoothing.batching import AT_ONCE, KEPT_ROWS, Execution
from smoothctl.smoothing.bounds import check_draws
from smoothctl.smoothing.latent import Latent
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.storage.files import without_folders
from smoothctl.storage.partial import PartialResults

__all__ = [
    "FLOOR",
    "Bound",
    "Effort",
    "SampleScore",
    "Scores",
    "effort_for",
    "partial_scores",
    "score_run",
]

ProgressFor = Callable[[str], Progress | None]
"""Returns a progress callback for a named piece of work."""


Bound = Literal["weighted", "ais", "sandwich"]
"""The tightest bound of a two-step model: importance-weighted, by annealed importance sampling, or
that and both sides of the model's own samples."""


@dataclass(frozen=True)
class Effort:
    """How much work scoring does.

    Args:
        limit: test examples; all if None.
        draws: the K of the importance-weighted bounds.
        samples: samples to compare; 0 leaves them out.
        quadrature: examples of the exact integral in one and two dimensions; 0 leaves it out.
        bound: which is the tightest.
        annealing: how much work annealing is, where it is done.
    """

    limit: int | None
    draws: tuple[int, ...]
    samples: int
    quadrature: int
    bound: Bound = "weighted"
    annealing: Annealing = field(default_factory=Annealing)


EFFORTS: dict[Domain, Effort] = {
    "vector": Effort(limit=None, draws=(16, 256), samples=5000, quadrature=256),
    "image": Effort(limit=1000, draws=(2, 8), samples=64, quadrature=0),
}
"""What is affordable by domain: one image costs as much as thousands of vectors."""

_ANNEALED_IMAGES = 100
"""Test images that are annealed unless one asks for more: each takes seconds to minutes."""

_TUNING = {"image": 8, "vector": 512}
"""Training examples for which temperatures and steps are tuned."""

_MOST_SAMPLES = 2**20
"""That are compared with test examples: far more than tell a difference."""

FLOOR = "test images (floor)"
"""The row of what perfect samples would get."""

_BY_DEFAULT = ImageComparison()


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
    bound: Bound
    samples_each: int
    true_entropy: float | None
    likelihood: list[Estimate]
    gain: Estimate | None
    annealing: AnnealingFigures | None
    samples: list[SampleScore]
    quality: Quality | None
    not_available: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; figures that are not finite become null."""
        return plain(self)


def score_run(
    run: Run,
    effort: Effort | None = None,
    seed: int = 0,
    comparison: ImageComparison | None = _BY_DEFAULT,
    progress: ProgressFor = lambda _: None,
    note: Note = lambda _: None,
    execution: Execution = AT_ONCE,
) -> Scores:
    """Scores every complete stage of a run on its dataset.

    Likelihoods are of the test view. Samples of images are compared with the training view by
    the features of an extractor, and test images beside them.

    Args:
        run: an opened run.
        effort: how much work is done; that of the domain (`effort_for`) if None.
        seed: seed of noise, samples, projections and subsets.
        comparison: how images are judged; None leaves it out.
        progress: makes progress callbacks.
        note: told what a person should know.
        execution: whose processes share likelihoods and samples, of which the first alone judges
            the samples; and what keeps them: `partial_scores` for the same arguments.

    Raises:
        RunError: a stage's files are damaged.
        DataError: drawn samples are not finite, or are not images of the reference's shape.
        NotAvailable: the named features cannot be had.
    """
    return _Scoring(run, effort or effort_for(run), seed, progress, note, execution).scores(
        comparison
    )


def effort_for(
    run: Run,
    limit: int | None = None,
    draws: int | Sequence[int] | None = None,
    samples: int | None = None,
    quadrature: int | None = None,
    bound: Bound = "weighted",
    annealing: Annealing | None = None,
) -> Effort:
    """Returns the effort of the run's domain, with what is chosen instead.

    Args:
        run: an opened run.
        limit: test examples to use, the first ones; 0: all. Here and below, None is the domain's.
        draws: K of the importance-weighted bounds.
        samples: samples to draw and compare; 0 leaves them out.
        quadrature: examples of the exact integral in one and two dimensions; 0 leaves it out.
        bound: which is the tightest.
        annealing: how much work annealing is.

    Raises:
        UsageError: one sample, one example, more samples or draws than memory holds, or settings of
            annealing without it.
    """
    if samples == 1:
        raise UsageError("Two-sample statistics need at least 2 samples, or 0 for none.")
    if samples is not None and samples > _MOST_SAMPLES:
        raise UsageError(
            f"At most {_MOST_SAMPLES:,} samples are compared with test examples: choose fewer "
            "`samples`."
        )
    if limit == 1:
        raise UsageError("A standard error needs at least 2 test examples; 0 takes all.")
    if annealing is not None and bound == "weighted":
        raise UsageError(
            "Settings of annealing mean nothing to an importance-weighted bound: choose the bound "
            "'ais' or 'sandwich'."
        )
    default = EFFORTS["image" if is_image_run(run) else "vector"]
    if bound != "weighted" and is_image_run(run):
        default = replace(default, limit=_ANNEALED_IMAGES)
    counts = (draws,) if isinstance(draws, int) else draws or default.draws
    check_draws(counts)
    return Effort(
        limit=default.limit if limit is None else limit or None,
        draws=tuple(sorted(set(counts))),
        samples=default.samples if samples is None else samples,
        quadrature=default.quadrature if quadrature is None else quadrature,
        bound=bound,
        annealing=annealing or Annealing(),
    )


def partial_scores(
    run: Run,
    effort: Effort,
    seed: int = 0,
    note: Note = lambda _: None,
    processes: Processes = ALONE,
) -> PartialResults | None:
    """Returns where `score_run` with the same arguments may keep what it has, so that it goes on.

    That is a hidden folder of the run, named by what the figures are a function of. Work that is
    one block of evaluations is not kept.
    """
    dataset = run.dataset()
    examples = min(len(dataset.test), effort.limit or len(dataset.test))
    rows = examples * (1 + max(effort.draws)) + effort.samples
    if effort.bound == "weighted" and rows <= KEPT_ROWS[dataset.domain]:
        return None
    key = {**samples_key(run), "data": dataset.fingerprint, **asdict(effort), "seed": seed}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    return PartialResults(run.path / f".score-{digest}.parts", key, note, processes)


class _Scoring:
    """One scoring of a run; the arguments are those of `score_run`."""

    def __init__(
        self,
        run: Run,
        effort: Effort,
        seed: int,
        progress: ProgressFor,
        note: Note,
        execution: Execution,
    ) -> None:
        self.run, self.effort, self.seed = run, effort, seed
        self.progress, self.note, self.execution = progress, note, execution
        self.dataset = run.dataset()
        self.two_step = run.two_step()
        self.missing: dict[str, str] = {}
        self.x = self.dataset.test.head(effort.limit).to(run.device)

    def scores(self, comparison: ImageComparison | None) -> Scores:
        """Returns all figures."""
        extractor = self._extractor(comparison)  # what cannot be had is said before the work
        self._check_annealing()
        likelihood, gain = self._likelihood(), self._gain()
        annealed_figures = self._anneal(likelihood)
        if gain is not None and (said := gain_note(gain.nats, self.dataset.event_shape)):
            self.note(said)
        entropy = _or_missing(self.dataset.true_entropy, "true entropy", self.missing)
        samples = self._samples()
        statistics = self._two_sample(samples)
        if self.dataset.domain == "image":  # nobody expects these of images
            for name in ("true entropy", "off support"):
                self.missing.pop(name, None)
        return Scores(
            run=without_folders(str(self.run.path)),
            dataset=without_folders(self.dataset.name),
            **stamp(),
            weights=self.run.weights,
            sampler=dict(self.run.sampler),
            seed=self.seed,
            limit=self.effort.limit,
            draws=list(self.effort.draws),
            quadrature=self.effort.quadrature,
            bound=self.effort.bound,
            samples_each=self.effort.samples,
            true_entropy=entropy,
            likelihood=likelihood,
            gain=gain,
            annealing=annealed_figures,
            samples=statistics,
            quality=self._quality(extractor, samples),
            not_available=self.missing,
        )

    def _labels(self, model: Density | TwoStep) -> Tensor | None:
        """Returns the classes of the examples where a model is conditioned on them."""
        if model.classes is None:
            return None
        return self.dataset.test.head_labels(self.effort.limit).to(self.run.device)

    def _told(self, work: str) -> Execution:
        return replace(self.execution, progress=self.progress(work))

    def _likelihood(self) -> list[Estimate]:
        """Returns the baseline's likelihood and the bounds of the two stages."""
        plain = "baseline" in self.run.stages()
        estimates = self._plain(self.run.density("baseline")) if plain else []
        if self.two_step is not None:
            return estimates + self._bounds(self.two_step)
        if not plain:
            self.run.check("prior")
        if self.run.stage("prior").started or "denoiser" in self.run.stages():
            self.missing["two-step bound"] = self.run.stage("prior").lacking()
        return estimates

    def _plain(self, baseline: Density) -> list[Estimate]:
        if not self._has_likelihood(baseline, "baseline likelihood"):
            return []
        x, work = self.x.to(_dtype(baseline)), self._told("likelihood")
        if baseline.bounded:
            draws = self.effort.draws
            return latent_bounds("baseline", baseline, x, draws, self.seed, work.progress)
        return [plain_likelihood("baseline", baseline, x, self._labels(baseline), work)]

    def _bounds(self, two_step: TwoStep) -> list[Estimate]:
        """Returns the bounds and, of one- and two-dimensional vectors, the exact integral."""
        if two_step.denoiser is None:
            self.missing["two-step bound"] = self.run.stage("denoiser").lacking()
            return []
        stages = (two_step.prior, two_step.denoiser)
        if not all(self._has_likelihood(stage, "two-step bound") for stage in stages):
            return []
        x, counts = self.x.to(_dtype(two_step.prior)), self.effort.draws
        given = (self.seed, self._labels(two_step), self._told("bounds"))
        estimates, tighter = bounds("two-step", two_step, x, counts, *given)
        examples = self.effort.quadrature
        if examples and x.ndim == 2 and x.shape[1] <= 2 and two_step.tractable:
            work = self._told("quadrature")
            estimates.append(exact_by_quadrature("two-step", two_step, x, tighter, examples, work))
        return estimates

    def _check_annealing(self) -> None:
        """Says before the work that what was asked for cannot be annealed."""
        if self.effort.bound == "weighted":
            return
        if self.two_step is None or self.two_step.denoiser is None:
            raise UsageError(
                f"{self.run.path} has no prior with a denoiser, whose bound annealing tightens."
            )
        Latent(self.two_step)

    def _anneal(self, likelihood: list[Estimate]) -> AnnealingFigures | None:
        """Adds the annealed bounds to the estimates, where they were asked for."""
        if self.effort.bound == "weighted":
            return None
        assert self.two_step is not None
        dtype, train = _dtype(self.two_step.prior), self.dataset.train
        count = _TUNING[self.dataset.domain]
        others = train.batch(self.seed, 0, 0, count).to(self.run.device, dtype)
        classes = self._labels(self.two_step)
        other_classes = None if classes is None else train.labels(self.seed, 0, 0, count)
        estimates, figures = annealed(
            self.two_step,
            self.x.to(dtype),
            others,
            self.effort.annealing,
            self.seed,
            self.effort.bound == "sandwich",
            classes,
            None if other_classes is None else other_classes.to(self.run.device),
            self._told("annealing"),
        )
        likelihood += estimates
        return figures

    def _has_likelihood(self, density: Density, name: str) -> bool:
        has = density.tractable or density.bounded
        if not has:
            model = type(density).__name__
            self.missing[name] = f"{model} has neither a likelihood nor a bound of it"
        return has

    def _gain(self) -> Estimate | None:
        """Returns the gain from x̃ of a complete denoiser."""
        if self.two_step is None or self.two_step.denoiser is None:
            return None
        x = self.x.to(_dtype(self.two_step.denoiser))
        return gain_estimate("two-step", self.two_step, x, self.seed, self._labels(self.two_step))

    def _samples(self) -> dict[str, Tensor]:
        """Draws by every method that the run allows."""
        if not self.effort.samples:
            return {}
        methods, work = usable_methods(self.run, self.missing), self._told("samples")
        drawn = draw_all(self.run, methods, self.effort.samples, self.seed, execution=work)
        return {name: each.samples.cpu() for name, each in drawn.items()}

    def _two_sample(self, samples: Mapping[str, Tensor]) -> list[SampleScore]:
        """Compares samples, and true ones for a floor, with the first n test examples."""
        if not samples:
            return []
        n = self.effort.samples
        reference = self.dataset.test.head(n)
        every = {"true sample (floor)": self.dataset.reference(n, self.seed), **samples}
        return [
            _sample_score(name, x.to(reference), reference, self.dataset, self.seed, self.missing)
            for name, x in every.items()
        ]

    def _extractor(self, comparison: ImageComparison | None) -> Extractor | None:
        """Makes the extractor for the reference, the run's training images if none is given."""
        wanted = self.effort.samples and self.dataset.domain == "image"
        if comparison is None or not wanted or not self.execution.processes.is_first:
            return None
        name = Path(self.dataset.name).name
        train = of_view(f"{name} (train)", self.dataset, self.dataset.train)
        reference = comparison.reference or train
        train.check_comparable(reference)
        return comparison.extractor(reference, str(self.run.device), self.note)

    def _quality(
        self, extractor: Extractor | None, samples: Mapping[str, Tensor]
    ) -> Quality | None:
        """Judges samples and, for a floor, as many test images."""
        if extractor is None or not samples:
            return None
        name = Path(self.dataset.name).name
        test = of_view(f"{name} (test)", self.dataset, self.dataset.test)
        n = len(next(iter(samples.values())))
        floor = test.pick(n, self.seed)
        sets = {FLOOR: floor, **{key: of_tensor(key, x) for key, x in samples.items()}}
        return score_images(sets, extractor, test, self.seed, self.progress)


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
