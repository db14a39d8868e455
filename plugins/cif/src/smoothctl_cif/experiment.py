"""RealNVP with and without a continuous index, plain and smoothed, at equal size and steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoothctl.datasets import open_dataset
from smoothctl.evaluation.likelihood import latent_bounds
from smoothctl.evaluation.published import published_nats
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    better,
    collect,
    evaluate_baseline,
    evaluate_two_step,
    parameters,
)
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DATASETS = ("rings", "olympics")
_SIGMA = 0.3
_STEPS = 10_000
"""Of each of two stages; a plain flow is given both stages' steps."""
_DRAWS = 100
"""Of the plain flow's latent variables, as in the paper."""


@dataclass(frozen=True)
class _Flow:
    """Settings of the plain flow and of each stage: two stages have as many parameters."""

    architecture: str
    plain: Mapping[str, Any]
    stage: Mapping[str, Any]


_FLOWS = {
    "RealNVP": _Flow("realnvp", {"width": 64}, {"width": 44}),
    "CIF-RealNVP": _Flow("cif-realnvp", {"width": 59}, {"width": 37}),
}
"""As table 1 of ARDS calls them."""


def _evaluate_plain(run: Run, budget: Budget) -> dict[str, float]:
    """Returns −log p(x) in nats, exact or bounded by many draws and by one."""
    density = run.density("baseline")
    if density.tractable:
        return evaluate_baseline(run, budget)
    dataset = run.dataset()
    x = dataset.test.head(budget.examples)
    found = latent_bounds("baseline", density, x, budget.draws or _DRAWS, seed=0)
    samples = density.sample(len(x), generator=generator(0, "baseline"))
    return {
        "nats": found[-1].nats,
        "bound, 1 draw": found[0].nats,
        "off support, %": 100 * float(dataset.off_support(samples).float().mean()),
    }


def _fit(
    where: Path, dataset: str, name: str, seed: int, budget: Budget, reporter: Reporter
) -> Run:
    """Fits the plain flow and both stages of the smoothed one."""
    flow = _FLOWS[name]
    out = where / f"{dataset}-{flow.architecture}-{seed}"
    shared: dict[str, Any] = {"out": out, "seed": seed}
    what = {"dataset": dataset, "architecture": flow.architecture, **shared}
    training = {"steps": budget.of(_STEPS), "warmup": 200}
    twice = {"steps": budget.of(2 * _STEPS), "warmup": 200}
    fit_baseline(reporter, **what, options=flow.plain, training=twice)
    stage = {"options": flow.stage, "training": training}
    fit_prior(reporter, **what, **stage, sigma=_SIGMA)
    return fit_denoiser(reporter, **shared, **stage)


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    rows: list[Row] = []
    claims: list[Claim] = []
    truth: dict[str, float] = {}
    for dataset in _DATASETS:
        truth[f"{dataset}, true entropy, nats"] = open_dataset(dataset).true_entropy()
        nats: dict[str, list[float]] = {}
        for name in _FLOWS:
            runs = [_fit(folder, dataset, name, seed, budget, reporter) for seed in seeds]
            plain = collect([_evaluate_plain(run, budget) for run in runs])
            smoothed = collect([evaluate_two_step(run, budget) for run in runs])
            both = parameters(runs[0], "prior", "denoiser")
            sizes = {name: parameters(runs[0], "baseline"), f"two-step {name}": both}
            found = {name: plain, f"two-step {name}": smoothed}
            rows += [
                Row(f"{dataset}: {row}", sizes[row], figures, published_nats(dataset, row))
                for row, figures in found.items()
            ]
            nats |= {row: figures["nats"] for row, figures in found.items()}
        for prefix in ("", "two-step "):
            first, second = f"{prefix}CIF-RealNVP", f"{prefix}RealNVP"
            claims.append(better(f"{dataset}: {first}", nats[first], second, nats[second]))
    return Result("cif", list(seeds), truth, rows, claims)


experiment = Experiment(
    "cif",
    "CIF-RealNVP against RealNVP on rings and olympics, plain and smoothed",
    "after Cornish et al. 2020, section 5, and ARDS (Meng et al. 2021), table 1",
    _run,
    equal="about 35,000 parameters, and 20,000 steps of a plain flow and of both stages together",
    minutes=140,
)
