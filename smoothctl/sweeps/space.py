"""What a sweep goes over: one axis for each setting, all their combinations, and draws of them."""

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smoothctl.config import parse_value
from smoothctl.errors import UsageError

__all__ = ["Axis", "Choice", "Range", "combinations", "draw", "parse_axis"]

_DIGITS = 3
"""Significant digits of what a range gives, so that a person can type it again."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_NO_AXIS = {"dataset", "out", "device", "init_from", "overwrite"}
"""What all trials share, or what their bounds could not be compared over."""


@dataclass(frozen=True)
class Choice:
    """A setting that takes one of some values.

    Args:
        key: the setting, as --set or a flag names it.
        values: those that were named.
    """

    key: str
    values: tuple[Any, ...]

    def grid(self, points: int) -> list[Any]:
        """Returns all values."""
        return list(self.values)

    def at(self, share: float) -> Any:
        """Returns the value that lies so far, 0 ≤ share < 1, along the axis."""
        return self.values[int(share * len(self.values))]

    def holds(self, value: Any) -> bool:
        """Returns whether a value is one of them."""
        return repr(value) in map(repr, self.values)  # 1 is not true


@dataclass(frozen=True)
class Range:
    """A setting that takes any number from a range, on a logarithmic scale where all are positive.

    Args:
        key: the setting, as --set or a flag names it.
        low: the least value.
        high: the greatest value.
        whole: whether it takes whole numbers alone.
    """

    key: str
    low: float
    high: float
    whole: bool

    @property
    def logarithmic(self) -> bool:
        """Whether equal factors, and not equal steps, count as equally far."""
        return self.low > 0

    def grid(self, points: int) -> list[Any]:
        """Returns so many values from end to end, or fewer whole numbers."""
        return list(dict.fromkeys(self.at(i / max(1, points - 1)) for i in range(points)))

    def at(self, share: float) -> Any:
        """Returns the value that lies so far, 0 ≤ share ≤ 1, along the axis."""
        if self.logarithmic:
            value = math.exp((1 - share) * math.log(self.low) + share * math.log(self.high))
        else:
            value = (1 - share) * self.low + share * self.high
        return self.rounded(value)

    def holds(self, value: Any) -> bool:
        """Returns whether a value is a number of the range."""
        number = type(value) is int or (type(value) is float and not self.whole)
        return number and self.low <= value <= self.high

    def rounded(self, value: float) -> float | int:
        """Returns a number of the range with as few digits as a person types."""
        few = round(value) if self.whole else float(f"{value:.{_DIGITS}g}")
        return few if self.holds(few) else min(self.high, max(self.low, value))


Axis = Choice | Range


def parse_axis(text: str) -> Axis:
    """Reads KEY=VALUE,VALUE,… or KEY=LOW..HIGH.

    Raises:
        UsageError: neither, the same value twice, or a setting that no sweep can go over.
    """
    key, equals, right = text.partition("=")
    if not equals or not key or not right:
        raise UsageError(f"--over takes KEY=VALUE,VALUE or KEY=LOW..HIGH, not '{text:.80}'.")
    key = key.replace("-", "_")
    if key in _NO_AXIS or key.startswith("data."):
        raise UsageError(f"--over {key}: a sweep has one {key.partition('.')[0]} for all trials.")
    if (ends := _RANGE.fullmatch(right)) is not None:
        return _range(key, *ends.groups())
    values = tuple(parse_value(part.strip()) for part in right.split(","))
    if len({repr(value) for value in values}) < len(values) or "" in values:
        raise UsageError(f"--over {key} takes different values, not '{right:.80}'.")
    return Choice(key, values)


def _range(key: str, low: str, high: str) -> Range:
    first, last = float(low), float(high)
    if not -math.inf < first < last < math.inf:
        raise UsageError(f"--over {key} goes from a lower to a higher number, not {low}..{high}.")
    whole = all(re.fullmatch(r"[-+]?\d+", end) for end in (low, high))
    return Range(key, first, last, whole)


def combinations(axes: Sequence[Axis], points: int) -> Iterator[dict[str, Any]]:
    """Yields every combination of the axes' values; the last axis goes fastest.

    Args:
        axes: of different settings.
        points: how many values stand for a range.
    """
    keys = [axis.key for axis in axes]
    for values in itertools.product(*(axis.grid(points) for axis in axes)):
        yield dict(zip(keys, values, strict=True))


def draw(axes: Sequence[Axis], seed: int, number: int) -> Mapping[str, Any]:
    """Returns the settings of a random trial, the same whoever draws them.

    Args:
        axes: of different settings.
        seed: of the sweep.
        number: of the trial.
    """
    dice = random.Random(f"{seed} {number}")  # noqa: S311, no secret
    return {axis.key: axis.at(dice.random()) for axis in axes}
