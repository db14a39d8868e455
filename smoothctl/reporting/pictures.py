"""The pictures of the page: samples of every method beside the data, and their neighbours."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.datasets.base import Dataset
from smoothctl.errors import NotAvailable, SmoothctlError
from smoothctl.metrics.image_sets import of_tensor, of_view
from smoothctl.metrics.neighbours import gather, nearest
from smoothctl.reporting.figures import Frame, grid, img, neighbour_rows, panel, svg
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw_all, shown_methods
from smoothctl.smoothing.batching import Execution

__all__ = ["Picture", "Pictures", "pictures_of"]

_TITLES = {
    "data": "test data",
    "smoothed": "smoothed x̃ ~ p(x̃)",
    "single-step": "single-step E[x|x̃]",
    "two-step": "two-step x ~ p(x|x̃)",
    "baseline": "baseline, unsmoothed",
}
_NEIGHBOURS = 8
"""Samples that are shown with their neighbours, and neighbours of each."""


class Picture(NamedTuple):
    """An element of the page, <svg> or <img>, and the title above it."""

    title: str
    element: str


class Pictures(NamedTuple):
    """Samples by method, neighbours of some, or the reason why there are none."""

    samples: list[Picture]
    neighbours: Picture | None = None
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
        return Pictures([], reason=missing[-1])
    dataset = _dataset(run, missing)
    if dataset is not None:
        named = {"data": dataset.test.head(number), **named}
    shape = next(iter(named.values())).shape[1:]
    if len(shape) == 1 and shape[0] <= 2:
        try:
            return Pictures(_panels(named, dataset))
        except NotAvailable as error:
            missing.append(f"Samples have no pictures: {error}")
            return Pictures([], reason=missing[-1])
    if len(shape) != 3 or shape[0] not in (1, 3):
        kind = "more than two dimensions" if len(shape) == 1 else f"{shape[0]} channels"
        return Pictures([], reason=f"Samples of {kind} have no picture.")
    across = math.ceil(math.sqrt(number))
    titled = {_TITLES[name]: grid(x, across) for name, x in named.items()}
    blocks = [
        Picture(title, img(block, f"{number} images in rows: {title}"))
        for title, block in titled.items()
    ]
    return Pictures(blocks, _neighbours(named, dataset, missing))


def _samples(
    run: Run, number: int, seed: int, missing: list[str], progress: Progress | None
) -> dict[str, Tensor]:
    reasons: dict[str, str] = {}
    methods = shown_methods(run, reasons)
    drawn = draw_all(run, methods, number, seed, execution=Execution(progress=progress))
    missing += reasons.values()
    return {name: drawn[name].samples.detach().cpu() for name in methods}


def _neighbours(
    named: Mapping[str, Tensor], dataset: Dataset | None, missing: list[str]
) -> Picture | None:
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
    return Picture(title, img(neighbour_rows(drawn.read(0, len(drawn)), near), title))


def _dataset(run: Run, missing: list[str]) -> Dataset | None:
    try:
        return run.dataset()
    except SmoothctlError as error:
        missing.append(f"The data cannot be shown beside the samples: {error}")
        return None


def _panels(named: Mapping[str, Tensor], dataset: Dataset | None) -> list[Picture]:
    """Returns a panel for each set of samples; x̃ has another density than the data."""
    frame = Frame.around(named, dataset)
    pictures = []
    for name, samples in named.items():
        what = "points" if samples.shape[1] == 2 else "values"
        figure = panel(samples, frame, truth=name != "smoothed")
        description = f"{len(samples)} {what}: {_TITLES[name]}."
        pictures.append(Picture(_TITLES[name], svg(figure, description)))
    return pictures
