"""Models of 2-d data, plain and smoothed, at equal parameters and steps: one table, one picture."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from smoothctl.datasets import open_dataset
from smoothctl.evaluation.published import published_nats
from smoothctl.reporting.figures import panels, save
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Result,
    Row,
    better,
    collect,
    evaluate_baseline,
    evaluate_two_step,
    parameters,
)
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_joint, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = [
    "EQUAL",
    "MADE",
    "Fit",
    "Joint",
    "Model",
    "RealNVP",
    "Table",
    "TwoStep",
    "published_models",
    "published_run",
    "ten_logistics_claim",
]

_PRIOR_STEPS, _DENOISER_STEPS = 8_000, 16_000
_BOTH = _PRIOR_STEPS + _DENOISER_STEPS
"""What a plain or a joint model is given: both stages' steps."""

_SHOWN = 5000

EQUAL = "about 37,000 parameters and 24,000 steps of 1,024 examples for each model"


@dataclass(frozen=True)
class Fit:
    """What every fit of an experiment shares."""

    dataset: str
    sigma: float
    budget: Budget
    reporter: Reporter

    def training(self, steps: int) -> dict[str, Any]:
        """Returns the settings of a training of so many steps."""
        return {"steps": self.budget.of(steps), "batch_size": 1024, "warmup": 200}


class Model(ABC):
    """A row of the table."""

    @abstractmethod
    def fit(self, fit: Fit, out: Path, seed: int) -> Run:
        """Returns the fitted run; what is complete already is not fitted again."""

    @abstractmethod
    def evaluate(self, run: Run, budget: Budget) -> dict[str, float]:
        """Returns its figures."""

    @abstractmethod
    def draw(self, run: Run, n: int) -> Tensor:
        """Returns n samples, (n, 2)."""


class _Plain(Model):
    """A density of x itself."""

    def evaluate(self, run: Run, budget: Budget) -> dict[str, float]:
        return evaluate_baseline(run, budget)

    def draw(self, run: Run, n: int) -> Tensor:
        return run.density("baseline").sample(n, generator=generator(0, "picture"))


class _Smoothed(Model):
    """p(x) = ∫ p(x̃) p(x|x̃) dx̃."""

    def evaluate(self, run: Run, budget: Budget) -> dict[str, float]:
        return evaluate_two_step(run, budget)

    def draw(self, run: Run, n: int) -> Tensor:
        method = run.two_step()
        assert method is not None
        return method.sample(n, generator=generator(0, "picture"))


@dataclass(frozen=True)
class MADE(_Plain):
    """A plain MADE, of several starts the best by validation loss.

    Args:
        mixtures: logistics of each coordinate.
        width: units of each hidden layer.
        output_gain: of the last layer's first weights.
        starts: how many fits to choose from.
    """

    mixtures: int
    width: int
    output_gain: float
    starts: int = 1

    def fit(self, fit: Fit, out: Path, seed: int) -> Run:
        options = {
            "mixtures": self.mixtures,
            "width": self.width,
            "output_gain": self.output_gain,
        }
        fitted = [
            fit_baseline(
                fit.reporter,
                dataset=fit.dataset,
                out=out if start == 0 else out.with_name(f"{out.name}-start{start}"),
                seed=seed + 100 * start,
                options=options,
                training=fit.training(_BOTH),
            )
            for start in range(self.starts)
        ]
        return min(fitted, key=lambda run: run.stage("baseline").log()[-1]["validation"])


@dataclass(frozen=True)
class RealNVP(_Plain):
    """A plain flow of affine couplings."""

    couplings: int
    width: int

    def fit(self, fit: Fit, out: Path, seed: int) -> Run:
        return fit_baseline(
            fit.reporter,
            dataset=fit.dataset,
            architecture="realnvp",
            out=out,
            seed=seed,
            options={"couplings": self.couplings, "width": self.width},
            training=fit.training(_BOTH),
        )


@dataclass(frozen=True)
class TwoStep(_Smoothed):
    """A MADE of x̃ and a MADE of x given x̃ (ARDS section 3.2).

    Args:
        mixtures: logistics of each coordinate.
        prior_width: units of each hidden layer of the prior.
        denoiser_width: those of the denoiser.
        sigmas: smaller σ that the denoiser goes through; none: it has one step.
        frequencies: of the denoiser.
    """

    mixtures: int
    prior_width: int
    denoiser_width: int
    sigmas: tuple[float, ...] = ()
    frequencies: int = 0

    def fit(self, fit: Fit, out: Path, seed: int) -> Run:
        where: dict[str, Any] = {"out": out, "seed": seed}
        fit_prior(
            fit.reporter,
            **where,
            dataset=fit.dataset,
            sigma=fit.sigma,
            options={"mixtures": self.mixtures, "width": self.prior_width},
            training=fit.training(_PRIOR_STEPS),
        )
        return fit_denoiser(
            fit.reporter,
            **where,
            options={
                "mixtures": self.mixtures,
                "width": self.denoiser_width,
                "sigmas": self.sigmas,
                "frequencies": self.frequencies,
            },
            training=fit.training(_DENOISER_STEPS),
        )


@dataclass(frozen=True)
class Joint(_Smoothed):
    """One MADE of [x̃, x] (ARDS section 4.1)."""

    mixtures: int
    width: int

    def fit(self, fit: Fit, out: Path, seed: int) -> Run:
        return fit_joint(
            fit.reporter,
            dataset=fit.dataset,
            sigma=fit.sigma,
            out=out,
            seed=seed,
            options={"mixtures": self.mixtures, "width": self.width},
            training=fit.training(_BOTH),
        )


def published_models(starts_of_three: int = 1) -> dict[str, Model]:
    """Returns the models of ARDS table 1 but CIF's, the joint one, and two of ten logistics.

    Each has about 37,000 weights. MADE-3 and MADE-6 have the output gain that served them best on
    rings, so that the comparison is fair; ten logistics, the default, do not depend on it.
    """
    return {
        "RealNVP": RealNVP(8, 66),
        "MADE-3": MADE(3, 130, output_gain=3.0, starts=starts_of_three),
        "MADE-6": MADE(6, 126, output_gain=2.0),
        "two-step, 3 logistics": TwoStep(3, 40, 122),
        "joint, 3 logistics": Joint(3, 128),
        "MADE-10": MADE(10, 121, output_gain=1.0),
        "two-step, 10 logistics": TwoStep(10, 40, 109),
    }


def published_run(name: str, fit: Fit, folder: Path, seed: int) -> Run:
    """Returns a model of `published_models`, fitted; on data of table 1 that experiment's own run.

    Args:
        name: the model's.
        fit: the data, σ and budget.
        folder: of the experiment that asks; the run is beside it, and is fitted if need be.
        seed: of the run.
    """
    out = _folder(folder.with_name(fit.dataset), fit.dataset, name, seed)
    return published_models()[name].fit(fit, out, seed)


def ten_logistics_claim(dataset: str, figures: Mapping[str, Mapping[str, list[float]]]) -> Claim:
    """Returns whether smoothing still pays where logistics are not what is short."""
    names = "two-step, 10 logistics", "MADE-10"
    two_step, plain = (figures[name]["nats"] for name in names)
    return better(f"{dataset}: {names[0]}", two_step, names[1], plain)


@dataclass(frozen=True)
class Table:
    """Fits every model to one dataset, and compares them.

    Args:
        name: the experiment's.
        dataset: registered name of the data.
        sigma: standard deviation of the Gaussian smoothing.
        models: row -> model.
        claims: from the figures of each row.
    """

    name: str
    dataset: str
    sigma: float
    models: Mapping[str, Model]
    claims: Callable[[Mapping[str, Mapping[str, list[float]]]], list[Claim]]

    def run(self, folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
        """Fits and scores every row; see `Experiment`."""
        fit = Fit(self.dataset, self.sigma, budget, reporter)
        data = open_dataset(self.dataset)
        rows, shown = [], {"data": data.test.head(_SHOWN)}
        for name, model in self.models.items():
            outs = [_folder(folder, self.dataset, name, seed) for seed in seeds]
            runs = [model.fit(fit, out, seed) for out, seed in zip(outs, seeds, strict=True)]
            figures = collect([model.evaluate(run, budget) for run in runs])
            size = parameters(runs[0], *runs[0].stages())
            rows.append(Row(name, size, figures, published_nats(self.dataset, name)))
            shown[name] = model.draw(runs[0], _SHOWN)
        picture = folder / f"{self.name}.png"
        save(panels(shown, data), picture)
        truth = {"true entropy, nats": data.true_entropy()}
        claims = self.claims({row.model: row.figures for row in rows})
        return Result(self.name, list(seeds), truth, rows, claims, [str(picture)])


def _folder(folder: Path, dataset: str, name: str, seed: int) -> Path:
    """Returns a row's run folder, its name as one word: 'rings-two-step-3-logistics-seed0'."""
    word = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return folder / f"{dataset}-{word}-seed{seed}"
