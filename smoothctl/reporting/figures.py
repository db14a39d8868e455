"""Figures: one- and two-dimensional samples, blocks of images, and curves; as PNG or as SVG."""

import base64
import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from smoothctl.datasets.base import Dataset
from smoothctl.datasets.pictures import png, to_uint8, write_png
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.sampling.draw import Samples
from smoothctl.storage.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Frame",
    "bound_curves",
    "columns",
    "comparison",
    "curves",
    "grid",
    "img",
    "lines",
    "neighbour_rows",
    "panel",
    "panels",
    "save",
    "save_samples_picture",
    "svg",
]

Point = tuple[float, float]
Range = tuple[float, float]

_INK, _TRUTH, _RULE, _TEXT = "#1f4e79", "#c0392b", "#b0b0b0", "#000000"
_INKS = {_INK: "first", _TRUTH: "second", _RULE: "rule", _TEXT: "soft"}
"""Colour of a figure -> variable of the page's style."""

_OUTLIERS = 0.002
"""Share of points at each end that a frame may leave out."""

_MAX_POINTS, _MAX_IMAGES, _MAX_STEPS = 5000, 100, 400
_BINS = 90
_DPI = 120
_SIDE = 64
"""Grids enlarge smaller images to about this many pixels, so that a person sees them."""
_TITLE, _MARGIN, _LETTER = 36, 10, 8
"""Pixels above and beside the blocks of images, and those that a letter of a title may take."""


@dataclass(frozen=True)
class Frame:
    """The axes that panels of one- or two-dimensional samples share.

    Args:
        x: range of the first coordinate.
        y: range of the second one, or of the density of one-dimensional samples.
        truth: points (n, 2) of the true density; none where it is not known.
    """

    x: Range
    y: Range
    truth: np.ndarray

    @classmethod
    def around(cls, named: Mapping[str, Tensor], dataset: Dataset | None) -> "Frame":
        """Returns the frame around the bulk of the first of several sets, with room at its ends.

        Args:
            named: title -> samples, (n, D), D 1 or 2.
            dataset: gives the true density for 1-d data, where it is known.
        """
        arrays = [_array(samples) for samples in named.values()]
        finite = arrays[0][np.isfinite(arrays[0]).all(axis=1)]
        if not len(finite):
            finite = np.zeros((1, arrays[0].shape[1]))
        low, high = np.quantile(finite, [_OUTLIERS, 1 - _OUTLIERS], axis=0)
        room = 0.15 * float((high - low).max()) or 1.0
        x, *others = [(float(a - room), float(b + room)) for a, b in zip(low, high, strict=True)]
        if others:
            return cls(x, others[0], np.empty((0, 2)))
        truth = _true_density(dataset, x)
        heights = [truth[:, 1]] if len(truth) else [_density(array, x)[0] for array in arrays]
        return cls(x, (0.0, 1.3 * max(float(h.max()) for h in heights) or 1.0), truth)

    def height(self, width: float, dims: int) -> float:
        """Returns how high a panel of a width is: equal units for points."""
        return width * ((self.y[1] - self.y[0]) / (self.x[1] - self.x[0]) if dims > 1 else 0.65)

    def paint(self, axis: "Axes", samples: Tensor, truth: bool = True) -> None:
        """Draws samples as points, or as a histogram with the true density.

        Args:
            axis: empty.
            samples: (n, D), D 1 or 2; what is outside the frame or not finite is not shown.
            truth: draw the true density where it is known.
        """
        array = _array(samples)
        if array.shape[1] == 2:
            x, y = array[:_MAX_POINTS].T
            axis.scatter(x, y, s=1.2, alpha=0.5, color=_INK, linewidths=0, rasterized=True)
            axis.set_aspect("equal")
        else:
            axis.stairs(*_density(array, self.x), fill=True, color=_INK, alpha=0.6)
        if truth and len(self.truth):
            axis.plot(*self.truth.T, color=_TRUTH, linewidth=1, label="true density")
            axis.legend(fontsize=7, frameon=False, loc="upper right")
        axis.set_xlim(*self.x)
        axis.set_ylim(*self.y)
        axis.tick_params(labelsize=7)


def panels(named: Mapping[str, Tensor], dataset: Dataset) -> "Figure":
    """Draws one panel for each set of samples, all on the same axes and of equally many.

    Args:
        named: title -> samples, (n, D) with D = 1 (histograms) or 2 (points).
        dataset: gives the true density for 1-d data, where it is known.

    Returns:
        The figure.
    """
    fewest = min(map(len, named.values()))
    named = {title: samples[:fewest] for title, samples in named.items()}
    frame = Frame.around(named, dataset)
    height = 0.5 + frame.height(2.9, dataset.event_shape[0])
    figure = _figure(figsize=(3.1 * len(named), height), layout="constrained")
    axes = figure.subplots(1, len(named), squeeze=False)[0]
    for axis, (title, samples) in zip(axes, named.items(), strict=True):
        axis.set_title(title, fontsize=10, parse_math=False)
        frame.paint(axis, samples)
    return figure


def panel(samples: Tensor, frame: Frame, truth: bool = True) -> "Figure":
    """Draws one panel for a page, without a title; see `Frame.paint`."""
    height = 0.2 + frame.height(2.4, samples.shape[1])
    figure = _figure(figsize=(2.6, min(max(height, 0.8), 4)), layout="constrained")
    frame.paint(figure.subplots(), samples, truth)
    return figure


def curves(series: Mapping[str, Sequence[Point]], unit: str) -> "Figure":
    """Draws losses over steps; the vertical range suits most of them, not the first steps.

    Args:
        series: "loss", "validation" or both -> (step, value), finite and in order; none is empty.
        unit: what the values are in.
    """
    figure = _figure(figsize=(2.9, 1.9), layout="constrained")
    axis = figure.subplots()
    for name, line in series.items():
        colour, width = (_INK, 0.6) if name == "loss" else (_TRUTH, 1.3)
        axis.plot(*np.array(_thinned(line)).T, label=name, color=colour, linewidth=width)
    values = np.array([value for line in series.values() for _, value in line])
    low, high = float(values.min()), float(np.quantile(values, 0.93))
    room = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
    axis.set_ylim(low - room, high + room)
    axis.margins(x=0)
    axis.set_xlabel("step", fontsize=7)
    axis.set_ylabel(unit, fontsize=7)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.98))
    return figure


def lines(panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]) -> "Figure":
    """Draws one panel for each title, with a line for each label.

    Args:
        panels: title -> label -> the line's (x, y).
    """
    figure = _figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, named) in zip(axes, panels.items(), strict=True):
        axis.set_title(title, fontsize=10, parse_math=False)
        for label, (x, y) in named.items():
            axis.plot(x, y, label=label, linewidth=1.2)
        axis.margins(x=0)
        axis.legend(fontsize=8, frameon=False)
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
    """Returns `columns` of images, or `panels` of vectors beside the data; None for more than 2-d.

    Args:
        named: title -> samples, (n, *event); of images, the first hundred are shown.
        dataset: that of the vectors; not needed for images.
    """
    shape = next(iter(named.values())).shape[1:]
    if len(shape) == 3:
        return columns({title: images[:_MAX_IMAGES] for title, images in named.items()})
    if dataset is None or shape[0] > 2:
        return None
    return panels({**_data(dataset, len(next(iter(named.values())))), **named}, dataset)


def _data(dataset: Dataset, n: int) -> dict[str, Tensor]:
    """Returns the first test examples under their title."""
    return {f"data: {Path(dataset.name).name}": dataset.test.head(n)}


def _block(images: Tensor, across: int | None) -> np.ndarray:
    if images.ndim == 5:
        return grid(images.flatten(0, 1), images.shape[1])
    return grid(images, across)


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG, atomically.

    Raises:
        RunError: the file cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    write_bytes(path, buffer.getvalue())


def svg(figure: "Figure", description: str) -> str:
    """Returns a figure as SVG for a page, in the page's own ink: the same bytes each time.

    Points stay a picture. The page must have the colours --first, --second, --rule and --soft.

    Args:
        figure: what to draw; its axes get a grid.
        description: in words, for those who don't see it; another for each figure of a page.
    """
    from matplotlib import rc_context

    for axis in figure.axes:
        axis.grid(linewidth=0.5, color=_RULE)
        axis.set_axisbelow(True)
        axis.tick_params(bottom=False, left=False)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", dpi=_DPI, transparent=True, metadata=nothing)
    text = re.sub(r"<style.*?</style>|font-family: [^;]*; ", "", buffer.getvalue())
    text = re.sub(r' id="[\w.]+_\d+"', "", text).replace("xlink:href", "href")
    for colour, ink in _INKS.items():
        text = text.replace(colour, f"var(--{ink})")
    box, body = re.findall(r'<svg .*(viewBox="[^"]*").*?>(.*)', text, re.DOTALL)[0]
    label = html.escape(description)
    return f'<svg {box} role="img" aria-label="{label}">' + " ".join(body.split())


def img(pixels: np.ndarray, description: str) -> str:
    """Returns bytes (C, H, W), C 1 or 3, as an element of a page that holds them all.

    Args:
        pixels: as `grid` lays images out.
        description: in words, for those who don't see it.
    """
    address = f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
    _, height, width = pixels.shape
    alt = html.escape(description)
    return f'<img src="{address}" width="{width}" height="{height}" alt="{alt}">'


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
    named = _data(dataset, len(drawn.samples))
    if drawn.smoothed is not None:
        named["smoothed samples"] = drawn.smoothed
    named[method] = drawn.samples
    save(panels(named, dataset), path)
    return path


def bound_curves(
    axes: Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]],
    truth: float | None,
    shares: Mapping[str, float] | None = None,
    unit: str = "nats",
) -> "Figure":
    """Draws the bound over settings, one line each of what else differs, with its spread.

    Args:
        axes: setting -> line -> value of the setting -> −bound of each trial.
        truth: the true entropy, in the same unit; None: it is not known.
        shares: how much each setting matters; as bars.
        unit: of the bound.
    """
    number = len(axes) + bool(shares)
    figure = _figure(figsize=(1 + 4.5 * number, 3.6), layout="constrained")
    panels = figure.subplots(1, number, squeeze=False)[0]
    for axis, (setting, lines) in zip(panels, axes.items(), strict=False):
        for (line, values), marker in zip(lines.items(), cycle("os^vDP")):
            _line(axis, dict(sorted(values.items())), line, marker)
        if truth is not None:
            axis.axhline(-truth, color=_TRUTH, linewidth=1, linestyle="--", label="−true entropy")
        if min(value for values in lines.values() for value in values) > 0:
            axis.set_xscale("log")
        axis.set_xlabel(setting)
        axis.set_ylabel(f"bound on log p(x), {unit}")
        if any(lines) or truth is not None:
            axis.legend(fontsize=8, frameon=False)
    if shares:
        panels[-1].barh(list(shares), list(shares.values()), color=_INK)
        panels[-1].invert_yaxis()
        panels[-1].set_xlabel("importance (PED-ANOVA)")
    return figure


def _line(axis: "Axes", values: Mapping[float, Sequence[float]], label: str, marker: str) -> None:
    """Draws −value by setting: the mean, and the least and the greatest as bars."""
    middle = np.array([-np.mean(each) for each in values.values()])
    ends = np.array([[-max(each), -min(each)] for each in values.values()]).T
    bars = np.abs(ends - middle)
    axis.errorbar(list(values), middle, yerr=bars, marker=marker, capsize=2, label=label or None)


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


def _array(samples: Tensor) -> np.ndarray:
    return samples.detach().cpu().double().numpy()


def _density(samples: np.ndarray, limits: Range) -> tuple[np.ndarray, np.ndarray]:
    """Returns the heights of a histogram and the edges of its bins."""
    counts, edges = np.histogram(samples[np.isfinite(samples)], _BINS, limits)
    return counts / (max(len(samples), 1) * (edges[1] - edges[0])), edges


def _true_density(dataset: Dataset | None, limits: Range) -> np.ndarray:
    """Returns points (n, 2) of the true density; none where it is not known."""
    x = torch.linspace(*limits, 400, dtype=torch.float64)
    try:
        density = x[:0] if dataset is None else dataset.true_log_prob(x[:, None]).exp().double()
    except NotAvailable:
        density = x[:0]
    return torch.stack([x[: len(density)], density], 1).numpy()


def _thinned(line: Sequence[Point]) -> list[np.ndarray]:
    """Returns means of neighbouring points where there are more than a chart can show."""
    every = math.ceil(len(line) / _MAX_STEPS)
    return [np.mean(line[i : i + every], axis=0) for i in range(0, len(line), every)]
