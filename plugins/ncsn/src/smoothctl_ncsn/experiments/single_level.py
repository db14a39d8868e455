"""One noise level is not enough: Langevin dynamics without annealing (NCSN appendix C.1)."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from smoothctl.reporting.figures import columns, save
from smoothctl.reproduce.base import (
    Budget,
    Experiment,
    Result,
    Row,
    better,
    collect,
    parameters,
)
from smoothctl.reproduce.quality import Quality
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling.draw import draw
from smoothctl.training.reporter import Reporter
from smoothctl_ncsn.experiments.small import LEVELS, STEPS, fit, fit_alike

__all__ = ["experiment"]

_SAMPLES, _SHOWN = 1000, 36
_ANNEALED, _PLAIN, _DATA = "NCSN, annealed", "one level, Langevin", "training data"
_SAMPLER = {"steps": LEVELS * STEPS, "step_size": 0.2, "start": "uniform"}
"""As many steps as at all levels together; the step and the start are those of the paper."""


def _runs(folder: Path, seed: int, budget: Budget, reporter: Reporter) -> dict[str, Run]:
    """Returns the NCSN and the network of its last level alone, with its sampler."""
    alone = fit_alike(folder / f"seed{seed}", seed, budget, reporter, noise_levels=1)
    return {
        _ANNEALED: fit(folder, seed, budget, reporter),
        _PLAIN: load_run(alone.path, sampler=_SAMPLER),
    }


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    distances: list[dict[str, float]] = []
    sizes, shown = {_DATA: 0}, dict[str, Tensor]()
    n = min(_SAMPLES, budget.examples)
    for seed in seeds:
        runs = _runs(folder, seed, budget, reporter)
        dataset = runs[_ANNEALED].dataset()
        found = {_DATA: dataset.train.head(n)}
        found |= {name: draw(run, "baseline", n, seed).samples for name, run in runs.items()}
        sizes |= {name: parameters(run, "baseline") for name, run in runs.items()}
        quality = Quality.by_labels_of(dataset)
        distances.append({name: quality.frechet(images) for name, images in found.items()})
        shown = shown or found
    picture = folder / "ncsn-single-level.png"
    save(columns({name: images[:_SHOWN] for name, images in shown.items()}), picture)
    by_name = collect(distances)
    rows = [Row(name, sizes[name], {"Fréchet": values}) for name, values in by_name.items()]
    claim = better(
        _ANNEALED, by_name[_ANNEALED], _PLAIN, by_name[_PLAIN], "Fréchet distance", "appendix C.1"
    )
    return Result("ncsn-single-level", list(seeds), {}, rows, [claim], [str(picture)])


experiment = Experiment(
    "ncsn-single-level",
    "NCSN and its last noise level alone, without annealing, on 8×8 digits",
    "NCSN (Song & Ermon 2019), section 5 and appendix C.1, on embedded 8×8 digits",
    _run,
    paper="NCSN",
    section=5.1,
    minutes=28,
    equal="the network, its training, and steps of Langevin dynamics",
)
