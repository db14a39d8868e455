"""8×8 digits: NCSN, PixelCNN++, and NCSN stopped at σ with a PixelCNN++ denoiser."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from smoothctl.reporting.figures import columns, save
from smoothctl.reproduce.base import (
    Budget,
    Experiment,
    Result,
    Row,
    better,
    collect,
    parameters,
)
from smoothctl.reproduce.quality import FRECHET, Quality
from smoothctl.runs.config import StageName
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling.draw import draw_all
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DATASET, _SIGMA, _SAMPLES = "digits", 0.383, 4000
"""σ is what the heuristic gives; of 1,000 samples the distance would vary by 5 with their seed."""

_NCSN, _NCSN_STEPS = "smoothctl-ncsn:ncsn", {"baseline": 5500, "prior": 2000}
_PIXELS_STEPS = {"baseline": 1500, "prior": 700, "denoiser": 900}
"""Some 200 CPU seconds for each row, both stages together."""

_PIXELS_TRAINING = {
    "batch_size": 64,
    "learning_rate": 2e-3,
    "warmup": 100,
    "ema": 0.995,
    "clip": 10.0,
}
_PIXELS = {"blocks": 2, "dropout": 0.5, "conditioning": "stacked", "min_log_scale": -7.0}
_PLAIN, _TWO_STEP = ({**_PIXELS, "filters": filters} for filters in (45, 32))
"""The published network, with as many parameters in both stages together as in the plain one."""

_NAMES = {
    "ncsn": {
        "baseline": "NCSN",
        "two-step": "NCSN to σ, then PixelCNN++",
        "single-step": "NCSN to σ, single step",
    },
    "digits": {"baseline": "PixelCNN++", "two-step": "two-step PixelCNN++"},
}
"""Run -> method -> row."""

_STAGES: dict[str, list[StageName]] = {
    "baseline": ["baseline"],
    "two-step": ["prior", "denoiser"],
    "single-step": ["prior"],
}


def _fits(folder: Path, seed: int, budget: Budget, reporter: Reporter) -> dict[str, Run]:
    """Returns the NCSN's run and the PixelCNN++'s; the denoisers of both are alike."""
    data = {"dataset": _DATASET}

    def common(name: str) -> dict[str, Any]:
        return {"out": folder / f"{name}-seed{seed}", "seed": seed}

    def ncsn(stage: str) -> dict[str, Any]:
        return {"architecture": _NCSN, "training": {"steps": budget.of(_NCSN_STEPS[stage])}}

    def pixels(stage: str) -> dict[str, Any]:
        training = {**_PIXELS_TRAINING, "steps": budget.of(_PIXELS_STEPS[stage])}
        options = _PLAIN if stage == "baseline" else _TWO_STEP
        return {"architecture": "pixelcnnpp", "options": options, "training": training}

    fit_baseline(reporter, **common("ncsn"), **data, **ncsn("baseline"))
    fit_prior(reporter, **common("ncsn"), **data, **ncsn("prior"), sigma=_SIGMA)
    fit_denoiser(reporter, **common("ncsn"), **pixels("denoiser"))
    fit_baseline(reporter, **common("digits"), **data, **pixels("baseline"))
    fit_prior(reporter, **common("digits"), **data, **pixels("prior"), sigma=_SIGMA)
    fit_denoiser(reporter, **common("digits"), **pixels("denoiser"))
    return {name: load_run(folder / f"{name}-seed{seed}", "best") for name in _NAMES}


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    figures: dict[str, list[dict[str, float]]] = {}
    sizes = {"training data": 0}
    shown: dict[str, Tensor] = {}
    n = min(_SAMPLES, max(2, budget.examples))
    for seed in seeds:
        runs = _fits(folder, seed, budget, reporter)
        dataset = runs["ncsn"].dataset()
        quality = Quality.by_labels_of(dataset)
        found = {"training data": dataset.train.head(n)}
        for name, run in runs.items():
            for method, drawn in draw_all(run, list(_NAMES[name]), n, seed).items():
                row = _NAMES[name][method]
                found[row] = drawn.samples
                sizes[row] = parameters(run, *_STAGES[method])
        for row, samples in found.items():
            figures.setdefault(row, []).append(quality(samples))
        shown = shown or found
    picture = folder / "ncsn-digits.png"
    save(columns({name: images[:36] for name, images in shown.items()}), picture)
    rows = [Row(row, sizes[row], collect(figures[row])) for row in figures]
    distances = {row.model: row.figures[FRECHET] for row in rows}
    alone, pair, single = _NAMES["ncsn"].values()
    plain, twice = _NAMES["digits"].values()
    pairs = [(alone, plain), (pair, alone), (pair, twice), (pair, single)]
    claims = [better(a, distances[a], b, distances[b], "Fréchet distance") for a, b in pairs]
    return Result("ncsn-digits", list(seeds), {}, rows, claims, [str(picture)])


experiment = Experiment(
    "ncsn-digits",
    "NCSN, PixelCNN++ and both together on 8×8 digits, by Fréchet distance",
    "not in the papers: NCSN (Song & Ermon 2019) inside ARDS (Meng et al. 2021)",
    _run,
    equal="CPU seconds of each row, both stages together",
)
