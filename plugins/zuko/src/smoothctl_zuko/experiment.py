"""Three of zuko's flows on rings and olympics, smoothed against plain at equal size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoothctl.datasets import open_dataset
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
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DATASETS = ("rings", "olympics")
_SIGMA = 0.3


@dataclass(frozen=True)
class _Pair:
    """Settings of the plain flow and of each stage: two stages have as many parameters."""

    plain: Mapping[str, Any]
    stage: Mapping[str, Any]


_PAIRS = {
    "zuko-maf": _Pair({"width": 65}, {"width": 44}),
    "zuko-nsf": _Pair({"width": 64}, {"width": 40}),
    "zuko-naf": _Pair({"width": 64}, {"width": 39, "monotonic_width": 22}),
}
_STEPS = 2000
"""Of each of the two stages; the plain flow is given both stages' steps."""


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    rows: list[Row] = []
    claims: list[Claim] = []
    truth: dict[str, float] = {}
    training = {"steps": budget.of(_STEPS), "warmup": 200}
    twice = {"steps": budget.of(2 * _STEPS), "warmup": 200}
    for dataset in _DATASETS:
        truth[f"{dataset}, true entropy, nats"] = open_dataset(dataset).true_entropy()
        for name, pair in _PAIRS.items():
            plain, smoothed, sizes = [], [], (0, 0)
            for seed in seeds:
                shared: dict[str, Any] = {"out": folder / f"{dataset}-{name}-{seed}", "seed": seed}
                what = {"dataset": dataset, "architecture": name, **shared}
                fit_baseline(reporter, **what, options=pair.plain, training=twice)
                stage = {"options": pair.stage, "training": training}
                fit_prior(reporter, **what, **stage, sigma=_SIGMA)
                run = fit_denoiser(reporter, **shared, **stage)
                plain.append(evaluate_baseline(run, budget))
                smoothed.append(evaluate_two_step(run, budget))
                sizes = parameters(run, "baseline"), parameters(run, "prior", "denoiser")
            names = f"{dataset}: {name}", f"{dataset}: two-step {name}"
            figures = collect(plain), collect(smoothed)
            rows += [Row(*row) for row in zip(names, sizes, figures, strict=True)]
            claims.append(better(names[1], figures[1]["nats"], "the plain one", figures[0]["nats"]))
    return Result("zuko-smoothing", list(seeds), truth, rows, claims)


experiment = Experiment(
    "zuko-smoothing",
    "three flows on rings and olympics, smoothed against plain at equal size",
    "after ARDS (Meng et al. 2021), section 5",
    _run,
    equal="parameters, and steps of a plain flow and of both stages together",
    minutes=40,
)
