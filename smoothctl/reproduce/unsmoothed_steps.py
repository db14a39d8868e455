"""A single step from an unsmoothed model's own samples repairs nothing (ARDS appendix C.6)."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from torch import Tensor

from smoothctl.reporting.figures import columns, save
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    collect,
    parameters,
)
from smoothctl.reproduce.fitted import OF_WHICH, fitted_runs
from smoothctl.reproduce.quality import FRECHET, Quality
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw, draw_all, unsmoothed_single_steps
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.3)
_SINGLE = "smoothed, single-step"
_SAMPLES, _SHOWN = 2000, 36


def _samples(run: Run, n: int, seed: int) -> dict[str, Tensor]:
    """Returns plain samples after the step of each σ, and single-step samples of a smoothed one."""
    plain = draw(run, "baseline", n, seed).samples
    moved = unsmoothed_single_steps(run.density("baseline"), plain, _SIGMAS)
    found = {f"plain, σ {sigma:g}": images for sigma, images in moved.items()}
    return {**found, _SINGLE: draw_all(run, ["single-step"], n, seed)["single-step"].samples}


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    runs = fitted_runs(folder, seeds, budget, reporter)
    quality = Quality.by_labels_of(runs[0].dataset())
    per_seed: list[dict[str, float]] = []
    shown: dict[str, Tensor] = {}
    for seed, run in zip(seeds, runs, strict=True):
        found = _samples(run, min(_SAMPLES, max(2, budget.examples)), seed)
        per_seed.append({name: quality.frechet(x) for name, x in found.items()})
        shown = shown or {name: x[:_SHOWN] for name, x in found.items()}
    distances = collect(per_seed)
    sizes = parameters(runs[0], "baseline"), parameters(runs[0], "prior")
    rows = [
        Row(name, sizes[name == _SINGLE], {FRECHET: values}) for name, values in distances.items()
    ]
    picture = folder / "unsmoothed-steps.png"
    save(columns(shown), picture)
    claims = [_claim(distances)]
    return Result("unsmoothed-steps", list(seeds), {}, rows, claims, [str(picture)])


def _claim(distances: dict[str, list[float]]) -> Claim:
    unmoved, *moved = (values for name, values in distances.items() if name != _SINGLE)
    gains = [max(a - b for b in after) for a, *after in zip(unmoved, *moved, strict=True)]
    shown = f"the best σ changes the distance of {mean(unmoved):.1f} by {-mean(gains):+.1f} "
    shown += f"(most {-max(gains):+.1f})"
    statement = "no step x + σ²∇ log p(x) of an unsmoothed model brings its samples a tenth nearer"
    worst = max(gain / a for gain, a in zip(gains, unmoved, strict=True))
    return Claim(statement, shown, worst < 0.1, "appendix C.6")


experiment = Experiment(
    "unsmoothed-steps",
    "single-step denoising without smoothing, on digits or MNIST",
    "ARDS (Meng et al. 2021), appendix C.6",
    _run,
    takes_dataset=True,
    paper="ARDS",
    section=24.0,
    equal="samples of each row",
    minutes=8,
    note=f"{OF_WHICH} "
    f"Of {_SAMPLES:,} samples each. The gradient is that of the plain model's log-mass, as if "
    "a pixel's value were a real number; smoothed samples take their step from the prior of x̃.",
)
