"""Smoothing never raises a density's Lipschitz constant (ARDS theorem 1), and lowers it fast."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from smoothctl import kernels
from smoothctl.datasets import open_dataset
from smoothctl.kernels.base import Kernel
from smoothctl.reporting.figures import lines, save
from smoothctl.reproduce.base import Budget, Claim, Experiment, Result, Row
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_DATASET, _KERNELS = "ten-modes", ("gaussian", "laplace", "uniform")
_SIGMAS = (0.0, 0.05, 0.1, 0.3, 0.5)
_REACH, _SPACING = 6.0, 1e-3


def _density() -> tuple[Tensor, Tensor]:
    """Returns a grid and the data's density on it, float64 (n,) each."""
    count = round(2 * _REACH / _SPACING) + 1
    x = torch.linspace(-_REACH, _REACH, count, dtype=torch.float64)
    return x, open_dataset(_DATASET).true_log_prob(x[:, None]).exp()


def _smoothed(density: Tensor, x: Tensor, kernel: Kernel) -> Tensor:
    """Returns p(x̃) = ∫ p(x) q(x̃|x) dx on the grid (ARDS section 3.1), by the trapezoid rule."""
    q = kernel.log_density(x).exp()
    q = q / q.sum()
    middle = len(x) // 2
    return F.conv1d(density[None, None], q[None, None], padding=middle)[0, 0]


def _lipschitz(density: Tensor) -> float:
    """Returns the largest slope of a density on the grid: its Lipschitz constant."""
    return float(density.diff().abs().max()) / _SPACING


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    del budget, reporter
    x, density = _density()
    curves = {
        (name, sigma): _smoothed(density, x, kernels.load(name)(sigma)) if sigma else density
        for name in _KERNELS
        for sigma in _SIGMAS
    }
    constants = {key: _lipschitz(curve) for key, curve in curves.items()}
    rows = [
        Row(f"σ {sigma:g}", 0, {name: [constants[name, sigma]] for name in _KERNELS})
        for sigma in _SIGMAS
    ]
    claims = [_claim(name, [constants[name, sigma] for sigma in _SIGMAS]) for name in _KERNELS]
    picture = folder / "theorem-1.png"
    shown = x[::10].tolist()
    panels = {
        name: {f"σ {sigma:g}": (shown, curves[name, sigma][::10].tolist()) for sigma in _SIGMAS}
        for name in _KERNELS
    }
    save(lines(panels), picture)
    return Result("theorem-1", list(seeds), {}, rows, claims, [str(picture)])


def _claim(kernel: str, constants: Sequence[float]) -> Claim:
    shown = ", ".join(f"{value:.2f}" for value in constants)
    statement = f"{kernel}: the Lipschitz constant of p(x̃) is at most that of p(x)"
    return Claim(statement, shown, max(constants) == constants[0], "theorem 1")


experiment = Experiment(
    "theorem-1",
    "the Lipschitz constant of ten-modes, smoothed by three kernels",
    "ARDS (Meng et al. 2021), theorem 1",
    _run,
    paper="ARDS",
    section=3.1,
    minutes=0.1,
    note="The largest slope of the density on a grid of spacing 0.001; nothing is fitted.",
)
