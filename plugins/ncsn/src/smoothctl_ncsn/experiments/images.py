"""NCSN on MNIST and CIFAR-10, scored as `smoothctl reproduce mnist` scores PixelCNN++."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoothctl.evaluation.image_quality import ImageComparison
from smoothctl.evaluation.scores import FLOOR
from smoothctl.reporting.figures import columns, save
from smoothctl.reproduce.base import Budget, Experiment, Result
from smoothctl.reproduce.images import row, scores
from smoothctl.sampling.draw import draw_all
from smoothctl.training.fit import fit_baseline
from smoothctl.training.reporter import Reporter

__all__ = ["CIFAR10", "Plan", "cifar10", "mnist"]

_SHOWN = 36


@dataclass(frozen=True)
class Plan:
    """What is fitted, and for how long.

    Args:
        name: the experiment's.
        dataset: its data, unless others are given.
        steps: of training.
        batch_size: examples a step.
        preset: of `ncsn`.
        options: settings of the network; those of the preset if none.
        by: what judges samples; None: a classifier of the training images.
    """

    name: str
    dataset: str
    steps: int
    batch_size: int
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    by: ImageComparison | None = None

    def run(self, folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
        """Fits and scores the model of each seed; see `Experiment`."""
        runs = [
            fit_baseline(
                reporter,
                dataset=budget.dataset or self.dataset,
                architecture="smoothctl-ncsn:ncsn",
                out=folder / f"seed{seed}",
                seed=seed,
                preset=self.preset,
                options=self.options,
                training={"steps": budget.of(self.steps), "batch_size": self.batch_size},
            )
            for seed in seeds
        ]
        pairs = zip(runs, seeds, strict=True)
        scored = [scores(run, seed, budget, reporter, self.by) for run, seed in pairs]
        rows = [row("NCSN", "baseline", runs, scored), row("test images", FLOOR, runs, scored)]
        picture = folder / f"{self.name}.png"
        drawn = draw_all(runs[0], ["baseline"], _SHOWN, seeds[0])
        save(columns({"NCSN": drawn["baseline"].samples}), picture)
        return Result(self.name, list(seeds), {}, rows, [], [str(picture)])


CIFAR10 = Plan("ncsn-cifar10", "cifar10", 200_000, 128, "paper-cifar10", by=ImageComparison())
"""As published."""

mnist = Experiment(
    "ncsn-mnist",
    "NCSN on MNIST, of the size and training of the models of `mnist`; with --limit, or on a GPU",
    "not in the papers: NCSN (Song & Ermon 2019) beside section 4.3 of ARDS (Meng et al. 2021)",
    Plan("ncsn-mnist", "mnist", 2400, 32, options={"filters": 24}).run,
    takes_dataset=True,
    equal="parameters and CPU hours of the models of mnist",
)
cifar10 = Experiment(
    "ncsn-cifar10",
    "NCSN of the published size on cifar10",
    "NCSN (Song & Ermon 2019), table 1 and figure 5",
    CIFAR10.run,
    takes_dataset=True,
    paper="NCSN",
    section=5.2,
    gpu=True,
    note="By Inception features where their weights are at hand: smoothctl features list.",
)
