"""Noise changes log p by half its variance times the mean Laplacian (ARDS proposition 1)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from smoothctl.architectures.base import Density
from smoothctl.reporting.tables import decimals
from smoothctl.reproduce.base import Budget, Claim, Experiment, Result, Row, collect, parameters
from smoothctl.rng import generator
from smoothctl.training.fit import fit_baseline
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DATASET, _MIXTURES, _STEPS = "ten-modes", 3, 2000
_SIGMAS, _DRAWS, _EXPECTED = (0.05, 0.1, 0.2), 16, 0.05
_MEASURED, _PREDICTED = "change of log p, 10⁻³ nats", "η/2 · mean Laplacian, 10⁻³ nats"


def _change(density: Density, x: Tensor, sigma: float) -> Tensor:
    """Returns E log p(x + σε) − E log p(x); noise of both signs, so that odd terms cancel."""
    noise = torch.randn(_DRAWS, *x.shape, dtype=x.dtype, generator=generator(0, "noise"))
    both = torch.cat([noise, -noise])
    moved = density.log_prob((x + sigma * both).flatten(0, 1)).mean()
    return moved - density.log_prob(x).mean()


def _laplacian(density: Density, x: Tensor) -> Tensor:
    """Returns the mean of the second derivative of log p over one-dimensional x, (n, 1)."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(density.log_prob(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    return curvature.mean()


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    options = {"mixtures": _MIXTURES}
    training = {"steps": budget.of(_STEPS), "learning_rate": 1e-2}
    found: dict[float, list[dict[str, float]]] = {sigma: [] for sigma in _SIGMAS}
    size = 0
    for seed in seeds:
        run = fit_baseline(
            reporter,
            dataset=_DATASET,
            architecture="logistic-mixture",
            out=folder / f"{_DATASET}-seed{seed}",
            seed=seed,
            options=options,
            training=training,
        )
        density = run.density("baseline").double()
        size = parameters(run, "baseline")
        x = run.dataset().test.head(budget.examples).double()
        curvature = float(_laplacian(density, x))
        for sigma in _SIGMAS:
            with torch.no_grad():
                measured = float(_change(density, x, sigma))
            predicted = sigma**2 / 2 * curvature
            found[sigma].append({_MEASURED: 1e3 * measured, _PREDICTED: 1e3 * predicted})
    rows = [Row(f"σ {sigma:g}", size, collect(figures)) for sigma, figures in found.items()]
    claims = [_claim(row) for row in rows]
    return Result("proposition-1", list(seeds), {}, rows, claims)


def _claim(row: Row) -> Claim:
    pairs = list(zip(row.figures[_MEASURED], row.figures[_PREDICTED], strict=True))
    shown = "; ".join(f"{decimals(m, 2)} against {decimals(p, 2)}" for m, p in pairs)
    holds = all(abs(m - p) <= _EXPECTED * abs(p) for m, p in pairs)
    statement = f"{row.model}: log p changes by η/2 · Laplacian, within {_EXPECTED:.0%}"
    return Claim(statement, f"{shown}, 10⁻³ nats", holds, "proposition 1")


experiment = Experiment(
    "proposition-1",
    "what noise of variance η changes a fitted log p by, on ten-modes",
    "ARDS (Meng et al. 2021), proposition 1",
    _run,
    paper="ARDS",
    section=3.2,
    minutes=1,
    note=f"A mixture of {_MIXTURES} logistics, fitted to ten-modes; {2 * _DRAWS} draws of noise "
    "for each test example.",
)
