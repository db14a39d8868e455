"""Small charts and pictures for a page: geometry for inline SVG, and PNG as data: addresses."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Chart", "Image", "curves", "histogram", "picture", "png", "points", "ticks"]

Point = tuple[float, float]
Range = tuple[float, float]

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 8, 36
_INK = (64, 125, 186)
"""Of points: the one colour that can be told from a white and from a dark page."""

_PIXELS = 480
_BLOT = [(0, 0), (0, 1), (1, 0), (1, 1), (0, -1), (-1, 0)]
"""The pixels that a point covers, as shifts."""

_MOST_POINTS = 400


@dataclass(frozen=True)
class Image:
    """A picture that is part of the page: a data: address, and its size on the screen."""

    address: str
    width: int
    height: int


@dataclass(frozen=True)
class Chart:
    """What a template needs to draw a chart; all lengths are in units of its view box.

    Args:
        width: of the view box.
        height: of the view box.
        frame: left, top, width and height of the area that the axes enclose.
        x_ticks: places along the bottom, and their labels.
        y_ticks: places along the left, and their labels.
        x_label: below.
        y_label: above the left axis.
        lines: name -> path data.
        fill: path data of a filled shape; empty for none.
        picture: address of a picture that fills the frame; empty for none.
        description: in words, for those who don't see it.
    """

    width: int
    height: int
    frame: tuple[int, int, int, int]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    x_label: str
    y_label: str
    lines: dict[str, str]
    fill: str = ""
    picture: str = ""
    description: str = ""


def curves(series: Mapping[str, Sequence[Point]], x_label: str, y_label: str) -> Chart:
    """Returns a line chart whose vertical range suits most of the points, not the first steps.

    Args:
        series: name -> points, finite and in order; one at least is not empty.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
    """
    every = np.array([point for line in series.values() for point in line])
    x_range = _with_room((float(every[:, 0].min()), float(every[:, 0].max())), 0.0)
    y_range = _with_room((float(every[:, 1].min()), float(np.quantile(every[:, 1], 0.93))), 0.06)
    chart = _frame(x_range, y_range, x_label, y_label, _WIDTH, _HEIGHT)
    lines = {name: _path(chart, _thinned(line), x_range, y_range) for name, line in series.items()}
    ends = "; ".join(f"{name} ends at {line[-1][1]:.4g}" for name, line in series.items() if line)
    return replace(chart, lines=lines, description=f"{y_label} over {x_label}: {ends}.")


def points(samples: np.ndarray, x_range: Range, y_range: Range, what: str) -> Chart:
    """Returns a scatter chart of (n, 2) samples, its points as one picture.

    Args:
        samples: the points; those outside the ranges are not shown.
        x_range: of the horizontal axis.
        y_range: of the vertical axis.
        what: the samples are of, for the description.
    """
    inside = samples[np.isfinite(samples).all(axis=1)]
    ratio = (y_range[1] - y_range[0]) / (x_range[1] - x_range[0])
    inner = 250
    tall = round(min(max(inner * ratio, 60), 400))
    width, height = inner + _LEFT + _RIGHT, tall + _TOP + 22
    chart = _frame(x_range, y_range, "", "", width, height, bottom=22)
    bins = (round(_PIXELS * tall / inner), _PIXELS)
    counts = np.histogram2d(inside[:, 1], inside[:, 0], bins, (y_range, x_range))[0][::-1]
    blots = sum(np.roll(counts, shift, (0, 1)) for shift in _BLOT)
    alpha = np.round(255 * (1 - 0.35**blots)).astype(np.uint8)
    ink = np.broadcast_to(np.array(_INK, np.uint8), (*alpha.shape, 3))
    address = png(np.dstack([ink, alpha]))
    return replace(chart, picture=address, description=f"{len(samples)} points: {what}.")


def histogram(
    samples: np.ndarray, x_range: Range, y_range: Range, truth: Sequence[Point], what: str
) -> Chart:
    """Returns the density of (n,) samples as bars, and a true density as a line.

    Args:
        samples: the values; those outside the range are not shown.
        x_range: of the horizontal axis.
        y_range: of the vertical axis.
        truth: points of the true density; none if it is not known.
        what: the samples are of, for the description.
    """
    chart = _frame(x_range, y_range, "", "", 300, 190, bottom=22)
    counts, edges = np.histogram(samples[np.isfinite(samples)], bins=90, range=x_range)
    heights = counts / (max(len(samples), 1) * (edges[1] - edges[0]))
    steps = [(edges[0], 0.0)]
    for height, left, right in zip(heights, edges[:-1], edges[1:], strict=True):
        steps += [(left, height), (right, height)]
    fill = _path(chart, [*steps, (edges[-1], 0.0)], x_range, y_range) + "Z"
    lines = {"true density": _path(chart, truth, x_range, y_range)} if truth else {}
    description = f"Histogram of {len(samples)} values: {what}."
    return replace(chart, fill=fill, lines=lines, description=description)


def picture(pixels: np.ndarray) -> Image:
    """Returns a picture of bytes (C, H, W), C 1 or 3, as `pictures.grid` lays images out."""
    channels, height, width = pixels.shape
    return Image(png(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)), width, height)


def png(pixels: np.ndarray) -> str:
    """Returns the data: address of bytes (H, W), (H, W, 3) or (H, W, 4)."""
    from PIL import Image as Pictures

    buffer = io.BytesIO()
    Pictures.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Returns round numbers within a range: steps of 1, 2 or 5 times a power of ten."""
    rough = max((high - low) / most, 1e-100)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _frame(
    x_range: Range,
    y_range: Range,
    x_label: str,
    y_label: str,
    width: int,
    height: int,
    bottom: int = _BOTTOM,
) -> Chart:
    top = _TOP + 14 * bool(y_label)
    frame = (_LEFT, top, width - _LEFT - _RIGHT, height - top - bottom)
    chart = Chart(width, height, frame, [], [], x_label, y_label, {})
    across, up = ticks(*x_range), ticks(*y_range)
    return replace(
        chart,
        x_ticks=[(_x(chart, v, x_range), _label(v)) for v in across],
        y_ticks=[(_y(chart, v, y_range), _label(v)) for v in up],
    )


def _label(value: float) -> str:
    return f"{value:,.10g}".replace(",", " ").replace("-", "−")


def _x(chart: Chart, value: float, limits: Range) -> float:
    left, _, width, _ = chart.frame
    return round(left + width * (value - limits[0]) / (limits[1] - limits[0]), 1)


def _y(chart: Chart, value: float, limits: Range) -> float:
    """Returns the height of a value; what lies far outside stays near, for short numbers."""
    _, top, _, height = chart.frame
    place = height * (limits[1] - value) / (limits[1] - limits[0])
    return round(top + min(max(place, -4 * height), 5 * height), 1)


def _path(chart: Chart, line: Sequence[Point], x_range: Range, y_range: Range) -> str:
    places = [f"{_x(chart, x, x_range):g},{_y(chart, y, y_range):g}" for x, y in line]
    return f"M{'L'.join(places)}" if places else ""


def _thinned(line: Sequence[Point]) -> Sequence[Point]:
    """Returns means of neighbouring points where there are more than a chart can show."""
    every = math.ceil(len(line) / _MOST_POINTS)
    if every < 2:
        return line
    parts = [np.mean(line[i : i + every], axis=0) for i in range(0, len(line), every)]
    return [(float(x), float(y)) for x, y in parts]


def _with_room(limits: Range, share: float) -> Range:
    """Returns a range with room at both ends, and never an empty one."""
    low, high = limits
    if not high > low:
        spare = abs(low) * 0.1 or 1.0
        return low - spare, high + spare
    return low - share * (high - low), high + share * (high - low)
