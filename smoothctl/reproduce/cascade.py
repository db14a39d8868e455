"""Levels between ARDS (one) and NCSN (many): cascades of one, two and four σ at equal cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smoothctl.datasets import open_dataset
from smoothctl.reporting.figures import panels, save
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
from smoothctl.reproduce.planar import EQUAL, Fit, Model, TwoStep
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_PRIOR, _DENOISER, _OF_STEPS = 40, 122, 118
"""Units of the prior, of a denoiser of one step, and of one that takes σ as an input."""

_SHOWN = 5000
_ONE, _GAP = "one level", "above the truth"


@dataclass(frozen=True)
class _Levels:
    """The σ of one dataset's cascades, ascending, by what they are called."""

    dataset: str
    sigmas: Mapping[str, tuple[float, ...]]

    def model(self, name: str) -> Model:
        """Returns the model of one of them, whose prior is of its widest σ."""
        steps = self.sigmas[name][:-1]
        return TwoStep(3, _PRIOR, _OF_STEPS if steps else _DENOISER, steps)


_DATA = (
    _Levels(
        "rings",
        {_ONE: (0.3,), "two levels": (0.2, 0.6), "four levels": (0.1, 0.2, 0.4, 0.8)},
    ),
    _Levels(
        "olympics",
        {_ONE: (0.3,), "two levels": (0.1, 0.3), "four levels": (0.05, 0.1, 0.2, 0.4)},
    ),
)


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    rows, claims, truth, pictures = [], [], {}, []
    for levels in _DATA:
        data = open_dataset(levels.dataset)
        ideal = -float(data.true_log_prob(data.test.head(budget.examples)).mean())
        shown, gaps = {"data": data.test.head(_SHOWN)}, {}
        for name, sigmas in levels.sigmas.items():
            model, fit = levels.model(name), Fit(levels.dataset, sigmas[-1], budget, reporter)
            start = f"{levels.dataset}-{'-'.join(f'{sigma:g}' for sigma in sigmas)}"
            runs = [model.fit(fit, folder / f"{start}-seed{seed}", seed) for seed in seeds]
            per_seed = [model.evaluate(run, budget) for run in runs]
            figures = collect([{_GAP: each["nats"] - ideal, **each} for each in per_seed])
            size = parameters(runs[0], "prior", "denoiser")
            said = f"{levels.dataset}, {name}: σ {', '.join(f'{sigma:g}' for sigma in sigmas)}"
            rows.append(Row(said, size, figures))
            shown[name], gaps[name] = model.draw(runs[0], _SHOWN), figures[_GAP]
        truth[f"true entropy of {levels.dataset}, nats"] = data.true_entropy()
        claims += _claims(levels.dataset, gaps)
        pictures.append(folder / f"{levels.dataset}.png")
        save(panels(shown, data), pictures[-1])
    return Result("cascade", list(seeds), truth, rows, claims, list(map(str, pictures)))


def _claims(dataset: str, gaps: Mapping[str, list[float]]) -> list[Claim]:
    one, *others = gaps
    claims = [better(f"{dataset}: {other}", gaps[other], one, gaps[one]) for other in others]
    if dataset == "rings":
        claims.append(at_most(f"{dataset}: {_GAP}, of {others[0]}", gaps[others[0]], 0.012))
    return claims


experiment = Experiment(
    "cascade",
    "denoisers of one, two and four steps, on rings and olympics",
    "beyond both papers: between ARDS and NCSN",
    _run,
    equal=EQUAL,
    minutes=60,
    note="−log p by importance-weighted bounds, whose draws are whole paths. Above the truth: what "
    "the bound exceeds the true −log p of the same test examples by. One network does all steps.",
)
