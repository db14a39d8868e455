"""The bound over σ for three kernels at equal variance: it rises and then falls (ARDS app. B)."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from smoothctl.datasets import open_dataset
from smoothctl.plots import save, sigma_curves
from smoothctl.reproduce.base import (
    Claim,
    Experiment,
    Result,
    Row,
    Scale,
    collect,
    evaluate_baseline,
    evaluate_two_step,
    parameters,
)
from smoothctl.runs import Run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from smoothctl.training.loop import Reporter

__all__ = ["experiment"]

_DATASET = "six-modes"
_KERNELS = ("gaussian", "laplace", "uniform")
_SIGMAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)
_OPTIONS = {"mixtures": 2}


def _run(folder: Path, seeds: Sequence[int], scale: Scale, reporter: Reporter) -> Result:
    common = {"dataset": _DATASET, "architecture": "logistic-mixture", "options": _OPTIONS}
    training = {"steps": scale.of(3_000), "learning_rate": 1e-2}
    plain, sizes = [], (0, 0)
    curves: dict[str, list[dict[str, float]]] = {kernel: [] for kernel in _KERNELS}
    for seed in seeds:
        base = fit_baseline(
            reporter, **common, out=folder / f"plain-{seed}", seed=seed, training=training
        )
        plain.append(evaluate_baseline(base, scale))
        for kernel in _KERNELS:
            runs = {
                sigma: _two_step(
                    folder / f"{kernel}-{sigma:g}-{seed}",
                    {**common, "kernel": kernel, "sigma": sigma},
                    seed,
                    training,
                    reporter,
                )
                for sigma in _SIGMAS
            }
            bounds = {s: evaluate_two_step(run, scale)["bound, 1 draw"] for s, run in runs.items()}
            curves[kernel].append({f"sigma {s:g}": value for s, value in bounds.items()})
            last = runs[_SIGMAS[-1]]
            stages = map(last.density, ("prior", "denoiser"))
            sizes = parameters(base.density("baseline")), parameters(*stages)
    figures = {kernel: collect(found) for kernel, found in curves.items()}
    truth = open_dataset(_DATASET).true_entropy()
    picture = folder / "inverse-u.png"
    save(sigma_curves(_SIGMAS, {k: list(f.values()) for k, f in figures.items()}, truth), picture)
    rows = [Row("plain, 2 logistics", sizes[0], collect(plain))]
    rows += [Row(f"two-step, {kernel}", sizes[1], found) for kernel, found in figures.items()]
    claims = [_inverse_u(kernel, figures[kernel]) for kernel in _KERNELS]
    claims.append(_ranking(figures))
    return Result(
        "inverse-u", list(seeds), {"true entropy, nats": truth}, rows, claims, [str(picture)]
    )


def _two_step(
    out: Path, prior: dict[str, object], seed: int, training: dict[str, object], reporter: Reporter
) -> Run:
    fit_prior(reporter, **prior, out=out, seed=seed, training=training)
    return fit_denoiser(reporter, out=out, seed=seed, options=_OPTIONS, training=training)


def _inverse_u(kernel: str, figures: dict[str, list[float]]) -> Claim:
    means = [mean(values) for values in figures.values()]
    best = means.index(min(means))
    inner = 0 < best < len(means) - 1
    shown = f"−log p {means[0]:.3f} at σ {_SIGMAS[0]:g}, {means[best]:.3f} at σ {_SIGMAS[best]:g}, "
    shown += f"{means[-1]:.3f} at σ {_SIGMAS[-1]:g}"
    return Claim(f"{kernel}: the bound rises and then falls over sigma", shown, inner)


def _ranking(figures: dict[str, dict[str, list[float]]]) -> Claim:
    best = {
        kernel: [min(values) for values in zip(*found.values(), strict=True)]
        for kernel, found in figures.items()
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


experiment = Experiment("inverse-u", "ARDS (Meng et al. 2021), appendix B", _run)
