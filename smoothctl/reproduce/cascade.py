"""Levels between ARDS (one) and NCSN (many): cascades of one, two and four σ at equal cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from smoothctl.datasets import open_dataset
from smoothctl.reporting.figures import columns, panels, save
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    at_most,
    better,
    collect,
    parameters,
)
from smoothctl.reproduce.fitted import OF_WHICH, fitted_like, fitted_runs
from smoothctl.reproduce.planar import EQUAL, Fit, TwoStep
from smoothctl.reproduce.quality import FRECHET, two_step_figures
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_LOGISTICS = 10
"""With fewer of them it is the prior that keeps the bound from the truth."""

_FREQUENCIES = 6
"""Without them small σ are learned too slowly: their steps depend on fine detail of x̃."""

_PRIOR, _ONE_STEP, _SEVERAL_STEPS = 40, 99, 96
"""Units of hidden layers of the prior and of denoisers, for as many parameters in all."""

_SHOWN, _IMAGES_SHOWN = 5000, 36
_ONE, _GAP, _BITS = "one level", "above the truth", "bits/dim"

_OF_SIGMA = {"two levels": (2 / 3, 2), "four levels": (1 / 3, 2 / 3, 4 / 3, 8 / 3)}
"""The σ of images' cascades in units of that of one level: those of rings."""


@dataclass(frozen=True)
class _Levels:
    """The σ of one dataset's cascades, ascending, by what they are called."""

    dataset: str
    sigmas: Mapping[str, tuple[float, ...]]

    def out(self, folder: Path, name: str, seed: int) -> Path:
        """Returns the run folder of one of them."""
        return (
            folder / f"{self.dataset}-{'-'.join(map('{:g}'.format, self.sigmas[name]))}-seed{seed}"
        )

    def row(self, name: str, runs: Sequence[Run], per_seed: Sequence[dict[str, float]]) -> Row:
        """Returns that of one of them."""
        said = f"{self.dataset}, {name}: σ {', '.join(map('{:g}'.format, self.sigmas[name]))}"
        return Row(said, parameters(runs[0], "prior", "denoiser"), collect(per_seed))

    def better(self, values: Mapping[str, list[float]], unit: str = "nats") -> list[Claim]:
        """Claims that the figure of each of several levels is below that of one."""
        one, *others = values
        return [
            better(f"{self.dataset}: {other}", values[other], one, values[one], unit)
            for other in others
        ]


_VECTORS = (
    _Levels(
        "rings",
        {_ONE: (0.3,), "two levels": (0.2, 0.6), "four levels": (0.1, 0.2, 0.4, 0.8)},
    ),
    _Levels(
        "olympics",
        {_ONE: (0.3,), "two levels": (0.1, 0.3), "four levels": (0.05, 0.1, 0.2, 0.4)},
    ),
)


class _Compared(NamedTuple):
    """What the cascades of one dataset came to."""

    rows: list[Row]
    claims: list[Claim]
    picture: Path


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    vectors = _VECTORS if budget.dataset is None else ()
    parts = [_vectors(levels, folder, seeds, budget, reporter) for levels in vectors]
    parts.append(_images(folder, seeds, budget, reporter))
    truth = {
        f"true entropy of {levels.dataset}, nats": open_dataset(levels.dataset).true_entropy()
        for levels in vectors
    }
    rows = [row for part in parts for row in part.rows]
    claims = [claim for part in parts for claim in part.claims]
    return Result(
        "cascade", list(seeds), truth, rows, claims, [str(each.picture) for each in parts]
    )


def _vectors(
    levels: _Levels, folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter
) -> _Compared:
    """Compares cascades of MADE on 2-d data, whose true density is known."""
    data = open_dataset(levels.dataset)
    ideal = -float(data.true_log_prob(data.test.head(budget.examples)).mean())
    rows, shown, gaps = [], {"data": data.test.head(_SHOWN)}, {}
    for name, (*below, widest) in levels.sigmas.items():
        width = _SEVERAL_STEPS if below else _ONE_STEP
        model = TwoStep(_LOGISTICS, _PRIOR, width, tuple(below), _FREQUENCIES)
        fit = Fit(levels.dataset, widest, budget, reporter)
        runs = [model.fit(fit, levels.out(folder, name, seed), seed) for seed in seeds]
        figures = [model.evaluate(run, budget) for run in runs]
        rows.append(
            levels.row(name, runs, [{_GAP: each["nats"] - ideal, **each} for each in figures])
        )
        shown[name], gaps[name] = model.draw(runs[0], _SHOWN), rows[-1].figures[_GAP]
    claims = levels.better(gaps)
    if levels.dataset == "rings":
        claims.append(at_most("rings: two levels above the truth", gaps["two levels"], 0.012))
    picture = folder / f"{levels.dataset}.png"
    save(panels(shown, data), picture)
    return _Compared(rows, claims, picture)


def _images(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> _Compared:
    """Compares cascades of images with the fitted runs of one level, which are as large."""
    ones = fitted_runs(folder, seeds, budget, reporter)
    sigma = ones[0].config().sigma
    assert sigma is not None
    several = {
        name: tuple(float(f"{share * sigma:.3g}") for share in shares)
        for name, shares in _OF_SIGMA.items()
    }
    levels = _Levels("digits" if budget.dataset is None else "MNIST", {_ONE: (sigma,), **several})
    rows, shown = [], {}
    values: dict[str, dict[str, list[float]]] = {_BITS: {}, FRECHET: {}}
    for name in levels.sigmas:
        runs = ones
        if name != _ONE:
            outs = [levels.out(folder, name, seed) for seed in seeds]
            pairs = zip(ones, outs, strict=True)
            *below, widest = levels.sigmas[name]
            runs = [
                fitted_like(one, out, widest, reporter, denoiser={"sigmas": below})
                for one, out in pairs
            ]
        both = zip(runs, seeds, strict=True)
        rows.append(
            levels.row(name, runs, [two_step_figures(run, seed, budget) for run, seed in both])
        )
        shown[name] = draw(runs[0], "two-step", _IMAGES_SHOWN, seeds[0]).samples
        for key, of in values.items():
            of[name] = rows[-1].figures[key]
    claims = [claim for key, of in values.items() for claim in levels.better(of, key)]
    picture = folder / f"{levels.dataset}.png"
    save(columns(shown), picture)
    return _Compared(rows, claims, picture)


experiment = Experiment(
    "cascade",
    "denoisers of one, two and four steps, on rings, olympics and digits, or on MNIST",
    "beyond both papers: between ARDS and NCSN",
    _run,
    takes_dataset=True,
    equal=f"{EQUAL}; of images, parameters and steps",
    minutes=120,
    note="−log p by importance-weighted bounds, whose draws are whole paths. Above the truth: what "
    "the bound exceeds the true −log p of the same test examples by. One network does all steps. "
    f"Of vectors it has {_LOGISTICS} logistics and sees sines and cosines of its inputs "
    f"(frequencies={_FREQUENCIES}), so that one level is nearer than in `reproduce rings`. "
    f"Of images: {OF_WHICH[0].lower()}{OF_WHICH[1:]}",
)
