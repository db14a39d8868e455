"""8×8 digits: NCSN beside PixelCNN++, and NCSN stopped at σ with a PixelCNN++ denoiser."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from smoothctl.architectures.mixtures import to_grid
from smoothctl.metrics.classifier import fit_classifier
from smoothctl.metrics.frechet import frechet_distance
from smoothctl.plots import columns, save
from smoothctl.reproduce.base import (
    Experiment,
    Result,
    Row,
    Scale,
    better,
    collect,
    parameters,
)
from smoothctl.runs import Run
from smoothctl.sampling import draw
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from smoothctl.training.loop import Reporter

__all__ = ["experiment"]

_DATASET, _SIGMA, _SAMPLES = "digits", 0.3, 1000
_NCSN = "smoothctl-ncsn:ncsn"
_NCSN_STEPS = {"baseline": 3500, "prior": 3500}
_PIXELS_STEPS = {"baseline": 700, "denoiser": 900}
_PIXELS = {
    "baseline": {"filters": 45, "dropout": 0.5},
    "denoiser": {"filters": 32, "dropout": 0.5},
}
"""As in the experiment `digits`."""

_ROWS = ("NCSN", "PixelCNN++", "NCSN to σ 0.3, then PixelCNN++", "NCSN to σ 0.3, single step")


def _fits(folder: Path, seed: int, scale: Scale, reporter: Reporter) -> dict[str, tuple[Run, str]]:
    """Returns the run and the method of each row."""

    def common(name: str) -> dict[str, Any]:
        return {"out": folder / f"{name}-seed{seed}", "seed": seed}

    def pixels(stage: str) -> dict[str, Any]:
        training = {"steps": scale.of(_PIXELS_STEPS[stage]), "clip": 10.0}
        return {"architecture": "pixelcnnpp", "options": _PIXELS[stage], "training": training}

    def ncsn(stage: str) -> dict[str, Any]:
        return {"architecture": _NCSN, "training": {"steps": scale.of(_NCSN_STEPS[stage])}}

    data = {"dataset": _DATASET}
    alone = fit_baseline(reporter, **common("ncsn"), **data, **ncsn("baseline"))
    plain = fit_baseline(reporter, **common("digits"), **data, **pixels("baseline"))
    fit_prior(reporter, **common("stopped"), **data, **ncsn("prior"), sigma=_SIGMA)
    stopped = fit_denoiser(reporter, **common("stopped"), **pixels("denoiser"))
    runs = (alone, plain, stopped, stopped)
    methods = ("baseline", "baseline", "two-step", "single-step")
    return dict(zip(_ROWS, zip(runs, methods, strict=True), strict=True))


def _run(folder: Path, seeds: Sequence[int], scale: Scale, reporter: Reporter) -> Result:
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in (*_ROWS, "training data")}
    sizes = {"training data": 0}
    shown: dict[str, Tensor] = {}
    n = min(_SAMPLES, max(2, scale.examples))
    for seed in seeds:
        fits = _fits(folder, seed, scale, reporter)
        dataset = fits[_ROWS[0]][0].dataset()
        judge = fit_classifier(dataset)
        test = judge.features(dataset.test.head())
        found = {"training data": dataset.train.head(n)}
        for row, (run, method) in fits.items():
            found[row] = draw(run, method, n, seed).samples
            stages = run.stages() if method != "single-step" else ["prior"]
            sizes[row] = parameters(run, *stages)
        for row, samples in found.items():
            images = to_grid(samples, dataset.levels or 256)
            sure = float((judge.confidence(images) >= 0.95).float().mean())
            distance = frechet_distance(judge.features(images), test)
            figures[row].append({"Fréchet": distance, "sure, %": 100 * sure})
        shown = shown or found
    picture = folder / "ncsn-digits.png"
    save(columns({name: images[:36] for name, images in shown.items()}), picture)
    rows = [Row(row, sizes[row], collect(figures[row])) for row in figures]
    measured = {row.model: row.figures["Fréchet"] for row in rows}
    pairs = [(_ROWS[0], _ROWS[1]), (_ROWS[2], _ROWS[0]), (_ROWS[2], _ROWS[1]), (_ROWS[2], _ROWS[3])]
    claims = [better(a, measured[a], b, measured[b], "Fréchet distance") for a, b in pairs]
    return Result("ncsn-digits", list(seeds), {}, rows, claims, [str(picture)])


experiment = Experiment(
    "ncsn-digits",
    "NCSN and PixelCNN++ on 8×8 digits, and both together",
    "not in the papers: NCSN (Song & Ermon 2019) inside ARDS (Meng et al. 2021)",
    _run,
)
