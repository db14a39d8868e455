"""Figures: one- and two-dimensional samples, blocks of images, and curves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from smoothctl.datasets.base import Dataset
from smoothctl.datasets.grid import Grid
from smoothctl.datasets.pictures import to_uint8, write_png
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.sampling.draw import Samples
from smoothctl.storage.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "columns",
    "comparison",
    "grid",
    "neighbour_rows",
    "panels",
    "save",
    "save_samples_picture",
    "sigma_curves",
]

_INK = "#1f4e79"
_TRUTH = "#c0392b"
_MAX_POINTS = 5000
_MAX_IMAGES = 100
_DPI = 120
_SIDE = 64
"""Grids enlarge smaller images to about this many pixels, so that a person sees them."""
_TITLE, _MARGIN, _LETTER = 36, 10, 8
"""Pixels above and beside the blocks of images, and those that a letter of a title may take."""


def panels(named: Mapping[str, Tensor], dataset: Dataset) -> "Figure":
    """Draws one panel for each set of samples, all on the same axes.

    Args:
        named: title -> samples, (n, D) with D = 1 (histograms) or 2 (points).
        dataset: gives the true density for 1-d data, where it is known.

    Returns:
        The figure.
    """
    data = {title: samples.detach().cpu().double().numpy() for title, samples in named.items()}
    limits = _limits(next(iter(data.values())))
    tall = (
        0.9 if len(limits) == 1 else (limits[1][1] - limits[1][0]) / (limits[0][1] - limits[0][0])
    )
    figure = _figure(figsize=(3.1 * len(data), 0.5 + 2.9 * tall), layout="constrained")
    axes = figure.subplots(1, len(data), squeeze=False)[0]
    paint = _histogram if dataset.event_shape == (1,) else _points
    for axis, (title, samples) in zip(axes, data.items(), strict=True):
        axis.set_title(title, fontsize=10, parse_math=False)
        paint(axis, samples, limits, dataset)
    return figure


def columns(named: Mapping[str, Tensor], across: int | None = None) -> "Figure":
    """Draws one block of images for each title, side by side (as ARDS figure 6 does).

    Images at the same place of two blocks belong together. Pixels are shown as they are, enlarged
    by whole numbers; values outside [−1, 1] are clipped for show.

    Args:
        named: title -> images, (n, C, H, W), C 1 or 3; or (n, k, C, H, W), k in each of n rows.
        across: images in a row of the (n, C, H, W) blocks; √n, rounded up, if None.

    Returns:
        The figure.
    """
    blocks = {title: _block(images, across) for title, images in named.items()}
    rooms = [max(block.shape[2], _LETTER * len(title)) for title, block in blocks.items()]
    width = sum(rooms) + _MARGIN * (len(rooms) + 1)
    height = max(block.shape[1] for block in blocks.values()) + _TITLE + _MARGIN
    figure = _figure(figsize=((width + 0.01) / _DPI, (height + 0.01) / _DPI), dpi=_DPI)
    left = _MARGIN
    for (title, block), room in zip(blocks.items(), rooms, strict=True):
        _, tall, wide = block.shape
        low = height - _TITLE - tall
        axis = figure.add_axes((left / width, low / height, wide / width, tall / height))
        pixels = np.broadcast_to(block, (3, tall, wide)).transpose(1, 2, 0)
        axis.imshow(pixels, interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(title, fontsize=9, loc="left", pad=4, parse_math=False)
        left += room + _MARGIN
    return figure


def comparison(named: Mapping[str, Tensor], dataset: Dataset | None) -> "Figure | None":
    """Returns `columns` of images or `panels` of vectors; None for more than two dimensions.

    Args:
        named: title -> samples, (n, *event); of images, the first hundred are shown.
        dataset: that of the vectors; not needed for images.
    """
    shape = next(iter(named.values())).shape[1:]
    if len(shape) == 3:
        return columns({title: images[:_MAX_IMAGES] for title, images in named.items()})
    if dataset is None or shape[0] > 2:
        return None
    return panels(named, dataset)


def _block(images: Tensor, across: int | None) -> np.ndarray:
    if images.ndim == 5:
        return grid(images.flatten(0, 1), images.shape[1])
    return grid(images, across)


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG, atomically.

    Raises:
        RunError: the file cannot be written.
    """
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    write_bytes(path, buffer.getvalue())


def save_samples_picture(
    path: Path, dataset: Dataset | None, drawn: Samples, method: str
) -> Path | None:
    """Writes a picture of data, smoothed samples and samples; None for more than two dimensions.

    Of images it is a grid of the first hundred samples, which needs no dataset.
    """
    if drawn.samples.ndim == 4:
        write_png(path, grid(drawn.samples[:_MAX_IMAGES]))
        return path
    if dataset is None or dataset.domain != "vector" or dataset.event_shape[0] > 2:
        return None
    named = {f"data: {Path(dataset.name).name}": dataset.test.head(len(drawn.samples))}
    if drawn.smoothed is not None:
        named["smoothed samples"] = drawn.smoothed
    named[method] = drawn.samples
    save(panels(named, dataset), path)
    return path


def _limits(samples: np.ndarray) -> list[tuple[float, float]]:
    """Returns the range of each coordinate of the first panel, with a quarter to spare."""
    low, high = samples.min(axis=0), samples.max(axis=0)
    margin = 0.15 * float((high - low).max()) or 1.0
    return [(float(a - margin), float(b + margin)) for a, b in zip(low, high, strict=True)]


def _points(
    axis: "Axes", samples: np.ndarray, limits: list[tuple[float, float]], dataset: Dataset
) -> None:
    del dataset
    x, y = samples[:_MAX_POINTS].T
    axis.scatter(x, y, s=1.2, alpha=0.5, color=_INK, linewidths=0)
    axis.set_xlim(*limits[0])
    axis.set_ylim(*limits[1])
    axis.set_aspect("equal")
    axis.tick_params(labelsize=7)


def _histogram(
    axis: "Axes", samples: np.ndarray, limits: list[tuple[float, float]], dataset: Dataset
) -> None:
    axis.hist(samples[:, 0], bins=100, range=limits[0], density=True, color=_INK, alpha=0.6)
    axis.set_xlim(*limits[0])
    axis.tick_params(labelsize=7)
    _true_density(axis, limits[0], dataset)


def _true_density(axis: Any, limits: tuple[float, float], dataset: Dataset) -> None:
    import torch

    ends = torch.tensor([[limits[0]], [limits[1]]])
    points = Grid.around(ends, 0.0, (limits[1] - limits[0]) / 800).points
    try:
        density = dataset.true_log_prob(points).exp()
    except NotAvailable:
        return
    axis.plot(points[:, 0], density, color=_TRUTH, linewidth=1, label="true density")
    axis.legend(fontsize=7, frameon=False)


def sigma_curves(
    sigmas: Sequence[float], curves: Mapping[str, Sequence[Sequence[float]]], truth: float
) -> "Figure":
    """Draws the bound over σ, one line a kernel with its spread over seeds.

    Args:
        sigmas: the standard deviations.
        curves: kernel -> for each σ, −bound in nats of every seed.
        truth: the true entropy in nats.
    """
    figure = _figure(figsize=(5.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for (kernel, values), marker in zip(curves.items(), "os^v", strict=False):
        bounds = -np.asarray(values)
        middle = bounds.mean(axis=1)
        spread = np.abs(np.stack([bounds.min(axis=1), bounds.max(axis=1)]) - middle)
        axis.errorbar(sigmas, middle, yerr=spread, marker=marker, capsize=2, label=kernel)
    axis.axhline(-truth, color=_TRUTH, linewidth=1, linestyle="--", label="−true entropy")
    axis.set_xscale("log")
    axis.set_xlabel("σ of the smoothing")
    axis.set_ylabel("bound on log p(x), nats")
    axis.legend(fontsize=8, frameon=False)
    return figure


def grid(images: Tensor, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Lays images out in rows, with gaps between them; small ones are enlarged.

    Args:
        images: (n, C, H, W) in [−1, 1], C 1 or 3.
        columns: images in a row; √n, rounded up, if None.
        gap: pixels between images, of the mean grey.

    Returns:
        Bytes, (C, height, width).

    Raises:
        UsageError: neither 1 nor 3 channels.
    """
    n, channels, height, width = images.shape
    if channels not in (1, 3):
        raise UsageError(f"A picture needs images of 1 or 3 channels, not {channels}.")
    across = columns or math.ceil(math.sqrt(n))
    factor = max(1, _SIDE // max(height, width))
    tiles = to_uint8(images).repeat(factor, axis=2).repeat(factor, axis=3)
    down, (tall, wide) = math.ceil(n / across), (factor * height + gap, factor * width + gap)
    canvas = np.full((channels, down * tall - gap, across * wide - gap), 128, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // across * tall, i % across * wide
        canvas[:, top : top + factor * height, left : left + factor * width] = tile
    return canvas


def neighbour_rows(samples: Tensor, neighbours: Tensor, gap: int = 2) -> np.ndarray:
    """Lays out samples left of a red line and the neighbours of each right of it (ARDS app. C.5).

    Args:
        samples: bytes (n, C, H, W), C 1 or 3.
        neighbours: bytes (n, k, C, H, W), the nearest first.
        gap: pixels between images.

    Returns:
        Bytes, (3, height, width): a row for each sample, enlarged as in `grid`.
    """
    left = grid(samples.float() / 127.5 - 1, 1, gap)
    right = grid(neighbours.flatten(0, 1).float() / 127.5 - 1, neighbours.shape[1], gap)
    line = np.full((3, left.shape[1], 3 * gap), 128, np.uint8)
    line[:, :, gap : 2 * gap] = np.array([255, 0, 0], np.uint8)[:, None, None]
    parts = [np.broadcast_to(part, (3, *part.shape[1:])) for part in (left, line, right)]
    return np.concatenate(parts, axis=2)


def _figure(**shape: Any) -> "Figure":
    """Returns an empty figure.

    Raises:
        NotAvailable: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotAvailable("Figures need matplotlib: run pip install matplotlib.") from error
    return Figure(**shape)
