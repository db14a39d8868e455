"""How tight a bound is to be had of log p(x): more draws, annealing, and both sides of it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from torch import Tensor

from smoothctl.evaluation.likelihood import (
    Estimate,
    annealed,
    bounds,
    exact_by_quadrature,
    plain_likelihood,
)
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    better,
    collect,
    parameters,
)
from smoothctl.reproduce.fitted import OF_WHICH, fitted_runs
from smoothctl.reproduce.planar import Fit, published_run
from smoothctl.runs.run import Run
from smoothctl.smoothing.annealing import Annealing
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DRAWS = (1, 8, 64, 512)
_QUADRATURE, _TUNING = 500, {"image": 8, "vector": 512}
_MOST = {"image": 100, "vector": 10_000}
_ANNEALING = {
    "image": Annealing(temperatures=40, leapfrogs=3),
    "vector": Annealing(temperatures=14, leapfrogs=3, chains=3),
}
"""Of vectors in about the time of 256 draws."""

_VALUE, _SECONDS, _PLAIN = "−log p", "CPU s", "plain model, exact"
_UNITS = {"image": "bits/dim", "vector": "nats"}
_Figures = dict[str, dict[str, float]]


def _figures(estimate: Estimate, seconds: float | None = None) -> dict[str, float]:
    """Returns −log p in the unit that users see, its standard error, and what it took."""
    value, error = estimate.bits_per_dim, estimate.bits_per_dim_error
    if value is None or error is None:
        value, error = estimate.nats, estimate.standard_error
    took = {} if seconds is None else {_SECONDS: seconds}
    return {_VALUE: value, "± s.e.": error, **took}


def _measure(run: Run, x: Tensor, others: Tensor, most: int) -> _Figures:
    """Returns the figures of each bound of one fitted pair."""
    method, domain = run.two_step(), run.dataset().domain
    assert method is not None
    found: _Figures = {}
    if "baseline" in run.stages():
        found[_PLAIN] = _figures(plain_likelihood("", run.density("baseline"), x))
    for count in [count for count in _DRAWS if count <= most]:
        start = time.process_time()
        estimates, tightest = bounds("", method, x, count, seed=0)
        estimate = estimates[0] if count == 1 else estimates[-1]
        name = "1 draw" if count == 1 else f"{count} draws"
        found[name] = _figures(estimate, time.process_time() - start)
    start = time.process_time()
    work = _ANNEALING[domain]
    estimates, _ = annealed(method, x, others, work, seed=0, sandwich=True)
    seconds = time.process_time() - start
    below, at_most, at_least, gap = estimates
    found["annealed"] = _figures(below, seconds / 3)  # of three runs of the chains
    found["own samples, at most"] = _figures(at_most)
    found["own samples, at least"] = _figures(at_least)
    found["own samples, gap"] = _figures(gap)
    if domain == "vector":
        exact = exact_by_quadrature("", method, x, tightest, _QUADRATURE)
        found["quadrature"] = _figures(exact)
    return found


def _runs(
    folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter
) -> dict[str, list[Run]]:
    """Returns the fitted runs of each set of data, the same as those of other experiments."""
    images = fitted_runs(folder, seeds, budget, reporter)
    if budget.dataset is not None:
        return {"MNIST": images}
    fit = Fit("rings", 0.3, budget, reporter)
    vectors = [published_run("two-step, 10 logistics", fit, folder, seed) for seed in seeds]
    return {"rings": vectors, "digits": images}


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    rows, claims = [], []
    for name, runs in _runs(folder, seeds, budget, reporter).items():
        data = runs[0].dataset()
        x = data.test.head(min(_MOST[data.domain], max(2, budget.examples)))
        others = data.train.batch(0, 0, 0, _TUNING[data.domain])
        every = [_measure(run, x, others, budget.draws or max(_DRAWS)) for run in runs]
        figures = {key: collect([each[key] for each in every]) for key in every[0]}
        size = parameters(runs[0], "prior", "denoiser")
        unit = _UNITS[data.domain]
        rows += [Row(f"{name}, {unit}: {key}", size, row) for key, row in figures.items()]
        claims += _claims(name, unit, {key: row[_VALUE] for key, row in figures.items()})
    return Result("bounds", list(seeds), {}, rows, claims)


def _claims(name: str, unit: str, values: Mapping[str, list[float]]) -> list[Claim]:
    most = [key for key in values if key.endswith((" draw", " draws"))][-1]
    annealing, gaps = (f"{name}: annealing", values["annealed"]), values["own samples, gap"]
    enclosed = f"{name}: annealing encloses −log p of the model's own samples"
    claims = [
        better(*annealing, most, values[most], unit),
        Claim(enclosed, f"mean gap {mean(gaps):.4f} {unit}", min(gaps) > 0),
    ]
    if _PLAIN in values:
        claims.append(better(*annealing, "the plain model", values[_PLAIN], unit))
    return claims


experiment = Experiment(
    "bounds",
    "draws, annealing and both sides of the bound: how much log p is left, on rings and digits, or "
    "on MNIST",
    "beyond both papers: Neal (2001), Grosse et al. (2015)",
    _run,
    takes_dataset=True,
    equal="the model, and its test examples",
    minutes=45,
    note=f"{OF_WHICH} Rings are those of `reproduce rings` with ten logistics. −log p, lower is "
    f"tighter. Annealing of images had {_ANNEALING['image'].temperatures} temperatures, that of "
    f"vectors {_ANNEALING['vector'].temperatures} and {_ANNEALING['vector'].chains} chains, with "
    "three leapfrogs a move. Own samples are as many of the model itself, another distribution "
    "than the test examples.",
)
