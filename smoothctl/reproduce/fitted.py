"""The runs that several experiments look at: those of `digits`, or with data those of `mnist`."""

from collections.abc import Sequence
from pathlib import Path

from smoothctl.reproduce import digits
from smoothctl.reproduce.base import Budget
from smoothctl.reproduce.images import MNIST
from smoothctl.runs.run import Run, load_run
from smoothctl.training.reporter import Reporter

__all__ = ["OF_WHICH", "fitted_runs"]

OF_WHICH = (
    "The models are those of `reproduce digits` or, where --dataset says where MNIST is, of "
    "`reproduce mnist`."
)
"""What the note of such an experiment says first."""


def fitted_runs(
    folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter
) -> list[Run]:
    """Returns a run of all stages for each seed, with the weights of the best validation.

    Args:
        folder: of the experiment that asks; the runs are beside it, and are fitted if need be.
        seeds: of the runs.
        budget: factor on the steps; its data are a copy of MNIST, whose models are taken then.
        reporter: told about progress.
    """
    if budget.dataset is None:
        shared = folder.with_name("digits")
        return [digits.fit(shared, seed, budget, reporter) for seed in seeds]
    shared = folder.with_name(MNIST.name)
    runs = [MNIST.fit(shared, seed, budget, reporter) for seed in seeds]
    return [load_run(run.path, "best", dataset=run.place) for run in runs]
