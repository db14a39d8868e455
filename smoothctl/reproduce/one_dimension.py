"""A density of ten narrow modes, plain and smoothed, by two logistics each (ARDS figure 3)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from smoothctl.datasets import open_dataset
from smoothctl.kernels.gaussian import Gaussian
from smoothctl.reporting.figures import lines, save
from smoothctl.reproduce.base import (
    Budget,
    Experiment,
    Result,
    Row,
    better,
    collect,
    evaluate_baseline,
    evaluate_two_step,
    parameters,
)
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline, fit_joint
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DATASET, _SIGMA, _LOGISTICS, _STEPS = "ten-modes", 0.5, 2, 6_000
_PLAIN, _SMOOTHED = f"plain, {_LOGISTICS} logistics", f"smoothed, {_LOGISTICS} logistics"
_REACH, _POINTS = 4.5, 1201


def _fit(folder: Path, seed: int, budget: Budget, reporter: Reporter) -> tuple[Run, Run]:
    """Returns a plain MADE and a joint one of [x̃, x], of one size and length."""
    where = {"dataset": _DATASET, "seed": seed}
    options = {"mixtures": _LOGISTICS}
    training = {"steps": budget.of(_STEPS), "learning_rate": 1e-2, "warmup": 200}
    how = {"options": options, "training": training}
    plain = fit_baseline(reporter, **where, **how, out=folder / f"plain-seed{seed}")
    smoothed = fit_joint(reporter, **where, **how, sigma=_SIGMA, out=folder / f"joint-seed{seed}")
    return plain, smoothed


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    pairs = [_fit(folder, seed, budget, reporter) for seed in seeds]
    plain = collect([evaluate_baseline(run, budget) for run, _ in pairs])
    smoothed = collect([evaluate_two_step(run, budget) for _, run in pairs])
    sizes = parameters(pairs[0][0], "baseline"), parameters(pairs[0][1], "joint")
    rows = [Row(_PLAIN, sizes[0], plain), Row(_SMOOTHED, sizes[1], smoothed)]
    claims = [
        better(f"ten modes: {_SMOOTHED}", smoothed["nats"], _PLAIN, plain["nats"]),
        better(
            f"ten modes: {_SMOOTHED}",
            smoothed["off support, %"],
            _PLAIN,
            plain["off support, %"],
            "% of samples off the support",
        ),
    ]
    picture = folder / "one-dimension.png"
    save(lines(_densities(*pairs[0])), picture)
    truth = {"true entropy, nats": open_dataset(_DATASET).true_entropy()}
    return Result("one-dimension", list(seeds), truth, rows, claims, [str(picture)])


@torch.no_grad()
def _densities(plain: Run, smoothed: Run) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Returns the densities of x by either model and of x̃, beside the true ones."""
    data, method = open_dataset(_DATASET), smoothed.two_step()
    assert method is not None
    x = torch.linspace(-_REACH, _REACH, _POINTS)[:, None]
    true = data.true_log_prob(x).exp()

    def beside(
        true: Tensor, name: str, log_density: Tensor
    ) -> dict[str, tuple[list[float], list[float]]]:
        drawn = {"true": true, name: log_density.exp()}
        return {label: (x[:, 0].tolist(), density.tolist()) for label, density in drawn.items()}

    weights = Gaussian(_SIGMA).log_prob(x.repeat_interleave(len(x), 0), x.repeat(len(x), 1))
    true_smooth = weights.exp().view(len(x), -1) @ true * float(x[1] - x[0])
    return {
        "data": beside(true, _PLAIN, plain.density("baseline").log_prob(x)),
        f"smoothed, σ {_SIGMA:g}": beside(true_smooth, "p(x̃)", method.prior.log_prob(x)),
        "data again": beside(true, "∫ p(x̃) p(x|x̃) dx̃", method.log_prob_by_quadrature(x)),
    }


experiment = Experiment(
    "one-dimension",
    "ten modes by two logistics: the density, the smoothed one, and the one that it leads to",
    "ARDS (Meng et al. 2021), figure 3",
    _run,
    paper="ARDS",
    section=3.25,
    equal=f"{_LOGISTICS} logistics and {_STEPS:,} steps; parameters are not",
    minutes=3,
    note="A MADE of one coordinate has no more than its logistics; the smoothed model is one joint "
    "MADE of x̃ and x. The paper does not define its modes; ours are ten Gaussians of standard "
    "deviation 0.05, 0.6 apart.",
)
