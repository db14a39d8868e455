"""Which checkpoint to take: by the Fréchet distance of 1,000 samples (NCSN appendix B.2)."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import torch

from smoothctl.architectures.base import Density
from smoothctl.reporting.figures import lines, save
from smoothctl.reproduce.base import Budget, Claim, Experiment, Result, Row, collect
from smoothctl.reproduce.quality import Quality
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.smoothing import batching
from smoothctl.storage.weights import read_weights
from smoothctl.training.reporter import Reporter
from smoothctl_ncsn.experiments.small import fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["experiment"]

_SAMPLES = 1000
_LAST, _BY_LOSS, _BY_DISTANCE = "the last", "by validation loss", "by Fréchet distance"


class _Found(NamedTuple):
    """What is measured of one seed, each by step."""

    distances: dict[int, float]
    losses: dict[int, float]
    chosen: dict[str, int]
    """Choice -> the step that it takes."""
    anew: dict[str, float]
    """Choice -> the distance of other samples."""


def _validation_losses(run: Run) -> dict[int, float]:
    """Returns the validation loss at each step of which there is a checkpoint."""
    stage = run.stage("baseline")
    kept = {int(path.name.removeprefix("step-")) for path in stage.checkpoints.glob("step-*")}
    log = {int(each["step"]): each for each in stage.log() if "validation" in each}
    return {step: log[step]["validation"] for step in sorted(kept & log.keys())}


def _checkpoint(run: Run, step: int) -> Density:
    """Returns the model with the averaged weights of a checkpoint."""
    density, name = run.density("baseline"), f"step-{step:08d}"
    tensors, _ = read_weights(run.stage("baseline").checkpoints / name / "state.safetensors")
    with torch.no_grad():
        for i, parameter in enumerate(density.parameters()):
            parameter.copy_(tensors[f"average.{i}"])
    return density


def _measure(run: Run, seed: int, budget: Budget) -> _Found:
    n, dataset = min(_SAMPLES, budget.examples), run.dataset()
    quality = Quality.by_labels_of(dataset)

    def measured(step: int, name: str) -> float:
        source = generator(seed, name)
        return quality.frechet(batching.sample(_checkpoint(run, step), n, generator=source))

    losses = _validation_losses(run)
    distances = {step: measured(step, "chosen by") for step in losses}
    chosen = {
        _LAST: max(losses),
        _BY_LOSS: min(losses, key=lambda step: losses[step]),
        _BY_DISTANCE: min(distances, key=lambda step: distances[step]),
    }
    anew = {step: measured(step, "judged by") for step in set(chosen.values())}
    return _Found(distances, losses, chosen, {name: anew[step] for name, step in chosen.items()})


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    runs = [fit(folder, seed, budget, reporter) for seed in seeds]
    found = [_measure(run, seed, budget) for run, seed in zip(runs, seeds, strict=True)]
    rows = [
        Row(
            f"step {step}",
            0,
            {
                "Fréchet": [each.distances[step] for each in found],
                "validation loss": [each.losses[step] for each in found],
            },
        )
        for step in found[0].losses
    ]
    anew = collect([each.anew for each in found])
    rows += [
        Row(
            name,
            0,
            {"Fréchet, other samples": values, "step": [float(e.chosen[name]) for e in found]},
        )
        for name, values in anew.items()
    ]
    picture = folder / "ncsn-checkpoints.png"
    save(_picture(seeds, found), picture)
    worse = [ours - last for ours, last in zip(anew[_BY_DISTANCE], anew[_LAST], strict=True)]
    others = sum(each.chosen[_BY_DISTANCE] != each.chosen[_LAST] for each in found)
    claim = Claim(
        "the checkpoint by Fréchet distance is not farther than the last, by other samples",
        f"mean difference {mean(worse):+.2f}, largest {max(worse):+.2f}; it is another one than "
        f"the last at {others} of {len(found)} seeds",
        max(worse) <= 0,
        "appendix B.2",
    )
    return Result("ncsn-checkpoints", list(seeds), {}, rows, [claim], [str(picture)])


def _picture(seeds: Sequence[int], found: Sequence[_Found]) -> "Figure":
    """Draws distance and validation loss by step, a line for each seed."""
    panels = {
        "Fréchet distance by step": [each.distances for each in found],
        "validation loss by step": [each.losses for each in found],
    }
    return lines(
        {
            title: {
                f"seed {seed}": (list(curve), list(curve.values()))
                for seed, curve in zip(seeds, curves, strict=True)
            }
            for title, curves in panels.items()
        }
    )


experiment = Experiment(
    "ncsn-checkpoints",
    "the choice of a checkpoint by Fréchet distance, by validation loss, and the last, on digits",
    "NCSN (Song & Ermon 2019), appendix B.2, on embedded 8×8 digits",
    _run,
    paper="NCSN",
    section=9.2,
    equal="the fit that all checkpoints are of, and samples",
)
