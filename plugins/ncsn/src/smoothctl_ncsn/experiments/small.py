"""A small NCSN of 8×8 digits, fitted once for several experiments."""

from pathlib import Path
from typing import Any

from smoothctl.reproduce.base import Budget
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline
from smoothctl.training.reporter import Reporter

__all__ = ["CHECKPOINTS", "LEVELS", "STEPS", "fit", "fit_alike"]

CHECKPOINTS, LEVELS, STEPS = 6, 10, 3
"""Checkpoints that are kept, noise levels as published, and Langevin steps at each."""

_OPTIONS = {"filters": 16, "sigma_begin": 2.0, "noise_levels": LEVELS, "steps": STEPS}
"""Levels from 1 to 0.01 on [0, 1] are 2 to 0.02 on [−1, 1]."""

_TRAINING_STEPS = 1200


def fit(folder: Path, seed: int, budget: Budget, reporter: Reporter) -> Run:
    """Fits the NCSN of a seed beside an experiment's folder, unless that is done.

    Args:
        folder: the experiment's own.
        seed: of weights and training.
        budget: scales the steps.
        reporter: told about progress.

    Returns:
        The run, with the weights at the end.
    """
    return fit_alike(folder.with_name("ncsn-small") / f"seed{seed}", seed, budget, reporter)


def fit_alike(out: Path, seed: int, budget: Budget, reporter: Reporter, **options: Any) -> Run:
    """Fits the same network as `fit` by the same training, but for some options.

    Args:
        out: run folder.
        seed: of weights and training.
        budget: scales the steps.
        reporter: told about progress.
        options: of `ImageNCSN`, where they differ.
    """
    steps = budget.of(_TRAINING_STEPS)
    every = max(1, steps // CHECKPOINTS)
    return fit_baseline(
        reporter,
        dataset="digits",
        architecture="smoothctl-ncsn:ncsn",
        out=out,
        seed=seed,
        options={**_OPTIONS, **options},
        training={
            "steps": steps,
            "batch_size": 32,
            "decay": "constant",
            "validate_every": every,
            "checkpoint_every": every,
            "keep": 2 * CHECKPOINTS,  # a fit that is stopped and goes on has some more
        },
    )
