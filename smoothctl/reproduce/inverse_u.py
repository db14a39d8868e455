"""The bound over σ for three kernels at equal variance: it rises and then falls (ARDS figure 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from smoothctl.datasets import open_dataset
from smoothctl.reporting.figures import bound_curves, save
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    collect,
    evaluate_baseline,
    evaluate_two_step,
    parameters,
)
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DATASET = "six-modes"
_KERNELS = ("gaussian", "laplace", "uniform")
_SIGMAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)
_COMMON: dict[str, Any] = {
    "dataset": _DATASET,
    "architecture": "logistic-mixture",
    "options": {"mixtures": 2},
}


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    training = {"steps": budget.of(3_000), "learning_rate": 1e-2, "warmup": 200}
    plain = [_plain(folder, seed, training, reporter) for seed in seeds]
    figures: dict[str, dict[str, list[float]]] = {}
    one_draw = replace(budget, draws=1)
    size = 0
    for kernel in _KERNELS:
        curves = []
        for seed in seeds:
            runs = [_two_step(folder, kernel, s, seed, training, reporter) for s in _SIGMAS]
            bounds = [evaluate_two_step(run, one_draw)["bound, 1 draw"] for run in runs]
            names = (f"sigma {sigma:g}" for sigma in _SIGMAS)
            curves.append(dict(zip(names, bounds, strict=True)))
            size = parameters(runs[0], "prior", "denoiser")
        figures[kernel] = collect(curves)
    rows = [
        Row(sigma, size, {kernel: by_sigma[sigma] for kernel, by_sigma in figures.items()})
        for sigma in figures[_KERNELS[0]]
    ]
    plain_nats = [evaluate_baseline(run, budget)["nats"] for run in plain]
    rows.append(Row("plain", parameters(plain[0], "baseline"), {"no kernel": plain_nats}))
    claims = [*(_inverse_u(kernel, figures[kernel]) for kernel in _KERNELS), _ranking(figures)]
    truth = open_dataset(_DATASET).true_entropy()
    picture = folder / "inverse-u.png"
    lines = {k: dict(zip(_SIGMAS, f.values(), strict=True)) for k, f in figures.items()}
    save(bound_curves({"σ of the smoothing": lines}, truth), picture)
    entropy = {"true entropy, nats": truth}
    return Result("inverse-u", list(seeds), entropy, rows, claims, [str(picture)])


def _plain(folder: Path, seed: int, training: Mapping[str, float], reporter: Reporter) -> Run:
    out = folder / f"plain-seed{seed}"
    return fit_baseline(reporter, **_COMMON, out=out, seed=seed, training=training)


def _two_step(
    folder: Path,
    kernel: str,
    sigma: float,
    seed: int,
    training: Mapping[str, float],
    reporter: Reporter,
) -> Run:
    common = {"out": folder / f"{kernel}-{sigma:g}-seed{seed}", "seed": seed, "training": training}
    fit_prior(reporter, **_COMMON, **common, kernel=kernel, sigma=sigma)
    return fit_denoiser(reporter, **common, options=_COMMON["options"])


def _inverse_u(kernel: str, figures: dict[str, list[float]]) -> Claim:
    means = [mean(values) for values in figures.values()]
    best = means.index(min(means))
    inner = 0 < best < len(means) - 1
    shown = f"−log p {means[0]:.3f} at σ {_SIGMAS[0]:g}, {means[best]:.3f} at σ {_SIGMAS[best]:g}, "
    shown += f"{means[-1]:.3f} at σ {_SIGMAS[-1]:g}"
    return Claim(f"{kernel}: the bound rises and then falls over σ", shown, inner, "figure 4")


def _ranking(figures: dict[str, dict[str, list[float]]]) -> Claim:
    best = {
        kernel: [min(values) for values in zip(*by_sigma.values(), strict=True)]
        for kernel, by_sigma in figures.items()
    }
    shown = "; ".join(
        f"{kernel} {mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        for kernel, values in best.items()
    )
    others = [value for kernel in _KERNELS[1:] for value in best[kernel]]
    return Claim(
        "the Gaussian's best is below the others' at every seed",
        shown,
        max(best["gaussian"]) < min(others),
    )


experiment = Experiment(
    "inverse-u",
    "the bound over sigma for three kernels on six-modes (ARDS figure 4)",
    "ARDS (Meng et al. 2021), section 4.1, figure 4",
    _run,
    equal="3,000 steps of each fit, of which a smoothed model has two",
    paper="ARDS",
    section=4.1,
)
