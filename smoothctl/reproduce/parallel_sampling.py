"""Digits: in how many passes over whole images each model's samples can be drawn."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from statistics import median

from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.reproduce import digits
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
from smoothctl.rng import generator
from smoothctl.runs.config import StageName
from smoothctl.runs.run import Run, load_run
from smoothctl.smoothing import batching
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_STAGES: tuple[StageName, ...] = ("baseline", "prior", "denoiser")
_IMAGES = 256
_PASSES, _OFF = "passes, median", "differs by"


def _models(run: Run, sampler: str) -> dict[StageName, PixelCNNpp]:
    """Returns the stages of a run, which draw by a sampler."""
    opened = load_run(run.path, run.weights, sampler={"sampler": sampler})
    models = {}
    for stage in _STAGES:
        model = opened.density(stage)
        assert isinstance(model, PixelCNNpp)
        models[stage] = model
    return models


def _measure(run: Run, n: int, seed: int) -> dict[StageName, dict[str, float]]:
    """Returns the passes of each stage over n images, and how far these are from cached draws."""
    parallel, cached = _models(run, "parallel"), _models(run, "cached")
    x_smooth = batching.sample(cached["prior"], n, generator=generator(seed, "smoothed"))
    figures = {}
    for stage in _STAGES:
        given = x_smooth if stage == "denoiser" else None
        drawn, expected = (
            batching.sample(models[stage], n, given, None, generator(seed, stage))
            for models in (parallel, cached)
        )
        passes = parallel[stage].passes
        figures[stage] = {
            _PASSES: float(median(passes)),
            "fewest": float(min(passes)),
            "most": float(max(passes)),
            _OFF: float((drawn - expected).abs().max()),
        }
    return figures


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    runs = [digits.fit(folder.with_name("digits"), seed, budget, reporter) for seed in seeds]
    n = min(_IMAGES, budget.examples)
    found = [_measure(run, n, seed) for run, seed in zip(runs, seeds, strict=True)]
    rows = [
        Row(stage, parameters(runs[0], stage), collect([figures[stage] for figures in found]))
        for stage in _STAGES
    ]
    pixels = {"pixels": float(prod(runs[0].config().event_shape))}
    return Result("parallel-sampling", list(seeds), pixels, rows, _claims(rows))


def _claims(rows: Sequence[Row]) -> list[Claim]:
    passes = {row.model: row.figures[_PASSES] for row in rows}
    off = [value for row in rows for value in row.figures[_OFF]]
    return [
        better("the denoiser", passes["denoiser"], "the prior", passes["prior"], "passes"),
        better("the prior", passes["prior"], "the baseline", passes["baseline"], "passes"),
        at_most("the largest difference from what the cached sampler draws", off, 1e-4),
    ]


experiment = Experiment(
    "parallel-sampling",
    "how many passes over whole images draw 8×8 digits, smoothed and plain",
    "the sampler of Song, Meng, Liao & Ermon (2021) on the models of `reproduce digits`",
    _run,
    minutes=5,
)
