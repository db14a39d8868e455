"""Rings: an NCSN stopped at the kernel's σ as the prior of a two-step model, and its parents."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from smoothctl.datasets import open_dataset
from smoothctl.metrics.two_sample import energy_distance, sliced_wasserstein
from smoothctl.reporting.figures import panels, save
from smoothctl.reproduce.base import (
    Budget,
    Experiment,
    Result,
    Row,
    better,
    collect,
    parameters,
)
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DATASET, _SIGMA = "rings", 0.3
_STEPS = {"baseline": 10_000, "prior": 4000, "denoiser": 6000}
_MADE = {
    "prior": {"mixtures": 3, "width": 40},
    "denoiser": {"mixtures": 3, "width": 122},
}
_NCSN = "smoothctl-ncsn:ncsn-mlp"
_ROWS = ("NCSN", "NCSN to σ 0.3, then MADE", "MADE, then MADE")
_BOTH = 5000


def _fits(
    folder: Path, seed: int, budget: Budget, reporter: Reporter
) -> dict[str, tuple[Run, str]]:
    """Returns the run and the method of each row."""
    training = {
        name: {"steps": budget.of(n), "batch_size": 1024, "warmup": 200}
        for name, n in _STEPS.items()
    }

    def out(name: str) -> dict[str, object]:
        return {"out": folder / f"{name}-seed{seed}", "seed": seed}

    def denoiser(name: str) -> Run:
        made = {"architecture": "made", "options": _MADE["denoiser"]}
        return fit_denoiser(reporter, **out(name), **made, training=training["denoiser"])

    data = {"dataset": _DATASET}
    prior = {**data, "sigma": _SIGMA, "training": training["prior"]}
    alone = {**data, "training": training["baseline"]}
    ncsn = fit_baseline(reporter, **out("ncsn"), **alone, architecture=_NCSN)
    fit_prior(reporter, **out("stopped"), **prior, architecture=_NCSN)
    fit_prior(reporter, **out("made"), **prior, architecture="made", options=_MADE["prior"])
    runs = (ncsn, denoiser("stopped"), denoiser("made"))
    methods = ("baseline", "two-step", "two-step")
    return dict(zip(_ROWS, zip(runs, methods, strict=True), strict=True))


def _distances(x: Tensor, seed: int) -> dict[str, float]:
    """Compares samples, (n, 2), with fresh data."""
    dataset = open_dataset(_DATASET)
    data = dataset.reference(len(x), seed)
    slices = generator(seed, "slices")
    return {
        "energy distance, 1e-3": 1e3 * energy_distance(x[:_BOTH], data[:_BOTH]),
        "sliced Wasserstein, 1e-2": 1e2 * sliced_wasserstein(x, data, generator=slices),
        "off support, %": 100 * float(dataset.off_support(x).float().mean()),
    }


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in (*_ROWS, "data")}
    sizes: dict[str, int] = {"data": 0}
    shown: dict[str, Tensor] = {}
    n = max(2, budget.examples)
    for seed in seeds:
        found = {"data": open_dataset(_DATASET).reference(n, seed + 1000)}
        for row, (run, method) in _fits(folder, seed, budget, reporter).items():
            found[row] = draw(run, method, n, seed).samples
            sizes[row] = parameters(run, *run.stages())
        for row, x in found.items():
            figures[row].append(_distances(x, seed))
        shown = shown or found
    picture = folder / "ncsn-rings.png"
    save(panels(shown, open_dataset(_DATASET)), picture)
    rows = [Row(row, sizes[row], collect(figures[row])) for row in figures]
    found_claims = [
        better(
            _ROWS[1], collect(figures[_ROWS[1]])[what], other, collect(figures[other])[what], what
        )
        for what in ("energy distance, 1e-3", "off support, %")
        for other in (_ROWS[0], _ROWS[2])
    ]
    return Result("ncsn-rings", list(seeds), {}, rows, found_claims, [str(picture)])


experiment = Experiment(
    "ncsn-rings",
    "NCSN, NCSN stopped early with a MADE denoiser, and MADE with MADE, on rings",
    "not in the papers: NCSN (Song & Ermon 2019) inside ARDS (Meng et al. 2021)",
    _run,
    equal="10,000 steps of 1,024 examples for each row",
    minutes=30,
)
