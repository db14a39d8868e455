"""The pictures of the page: samples of every method beside the data, and their neighbours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.datasets.base import Dataset
from smoothctl.errors import NotAvailable, SmoothctlError
from smoothctl.metrics.image_sets import of_tensor, of_view
from smoothctl.metrics.neighbours import gather, nearest
from smoothctl.reporting.charts import Chart, Image, histogram, picture, points
from smoothctl.reporting.figures import grid, neighbour_rows
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import available_methods, draw_all, usable_methods
from smoothctl.smoothing.batching import Execution

__all__ = ["Panel", "Pictures", "pictures_of"]

_ORDER = ("smoothed", "single-step", "two-step", "baseline")
_TITLES = {
    "data": "test data",
    "smoothed": "smoothed x̃ ~ p(x̃)",
    "single-step": "single-step E[x|x̃]",
    "two-step": "two-step x ~ p(x|x̃)",
    "baseline": "baseline, unsmoothed",
}
_NEIGHBOURS = 8
"""Samples that are shown with their neighbours, and neighbours of each."""


@dataclass(frozen=True)
class Panel:
    """Samples of one method, as a picture of images or a chart of vectors."""

    title: str
    image: Image | None = None
    chart: Chart | None = None


@dataclass(frozen=True)
class Pictures:
    """Samples by method, neighbours of some, or the reason why there are none."""

    panels: list[Panel] = field(default_factory=list)
    neighbours: Panel | None = None
    reason: str = ""


def pictures_of(
    run: Run, number: int, seed: int, missing: list[str], progress: Progress | None = None
) -> Pictures:
    """Draws by every method that the run allows, and puts the data beside the samples.

    Args:
        run: an opened run.
        number: samples of each method.
        seed: determines them.
        missing: is told in a sentence each what is not there.
        progress: told (done, total) of drawing.
    """
    try:
        named = _samples(run, number, seed, missing, progress)
    except SmoothctlError as error:
        missing.append(f"No samples: {error}")
        return Pictures(reason=missing[-1])
    dataset = _dataset(run, missing)
    if dataset is not None:
        named = {"data": dataset.test.head(number), **named}
    shape = next(iter(named.values())).shape[1:]
    if len(shape) == 1 and shape[0] <= 2:
        return Pictures(_charts(named, dataset))
    if len(shape) != 3 or shape[0] not in (1, 3):
        kind = "more than two dimensions" if len(shape) == 1 else f"{shape[0]} channels"
        return Pictures(reason=f"Samples of {kind} have no picture.")
    across = math.ceil(math.sqrt(number))
    panels = [Panel(_TITLES[name], image=picture(grid(x, across))) for name, x in named.items()]
    return Pictures(panels, _neighbours(named, dataset, missing))


def _samples(
    run: Run, number: int, seed: int, missing: list[str], progress: Progress | None
) -> dict[str, Tensor]:
    reasons: dict[str, str] = {}
    usable: set[str] = {*usable_methods(run, reasons)}
    if "smoothed" in available_methods(run):
        usable.add("smoothed")
    methods = [name for name in _ORDER if name in usable]
    drawn = draw_all(run, methods, number, seed, execution=Execution(progress=progress))
    missing += reasons.values()
    return {name: drawn[name].samples.detach().cpu() for name in methods}


def _neighbours(
    named: Mapping[str, Tensor], dataset: Dataset | None, missing: list[str]
) -> Panel | None:
    """Returns some samples of the best method, each with its nearest training images."""
    method = next((name for name in ("two-step", "single-step", "baseline") if name in named), "")
    if not method or dataset is None:
        return None
    samples = named[method][:_NEIGHBOURS]
    k = min(_NEIGHBOURS, len(dataset.train))
    train = of_view(f"{dataset.name} (train)", dataset, dataset.train)
    try:
        drawn = of_tensor(method, samples)
        near = gather(train, nearest(drawn, train, k).indices)
    except SmoothctlError as error:
        missing.append(f"The samples have no neighbours: {error}")
        return None
    title = f"{method.capitalize()} samples, and right of the line the {k} nearest training images"
    return Panel(title, image=picture(neighbour_rows(drawn.read(0, len(drawn)), near)))


def _dataset(run: Run, missing: list[str]) -> Dataset | None:
    try:
        return run.dataset()
    except SmoothctlError as error:
        missing.append(f"The data cannot be shown beside the samples: {error}")
        return None


def _charts(named: Mapping[str, Tensor], dataset: Dataset | None) -> list[Panel]:
    arrays = {name: x.double().numpy() for name, x in named.items()}
    ranges = _ranges(next(iter(arrays.values())))
    if len(ranges) == 2:
        return [
            Panel(_TITLES[name], chart=points(x, ranges[0], ranges[1], _TITLES[name]))
            for name, x in arrays.items()
        ]
    truth = _true_density(dataset, ranges[0])
    tallest = max([y for _, y in truth] or [_tallest(x, ranges[0]) for x in arrays.values()])
    heights = (0.0, 1.15 * tallest)
    return [
        Panel(
            _TITLES[name],
            chart=histogram(
                x[:, 0], ranges[0], heights, [] if name == "smoothed" else truth, _TITLES[name]
            ),
        )
        for name, x in arrays.items()
    ]


def _ranges(samples: np.ndarray) -> list[tuple[float, float]]:
    """Returns the range of each coordinate, with room at its ends."""
    finite = samples[np.isfinite(samples).all(axis=1)]
    if not len(finite):
        return [(-1.0, 1.0)] * samples.shape[1]
    low, high = finite.min(axis=0), finite.max(axis=0)
    room = 0.15 * float((high - low).max()) or 1.0
    return [(float(a) - room, float(b) + room) for a, b in zip(low, high, strict=True)]


def _tallest(samples: np.ndarray, limits: tuple[float, float]) -> float:
    finite = samples[np.isfinite(samples)]
    counts, edges = np.histogram(finite, bins=90, range=limits)
    return float(counts.max() / (max(len(samples), 1) * (edges[1] - edges[0]))) or 1.0


def _true_density(
    dataset: Dataset | None, limits: tuple[float, float]
) -> list[tuple[float, float]]:
    x = torch.linspace(*limits, 400, dtype=torch.float64)
    try:
        density = [] if dataset is None else dataset.true_log_prob(x[:, None]).exp().tolist()
    except NotAvailable:
        return []
    return list(zip(x.tolist(), density, strict=True)) if density else []
