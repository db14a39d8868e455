"""MADE with and without smoothing at equal parameter counts, on any 2-d data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoothctl.datasets import open_dataset
from smoothctl.evaluation.published import published_nats
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Result,
    Row,
    collect,
    evaluate_baseline,
    evaluate_two_step,
    parameters,
)
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_joint, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["EQUAL", "ROWS", "SmoothedMADE"]

ROWS = ("MADE-3", "MADE-6", "two-step, 3 logistics", "joint, 3 logistics")

_BASELINES = {
    "MADE-3": {"mixtures": 3, "width": 130, "output_gain": 3.0},
    "MADE-6": {"mixtures": 6, "width": 126, "output_gain": 2.0},
}
"""Each with the gain that served it best on rings, so that the comparison is fair."""

_STEPS = {"prior": 8_000, "denoiser": 16_000}
"""The plain and the joint model are given both stages' steps."""

EQUAL = "about 37,000 parameters and 24,000 steps of 1,024 examples for each model"

_PRIOR = {"mixtures": 3, "width": 40}
_DENOISER = {"mixtures": 3, "width": 122}
_JOINT = {"mixtures": 3, "width": 128}


@dataclass(frozen=True)
class SmoothedMADE:
    """MADE-3, MADE-6, the two-step model and the joint one, each with about 37,000 weights.

    Args:
        dataset: registered name, and the experiment's.
        sigma: standard deviation of the Gaussian smoothing.
        claims: from the figures of each row.
        starts: baseline -> how many fits to choose from by validation loss; one if missing.
    """

    dataset: str
    sigma: float
    claims: Callable[[dict[str, dict[str, list[float]]]], list[Claim]]
    starts: Mapping[str, int] = field(default_factory=dict)

    def run(self, folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
        """Fits and scores every row; see `Experiment`."""
        figures: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
        sizes: dict[str, int] = {}
        for row in ROWS:
            for seed in seeds:
                out = folder / f"{self.dataset}-{row.split(',')[0].lower()}-seed{seed}"
                run = self._fit(row, out, seed, budget, reporter)
                evaluate = evaluate_baseline if row in _BASELINES else evaluate_two_step
                figures[row].append(evaluate(run, budget))
                sizes[row] = parameters(run, *run.stages())
        rows = [
            Row(r, sizes[r], collect(figures[r]), published_nats(self.dataset, r)) for r in ROWS
        ]
        truth = {"true entropy, nats": open_dataset(self.dataset).true_entropy()}
        claims = self.claims({row.model: row.figures for row in rows})
        return Result(self.dataset, list(seeds), truth, rows, claims)

    def _fit(self, row: str, out: Path, seed: int, budget: Budget, reporter: Reporter) -> Run:
        stages = {stage: _training(budget, steps) for stage, steps in _STEPS.items()}
        both = _training(budget, sum(_STEPS.values()))
        smoothed: dict[str, Any] = {"dataset": self.dataset, "sigma": self.sigma}
        where: dict[str, Any] = {"out": out, "seed": seed}
        if row == "joint, 3 logistics":
            return fit_joint(reporter, **smoothed, **where, options=_JOINT, training=both)
        if row == "two-step, 3 logistics":
            fit_prior(reporter, **smoothed, **where, options=_PRIOR, training=stages["prior"])
            return fit_denoiser(reporter, **where, options=_DENOISER, training=stages["denoiser"])
        fitted = [
            fit_baseline(
                reporter,
                dataset=self.dataset,
                out=out if start == 0 else out.with_name(f"{out.name}-start{start}"),
                seed=seed + 100 * start,
                options=_BASELINES[row],
                training=both,
            )
            for start in range(self.starts.get(row, 1))
        ]
        return min(fitted, key=lambda run: run.stage("baseline").log()[-1]["validation"])


def _training(budget: Budget, steps: int) -> dict[str, Any]:
    return {"steps": budget.of(steps), "batch_size": 1024, "warmup": 200}
