"""A thin ring: its density's slope along the diagonal, before and after smoothing (ARDS fig. 2)."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from smoothctl.datasets.shapes import Circles
from smoothctl.reporting.figures import lines, save
from smoothctl.reproduce.base import Budget, Claim, Experiment, Result, Row
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_NOISE, _SIGMAS = 0.02, (0.0, 0.05, 0.1, 0.3)
_REACH, _POINTS = 2.0, 8001


class _Ring(Circles):
    """The unit circle with Gaussian noise; Gaussian smoothing adds to its variance."""

    name = "thin-ring"
    summary = "2-d: a circle of radius 1"
    source = "smoothctl, after ARDS figure 2"
    circles: ClassVar = [(0.0, 0.0, 1.0)]

    def __init__(self, sigma: float) -> None:
        self.noise = math.hypot(_NOISE, sigma)  # type: ignore[misc]


def _along_the_diagonal(sigma: float) -> tuple[Tensor, Tensor]:
    """Returns the smoothed density and its derivative along x₁ = x₂, (points,) each."""
    t = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64, requires_grad=True)
    density = _Ring(sigma).true_log_prob(torch.stack([t, t], 1) / math.sqrt(2)).exp()
    (slope,) = torch.autograd.grad(density.sum(), t)
    return density.detach(), slope


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    del budget, reporter
    t = torch.linspace(-_REACH, _REACH, _POINTS).tolist()
    found = {f"σ {sigma:g}": _along_the_diagonal(sigma) for sigma in _SIGMAS}
    steepest = {name: float(slope.abs().max()) for name, (_, slope) in found.items()}
    rows = [
        Row(name, 0, {"largest density": [float(density.max())], "largest slope": [steepest[name]]})
        for name, (density, _) in found.items()
    ]
    picture = folder / "thin-ring.png"
    panels = {
        title: {name: (t, values[i].tolist()) for name, values in found.items()}
        for i, title in enumerate(["density along the diagonal", "its derivative"])
    }
    save(lines(panels), picture)
    values = list(steepest.values())
    shown = ", ".join(f"{value:.3g}" for value in values)
    falls = all(a > b for a, b in pairwise(values))
    claim = Claim("thin ring: the more smoothing, the smaller the steepest slope", shown, falls)
    return Result("thin-ring", list(seeds), {}, rows, [claim], [str(picture)])


experiment = Experiment(
    "thin-ring",
    "a thin ring's density and gradient along the diagonal, before and after smoothing",
    "ARDS (Meng et al. 2021), figure 2",
    _run,
    paper="ARDS",
    section=3.0,
    minutes=0.1,
    note=f"The ring has radius 1 and noise {_NOISE:g}; nothing is fitted, all values are exact.",
)
