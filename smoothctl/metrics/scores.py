"""All figures of one run: likelihoods beside the true entropy, samples beside a true sample."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from smoothctl import __version__
from smoothctl.architectures.base import Progress
from smoothctl.datasets.base import Dataset, Domain
from smoothctl.errors import NotAvailable, RunError, UsageError
from smoothctl.files import write_json
from smoothctl.metrics.likelihood import Estimate, bounds, exact_by_quadrature, plain_likelihood
from smoothctl.metrics.two_sample import energy_distance, sliced_wasserstein
from smoothctl.randomness import generator
from smoothctl.runs import Run
from smoothctl.sampling import draw_all, usable_methods

__all__ = ["EFFORTS", "Effort", "SampleScore", "Scores", "append_scores", "score_run"]

ProgressFor = Callable[[str], Progress | None]
"""Returns a progress callback for a named piece of work."""


@dataclass(frozen=True)
class Effort:
    """How much work scoring does.

    Args:
        limit: test examples; all if None.
        draws: K of the importance-weighted bound.
        samples: samples for the two-sample statistics; 0 leaves them out.
        quadrature: examples of the exact integral in one and two dimensions; 0 leaves it out.
    """

    limit: int | None
    draws: int
    samples: int
    quadrature: int


EFFORTS: dict[Domain, Effort] = {
    "vector": Effort(limit=None, draws=256, samples=5000, quadrature=256),
    "image": Effort(limit=1000, draws=8, samples=64, quadrature=0),
}
"""What is affordable by domain: one image costs as much as thousands of vectors."""


@dataclass(frozen=True)
class SampleScore:
    """Two-sample statistics of drawn samples against the test data; None where not available."""

    method: str
    energy_distance: float
    sliced_wasserstein: float
    off_support: float | None


@dataclass(frozen=True)
class Scores:
    """The figures of one run, with what is needed to repeat them."""

    run: str
    dataset: str
    time: str
    smoothctl: str
    weights: str
    seed: int
    draws: int
    samples_each: int
    true_entropy: float | None
    likelihood: list[Estimate]
    samples: list[SampleScore]
    not_available: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; figures that are not finite become null."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


def score_run(
    run: Run,
    *,
    limit: int | None = None,
    draws: int | None = None,
    samples: int | None = None,
    quadrature: int | None = None,
    seed: int = 0,
    progress: ProgressFor = lambda _: None,
) -> Scores:
    """Scores every complete stage of a run on its dataset's test view.

    Args:
        run: an opened run.
        limit: test examples to use, the first ones; here and below, None is the domain's `Effort`.
        draws: K of the importance-weighted bound.
        samples: samples to draw for the two-sample statistics; 0 leaves them out.
        quadrature: examples of the exact integral in one and two dimensions; 0 leaves it out.
        seed: seed of noise, samples and projections.
        progress: makes progress callbacks.

    Raises:
        RunError: a stage's files are damaged.
        DataError: drawn samples are not finite.
    """
    if samples == 1:
        raise UsageError("Two-sample statistics need at least 2 samples, or 0 for none.")
    dataset = run.dataset()
    effort = EFFORTS[dataset.domain]
    limit = effort.limit if limit is None else limit
    draws = effort.draws if draws is None else draws
    samples = effort.samples if samples is None else samples
    quadrature = effort.quadrature if quadrature is None else quadrature
    missing: dict[str, str] = {}
    x = dataset.test.head(limit).to(run.device)
    labels = None if dataset.classes is None else dataset.test.head_labels(limit).to(run.device)
    entropy = _or_missing(dataset.true_entropy, "true entropy", missing)
    drawn = _samples(run, dataset, x, samples, seed, progress, missing) if samples else []
    if dataset.domain == "image":  # nobody expects these of images
        for name in ("true entropy", "off support"):
            missing.pop(name, None)
    return Scores(
        run=str(run.path),
        dataset=dataset.name,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        smoothctl=__version__,
        weights=run.weights,
        seed=seed,
        draws=draws,
        samples_each=samples,
        true_entropy=entropy,
        likelihood=_likelihood(run, x, labels, draws, quadrature, seed, progress, missing),
        samples=drawn,
        not_available=missing,
    )


def _likelihood(
    run: Run,
    x: Tensor,
    labels: Tensor | None,
    draws: int,
    quadrature: int,
    seed: int,
    progress: ProgressFor,
    missing: dict[str, str],
) -> list[Estimate]:
    found = []
    if "baseline" in run.stages():
        baseline = run.density("baseline")
        rows, work = x.to(_dtype(baseline)), progress("likelihood")
        found.append(plain_likelihood("baseline", baseline, rows, labels, work))
    method = run.method()
    if method is not None and method.denoiser is not None:
        x = x.to(_dtype(method.prior))
        work = progress("bounds")
        estimates, tighter = bounds("two-step", method, x, draws, seed, work, labels)
        found += estimates
        if quadrature and x[0].numel() <= 2 and x.ndim == 2:
            work = progress("quadrature")
            found.append(exact_by_quadrature("two-step", method, x, tighter, quadrature, work))
    elif method is not None:
        missing["two-step bound"] = "there is no denoiser yet: fit-denoiser makes one"
    return found


def _samples(
    run: Run,
    dataset: Dataset,
    x: Tensor,
    n: int,
    seed: int,
    progress: ProgressFor,
    missing: dict[str, str],
) -> list[SampleScore]:
    reference = x[:n].cpu()
    drawn = {"true sample (floor)": dataset.reference(n, seed)}
    methods = usable_methods(run, missing)
    work = progress("samples")
    for name, found in draw_all(run, methods, n, seed, work).items():
        drawn[name] = found.samples
    return [
        _sample_score(name, samples.to(reference), reference, dataset, seed, missing)
        for name, samples in drawn.items()
    ]


def _sample_score(
    method: str,
    samples: Tensor,
    reference: Tensor,
    dataset: Dataset,
    seed: int,
    missing: dict[str, str],
) -> SampleScore:
    x, y = samples.flatten(1), reference.flatten(1)
    return SampleScore(
        method,
        energy_distance(x, y),
        sliced_wasserstein(x, y, generator=generator(seed, "projections")),
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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_scores(run: Run, scores: Scores) -> None:
    """Adds the scores to the run's scores.json; earlier ones stay.

    Raises:
        RunError: the file is there but is no list of scores, or cannot be written.
    """
    file = run.path / "scores.json"
    try:
        earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    except ValueError as error:
        raise RunError(f"{file} is no valid JSON: move it away to score again.") from error
    if not isinstance(earlier, list):
        raise RunError(f"{file} holds no list of scores: move it away to score again.")
    write_json(file, [*earlier, scores.to_dict()])
