"""RealNVP on checkerboard and olympics, smoothed against plain (ARDS section 5)."""

from collections.abc import Sequence
from pathlib import Path

from smoothctl.datasets import open_dataset
from smoothctl.evaluation.published import published_nats
from smoothctl.reporting.figures import panels, save
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
from smoothctl.runs.run import load_run
from smoothctl.sampling.draw import draw_all
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_SIGMA = 0.3
_DATASETS = ("checkerboard", "olympics")
_MODELS = {"RealNVP": "baseline", "two-step RealNVP": "two-step"}
"""Row -> how it is sampled."""

_PLAIN = {"couplings": 8, "width": 64}
_STAGE = {"couplings": 8, "width": 44}
"""Two of these together have about as many parameters, and steps, as one plain flow."""

_SHOWN = 5000


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    rows: list[Row] = []
    claims: list[Claim] = []
    truth: dict[str, float] = {}
    pictures = []
    training = {"steps": budget.of(10_000), "warmup": 200}
    twice = {"steps": budget.of(20_000), "warmup": 200}
    for dataset in _DATASETS:
        plain, smoothed, sizes = [], [], (0, 0)
        common = {"dataset": dataset, "architecture": "realnvp"}
        for seed in seeds:
            out = folder / f"{dataset}-realnvp-seed{seed}"
            fit_baseline(reporter, **common, out=out, seed=seed, options=_PLAIN, training=twice)
            stage = {"out": out, "seed": seed, "options": _STAGE, "training": training}
            fit_prior(reporter, **common, **stage, sigma=_SIGMA)
            run = fit_denoiser(reporter, **stage)
            plain.append(evaluate_baseline(run, budget))
            smoothed.append(evaluate_two_step(run, budget))
            sizes = parameters(run, "baseline"), parameters(run, "prior", "denoiser")
        figures = collect(plain), collect(smoothed)
        papers = [published_nats(dataset, model) for model in _MODELS]
        names = [f"{dataset}: {model}" for model in _MODELS]
        rows += [Row(*row) for row in zip(names, sizes, figures, papers, strict=True)]
        compared = names[1], figures[1]["nats"], "the plain one", figures[0]["nats"]
        claims.append(better(*compared, published=" against ".join(reversed(papers))))
        data = open_dataset(dataset)
        truth[f"{dataset}, true entropy, nats"] = data.true_entropy()
        first = load_run(folder / f"{dataset}-realnvp-seed{seeds[0]}")
        drawn = draw_all(first, ["baseline", "two-step"], _SHOWN, seeds[0])
        shown = {name: drawn[method].samples for name, method in _MODELS.items()}
        pictures.append(folder / f"realnvp-{dataset}.png")
        save(panels({"data": data.test.head(_SHOWN), **shown}, data), pictures[-1])
    return Result("realnvp", list(seeds), truth, rows, claims, list(map(str, pictures)))


experiment = Experiment(
    "realnvp",
    "RealNVP on checkerboard and olympics, smoothed against plain",
    "ARDS (Meng et al. 2021), section 5, figure 7; olympics reconstructed",
    _run,
    equal="about 35,000 parameters and 20,000 steps for each model",
    paper="ARDS",
    section=5.0,
    minutes=60,
    note="Olympics are a reconstruction: the paper's are other data.",
)
