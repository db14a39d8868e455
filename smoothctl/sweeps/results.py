"""What a sweep found: the trials of all seeds together, and what differs between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from smoothctl.runs.config import Unit
from smoothctl.sweeps.space import Axis, Choice, Range
from smoothctl.sweeps.trials import Trial

__all__ = ["Outcome", "axes_of", "lines_over", "outcomes"]

_SEED = "seed"


@dataclass(frozen=True)
class Outcome:
    """The trials that differ in nothing but their seeds.

    Args:
        over: what they try.
        trials: one for each seed.
    """

    over: Mapping[str, Any]
    trials: Sequence[Trial]

    @property
    def bounds(self) -> list[float]:
        """−log p(x) of the trials that are complete, in nats."""
        found = [trial.bound() for trial in self.trials if trial.state() == "complete"]
        return [bound for bound in found if bound is not None]


def outcomes(trials: Sequence[Trial]) -> list[Outcome]:
    """Returns what was found, the best first and what is not complete last.

    Raises:
        RunError: a stage is damaged.
    """
    together: dict[str, list[Trial]] = {}
    for trial in trials:
        together.setdefault(repr(_but_seed(trial)), []).append(trial)
    found = [Outcome(_but_seed(those[0]), those) for those in together.values()]
    return sorted(found, key=lambda each: mean(each.bounds) if each.bounds else float("inf"))


def axes_of(trials: Sequence[Trial]) -> list[Axis]:
    """Returns an axis for each setting that the trials differ in, seeds aside."""
    settings = [_but_seed(trial) for trial in trials]
    keys = dict.fromkeys(key for over in settings for key in over)
    return [_axis(key, [over[key] for over in settings if key in over]) for key in keys]


def _axis(key: str, values: Sequence[Any]) -> Axis:
    different = sorted(dict.fromkeys(values), key=repr)
    numbers = [value for value in different if type(value) in (int, float)]
    if len(numbers) == len(different) > 1:
        whole = all(type(value) is int for value in numbers)
        return Range(key, min(numbers), max(numbers), whole)
    return Choice(key, tuple(different))


def _but_seed(trial: Trial) -> dict[str, Any]:
    return {key: value for key, value in trial.over.items() if key != _SEED}


def lines_over(
    trials: Sequence[Trial], unit: Unit
) -> dict[str, dict[str, dict[float, list[float]]]]:
    """Returns the bounds by each setting that is a number, for a picture.

    Args:
        trials: of the sweep; those that are complete count.
        unit: that the bounds shall be in.

    Returns:
        setting -> line, told by the settings that are no numbers -> value -> −log p of each trial.
    """
    complete = [trial for trial in trials if trial.state() == "complete"]
    axes = axes_of(complete)
    words = [axis.key for axis in axes if isinstance(axis, Choice) and len(axis.values) > 1]
    return {
        axis.key: _lines(axis.key, words, complete, unit)
        for axis in axes
        if isinstance(axis, Range)
    }


def _lines(
    key: str, words: Sequence[str], trials: Sequence[Trial], unit: Unit
) -> dict[str, dict[float, list[float]]]:
    lines: dict[str, dict[float, list[float]]] = {}
    for trial in trials:
        if (bound := trial.bound()) is not None:
            line = ", ".join(str(trial.over[word]) for word in words)
            values = lines.setdefault(line, {}).setdefault(trial.over[key], [])
            values.append(bound * unit.per_nat)
    return lines
