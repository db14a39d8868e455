"""NCSN on MNIST, scored as `smoothctl reproduce mnist` scores PixelCNN++."""

from collections.abc import Sequence
from pathlib import Path

from smoothctl.evaluation.scores import FLOOR
from smoothctl.reporting.figures import columns, save
from smoothctl.reproduce.base import Budget, Experiment, Result
from smoothctl.reproduce.images import row, scores
from smoothctl.sampling.draw import draw_all
from smoothctl.training.fit import fit_baseline
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_OPTIONS = {"filters": 24}
"""About as many parameters as the models of `mnist`."""

_TRAINING = {"steps": 2400, "batch_size": 32}
"""About two CPU hours, as the plain PixelCNN++ of `mnist` has, where those were measured."""

_SHOWN = 36


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    runs = [
        fit_baseline(
            reporter,
            dataset=budget.dataset or "mnist",
            architecture="smoothctl-ncsn:ncsn",
            out=folder / f"seed{seed}",
            seed=seed,
            options=_OPTIONS,
            training={**_TRAINING, "steps": budget.of(_TRAINING["steps"])},
        )
        for seed in seeds
    ]
    scored = [scores(run, seed, budget, reporter) for run, seed in zip(runs, seeds, strict=True)]
    rows = [row("NCSN", "baseline", runs, scored), row("test images", FLOOR, runs, scored)]
    picture = folder / "ncsn-mnist.png"
    drawn = draw_all(runs[0], ["baseline"], _SHOWN, seeds[0])
    save(columns({"NCSN": drawn["baseline"].samples}), picture)
    return Result("ncsn-mnist", list(seeds), {}, rows, [], [str(picture)])


experiment = Experiment(
    "ncsn-mnist",
    "NCSN on MNIST, of the size and training of the models of `mnist`; with --limit, or on a GPU",
    "not in the papers: NCSN (Song & Ermon 2019) beside section 4.3 of ARDS (Meng et al. 2021)",
    _run,
    takes_dataset=True,
    equal="parameters and CPU hours of the models of mnist",
)
