"""How samples come about, and what is put in for a missing half (NCSN figures 4 and 6)."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from smoothctl.architectures.base import to_grid
from smoothctl.datasets.pictures import read_mask
from smoothctl.metrics.classifier import Classifier
from smoothctl.reporting.figures import columns, save
from smoothctl.reproduce.base import Budget, Claim, Experiment, Result, Row, better, collect
from smoothctl.reproduce.quality import Quality
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw_frames
from smoothctl.sampling.inpainting import Inpainted, inpaint
from smoothctl.training.reporter import Reporter
from smoothctl_ncsn.experiments.small import LEVELS, fit

__all__ = ["experiment"]

_SAMPLES, _COMPLETED, _DRAWS, _SHOWN = 1000, 128, 4, 8
_FRAMES = LEVELS // 2
"""A frame after every second level."""

_MASK = "bottom-half"
_OTHERS = "the half of another image"


class _Seen(NamedTuple):
    """What is measured of one seed, and what is shown of it."""

    frames: Tensor
    distances: list[float]
    inpainted: Inpainted
    changed: dict[str, float]
    """Share of images that the classifier takes for another digit than the whole ones, %."""


def _measure(run: Run, seed: int, budget: Budget) -> _Seen:
    dataset = run.dataset()
    quality = Quality.by_labels_of(dataset)
    frames = draw_frames(run, "baseline", min(_SAMPLES, budget.examples), _FRAMES, seed)
    test = dataset.test.head(min(_COMPLETED, budget.examples))
    known = read_mask(_MASK, dataset.event_shape)
    inpainted = inpaint(run, test, known, _DRAWS, seed=seed)
    changed = _changed(quality.classifier, inpainted, quality.levels)
    return _Seen(frames, [quality.frechet(frame) for frame in frames], inpainted, changed)


def _changed(classifier: Classifier, inpainted: Inpainted, levels: int) -> dict[str, float]:
    """Compares the classes of completed images with those of whole ones, and of any two halves."""
    images, known, samples = inpainted
    wanted = classifier(images).argmax(1)
    other = torch.where(known, images, images.roll(1, 0))
    completed = to_grid(samples, levels).transpose(0, 1)
    found = {"inpainted": completed, _OTHERS: other[None]}
    wrong = {
        name: [classifier(images).argmax(1) != wanted for images in sets]
        for name, sets in found.items()
    }
    return {name: 100 * float(torch.cat(each).double().mean()) for name, each in wrong.items()}


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    runs = [fit(folder, seed, budget, reporter) for seed in seeds]
    seen = [_measure(run, seed, budget) for run, seed in zip(runs, seeds, strict=True)]
    distances = [each.distances for each in seen]
    rows = [
        Row(f"after {2 * i} of {LEVELS} levels", 0, {"Fréchet": list(values)})
        for i, values in enumerate(zip(*distances, strict=True), start=1)
    ]
    changed = collect([each.changed for each in seen])
    rows += [Row(name, 0, {"other class, %": values}) for name, values in changed.items()]
    claims = _claims(seen, changed)
    pictures = _pictures(folder, seen[0])
    return Result("ncsn-pictures", list(seeds), {}, rows, claims, pictures)


def _claims(seen: Sequence[_Seen], changed: dict[str, list[float]]) -> list[Claim]:
    rises = [max(b - a for a, b in pairwise(each.distances)) for each in seen]
    kept = [_difference(each.inpainted) for each in seen]
    return [
        Claim(
            "the Fréchet distance falls from each frame to the next",
            f"largest change {max(rises):+.3g}",
            max(rises) < 0,
            "figure 4",
        ),
        Claim(
            "inpainting keeps the known half exactly",
            f"largest difference {max(kept):g}",
            max(kept) == 0,
            "algorithm 2",
        ),
        better("inpainting", changed["inpainted"], _OTHERS, changed[_OTHERS], "% of another class"),
    ]


def _difference(inpainted: Inpainted) -> float:
    """Returns the largest change of a known pixel."""
    images, known, samples = inpainted
    return float(((samples - images[:, None]).abs() * known[:, None]).max())


def _pictures(folder: Path, seen: _Seen) -> list[str]:
    """Writes how samples come about, and completions between what is known and the whole."""
    images, known, samples = seen.inpainted
    occluded = torch.where(known, images, torch.zeros_like(images))
    blocks = {
        "ncsn-frames": {"annealed Langevin dynamics": seen.frames.transpose(0, 1)[:_SHOWN]},
        "ncsn-inpainting": {
            "given": occluded[:_SHOWN, None],
            "completed": samples[:_SHOWN],
            "whole": images[:_SHOWN, None],
        },
    }
    for name, named in blocks.items():
        save(columns(named), folder / f"{name}.png")
    return [str(folder / f"{name}.png") for name in blocks]


experiment = Experiment(
    "ncsn-pictures",
    "intermediate samples of annealed Langevin dynamics, and inpainting, on 8×8 digits",
    "NCSN (Song & Ermon 2019), figures 4 and 6, on embedded 8×8 digits",
    _run,
    paper="NCSN",
    section=5.0,
    minutes=60,
)
