"""What each way of denoising makes of the same x̃ (ARDS appendix B, figures 8 to 11)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from smoothctl.datasets import open_dataset
from smoothctl.datasets.synthetic import Synthetic
from smoothctl.metrics.two_sample import energy_distance
from smoothctl.reporting.figures import panels, save
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    better,
    collect,
    parameters,
)
from smoothctl.reproduce.planar import Fit, published_run
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_SIGMA = 0.3
_DATASETS = {"two-gaussians": 0.25, "rings": 1.0}
"""Dataset -> factor on the steps of `reproduce rings`."""

_MODEL = "two-step, 3 logistics"
_NOISY, _EXACT, _SINGLE, _DRAWN = "x̃", "E[x|x̃], exact", "single-step", "p(x|x̃)"
_DISTANCE, _ERROR, _OFF = "energy distance", "mean squared error", "off support, %"
_LATTICE = 4000


def _exact_mean(data: Synthetic, x_smooth: Tensor) -> Tensor:
    """Returns E[x | x̃] of the true density: true draws, weighted by q(x̃|x); shape of x̃."""
    x = data.reference(_LATTICE, 0)
    weights = torch.softmax(-torch.cdist(x_smooth, x).square() / (2 * _SIGMA**2), dim=1)
    return weights @ x


def _denoised(
    data: Synthetic, method: TwoStep, n: int, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns true x, and what is made of their x̃ by each way of denoising, (n, D) each."""
    x = data.test.head(n)
    x_smooth = method.kernel.sample(x, generator(seed, "denoising"))
    return x, {
        _NOISY: x_smooth,
        _EXACT: _exact_mean(data, x_smooth),
        _SINGLE: method.single_step(x_smooth),
        _DRAWN: method.denoise(x_smooth, None, generator(seed, "denoised")),
    }


def _figures(data: Synthetic, x: Tensor, found: Tensor, seed: int) -> dict[str, float]:
    return {
        _DISTANCE: energy_distance(found, data.reference(len(x), 1 + seed)),
        _OFF: 100 * float(data.off_support(found).float().mean()),
        _ERROR: float((found - x).square().sum(1).mean()),
    }


def _fit(
    folder: Path, name: str, factor: float, seed: int, budget: Budget, reporter: Reporter
) -> Run:
    """Returns the two-step model of table 1; of rings, the run of `reproduce rings` itself."""
    fit = Fit(name, _SIGMA, replace(budget, steps=budget.steps * factor), reporter)
    return published_run(_MODEL, fit, folder, seed)


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    rows: list[Row] = []
    claims: list[Claim] = []
    pictures = []
    for name, factor in _DATASETS.items():
        data = open_dataset(name)
        assert isinstance(data, Synthetic)
        per_seed: list[dict[str, dict[str, float]]] = []
        shown: dict[str, Tensor] = {}
        size = 0
        for seed in seeds:
            run = _fit(folder, name, factor, seed, budget, reporter)
            method = run.two_step()
            assert method is not None
            size = parameters(run, "prior", "denoiser")
            x, found = _denoised(data, method, budget.examples, seed)
            per_seed.append({way: _figures(data, x, made, seed) for way, made in found.items()})
            shown = shown or {"x": x, **found}
        by_way = {way: collect([each[way] for each in per_seed]) for way in per_seed[0]}
        rows += [
            Row(f"{name}: {way}", size if way in (_SINGLE, _DRAWN) else 0, figures)
            for way, figures in by_way.items()
        ]
        claims += _claims(name, by_way)
        pictures.append(folder / f"denoising-{name}.png")
        save(panels(shown, data), pictures[-1])
    return Result("denoising", list(seeds), {}, rows, claims, list(map(str, pictures)))


def _claims(name: str, by_way: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Claim]:
    exact, single, drawn = (by_way[way] for way in (_EXACT, _SINGLE, _DRAWN))
    excess = [s / e - 1 for s, e in zip(single[_ERROR], exact[_ERROR], strict=True)]
    return [
        Claim(
            f"{name}: the single step's squared error is that of the exact mean, within 5 %",
            f"mean {mean(excess):+.1%}, most {max(excess):+.1%}",
            max(excess) < 0.05,
            "equation 2",
        ),
        better(
            f"{name}: a draw from p(x|x̃)",
            drawn[_DISTANCE],
            "the exact mean",
            exact[_DISTANCE],
            _DISTANCE,
        ),
    ]


experiment = Experiment(
    "denoising",
    "single-step means and two-step draws of the same x̃, in one and two dimensions",
    "ARDS (Meng et al. 2021), appendix B",
    _run,
    paper="ARDS",
    section=8.0,
    equal="the prior that both ways of denoising start from, and x̃",
    minutes=5,
    note="The models are table 1's, of three logistics, on rings those of `reproduce rings`. x̃ "
    f"is true data with Gaussian noise of σ {_SIGMA:g}. The exact mean weighs {_LATTICE:,} draws "
    "of the true density, so that no fit is in it: it has the least squared error that there can "
    "be, and is no sample. The energy distance is to fresh data; it is 0 for equal distributions "
    "but for chance.",
)
