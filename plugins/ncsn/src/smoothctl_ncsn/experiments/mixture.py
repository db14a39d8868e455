"""Langevin dynamics with true scores gets the weights of far modes wrong (NCSN figure 3)."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from torch import Generator, Tensor

from smoothctl.reporting.figures import panels, save
from smoothctl.reproduce.base import Budget, Claim, Experiment, Result, Row
from smoothctl.rng import generator, uniform
from smoothctl.training.reporter import Reporter
from smoothctl_ncsn.experiments.two_modes import TwoModes
from smoothctl_ncsn.langevin import langevin, vector_noise
from smoothctl_ncsn.levels import geometric

__all__ = ["experiment"]

_DRAWS, _STEP_SIZE, _REACH = 1280, 0.1, 8.0
_LEVELS = geometric(20.0, 1.0, 10)
_STEPS = 100
_TOLERANCE = 0.06
_DATA = TwoModes()


def _plain(start: Tensor, budget: Budget, source: Generator) -> Tensor:
    """Takes as many steps as all levels together, with the score of the data themselves."""
    steps, last = budget.of(_STEPS * len(_LEVELS)), _LEVELS[-1:]
    noise = vector_noise(start, source)
    *_, x = langevin(lambda x, _: _DATA.smoothed_score(x), start, last, steps, _STEP_SIZE, noise)
    return x


def _annealed(start: Tensor, budget: Budget, source: Generator) -> Tensor:
    def score(x: Tensor, level: int) -> Tensor:
        return _DATA.smoothed_score(x, float(_LEVELS[level]))

    steps, noise = budget.of(_STEPS), vector_noise(start, source)
    *_, x = langevin(score, start, _LEVELS, steps, _STEP_SIZE, noise)
    return x


_SAMPLERS = {"Langevin": _plain, "annealed Langevin": _annealed}


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    del reporter
    shares: dict[str, list[float]] = {name: [] for name in ("data", *_SAMPLERS)}
    shown: dict[str, Tensor] = {}
    for seed in seeds:
        found = {"data": _DATA.sample(_DRAWS, generator(seed, "data"))}
        start = uniform((_DRAWS, 2), torch.empty(0), generator(seed, "start"))
        start = _REACH * (2 * start - 1)
        for name, sampler in _SAMPLERS.items():
            found[name] = sampler(start, budget, generator(seed, name))
        for name, x in found.items():
            shares[name].append(_DATA.share_of_small(x))
        shown = shown or found
    picture = folder / "ncsn-mixture.png"
    save(panels(shown, _DATA), picture)
    rows = [Row(name, 0, {"share at (−5, −5)": values}) for name, values in shares.items()]
    truth = {"true share at (−5, −5)": _DATA.weights[0]}
    claims = _claims(shares["Langevin"], shares["annealed Langevin"])
    return Result("ncsn-mixture", list(seeds), truth, rows, claims, [str(picture)])


def _claims(plain: list[float], annealed: list[float]) -> list[Claim]:
    errors = [[abs(share - _DATA.weights[0]) for share in shares] for shares in (plain, annealed)]
    return [
        Claim(
            f"annealed Langevin gets the weight of the small mode to within {_TOLERANCE}",
            f"mean share {mean(annealed):.3f}, largest error {max(errors[1]):.3f}",
            max(errors[1]) <= _TOLERANCE,
        ),
        Claim(
            "plain Langevin gets it wrong by more than 0.2",
            f"mean share {mean(plain):.3f}, least error {min(errors[0]):.3f}",
            min(errors[0]) > 0.2,
        ),
    ]


experiment = Experiment(
    "ncsn-mixture",
    "Langevin dynamics, plain and annealed, with the true scores of two far modes",
    "NCSN (Song & Ermon 2019), figure 3",
    _run,
    paper="NCSN",
    section=3.22,
    minutes=0.2,
)
