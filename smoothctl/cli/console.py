"""What a person sees: results on stdout; notes, warnings and progress bars on stderr."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from smoothctl.distributed.processes import is_first
from smoothctl.errors import escaped
from smoothctl.reporting.flags import with_flags
from smoothctl.reporting.tables import duration, say

if TYPE_CHECKING:
    from torch import Tensor

    from smoothctl.evaluation.scores import ProgressFor
    from smoothctl.training.reporter import Plan

__all__ = ["Notes", "print_json"]

_REDRAW, _FIRST, _OFTEN, _EVERY = 0.25, 4.0, 15.0, 60.0
"""Seconds: between updates of a bar; until the time that a fit takes is told; at least between
lines of validations, and at most between any lines."""


def print_json(value: Any) -> None:
    """Prints a value as JSON on stdout."""
    say(*json.dumps(value, indent=2, ensure_ascii=False).split("\n"))


class RateColumn(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """Returns such as '412.0/s'."""
        return Text(
            "" if task.speed is None else f"{task.speed:.1f}/s", style="progress.data.speed"
        )


def _bar(console: Console, loss: bool) -> Progress:
    extra = [TextColumn("{task.fields[loss]}", markup=False)] if loss else []
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        *extra,
        console=console,
        transient=True,
        refresh_per_second=4,
    )


class Notes:
    """A `Reporter` for people: notes, and a progress bar in terminals and notebooks.

    Elsewhere, and in notebooks without ipywidgets, it says every now and then how far the fit is.
    Of several processes only the first speaks.

    Args:
        quiet: say nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        silent = quiet or not is_first()
        self.console = Console(stderr=True, quiet=silent, highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def start(self, plan: "Plan") -> None:
        """Says what is going to happen, and opens the progress bar."""
        self.note(str(plan))
        self._plan, self._foretold, self._held_out = plan, False, ""
        self._begun = self._said = self._drawn = time.monotonic()
        if self._has_bars:
            self._progress = _bar(self.console, loss=True)
            title = escaped(plan.title.partition(" ")[0])
            self._task = self._progress.add_task(
                title, total=plan.steps, completed=plan.done, loss=""
            )
            self._progress.start()

    def advance(self, step: int, loss: float) -> None:
        """Moves the progress bar; says once how long it will take, and later how far it is."""
        now = time.monotonic()
        if self._progress is not None and now - self._drawn > _REDRAW:
            self._drawn = now
            shown = f"loss {self._plan.unit.text(loss)}{self._held_out}"
            self._progress.update(self._task, completed=step, loss=shown)
        left = (now - self._begun) / (step - self._plan.done) * (self._plan.steps - step)
        if not self._foretold and now - self._begun > _FIRST and left > _FIRST:
            self._foretold = True
            self.note(f"It will take about {duration(left)}.")
        if self._progress is None and now - self._said > _EVERY:
            self._said = now
            said = f"{self._where(step)}, loss {self._plan.unit.text(loss)}"
            self.note(f"{said}; about {duration(left)} to go.")

    def validated(self, step: int, loss: float, gain: float | None) -> None:
        """Shows the held-out loss and the gain from x̃."""
        unit = self._plan.unit
        shown = f"validation {unit.text(loss)}"
        if gain is not None:
            shown += f", gain from x̃ {unit.text(gain)}"
        self._held_out = f", {shown}"
        now, last = time.monotonic(), step == self._plan.steps
        if self._progress is None and now - self._said > (_FIRST if last else _OFTEN):
            self._said = now
            self.note(f"{self._where(step)}: {shown}.")

    def previewed(self, step: int, samples: "Tensor") -> None:
        """Says nothing: they are in the stage's folder."""

    @property
    def _has_bars(self) -> bool:
        """Whether stderr is a terminal, or a notebook that can draw, and is to be written to."""
        notebook = self.console.is_jupyter and find_spec("ipywidgets") is not None
        return (self.console.is_terminal or notebook) and not self.console.quiet

    def _where(self, step: int) -> str:
        return f"Step {step:,} of {self._plan.steps:,}"

    def note(self, message: str) -> None:
        """Prints one sentence on stderr."""
        said = escaped(with_flags(message))
        self.console.print(said, markup=False, emoji=False, soft_wrap=True)

    def finish(self) -> None:
        """Closes the progress bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    @contextmanager
    def work(self) -> Iterator["ProgressFor"]:
        """Yields a maker of (done, total) callbacks that share one progress display."""
        if not self._has_bars:
            yield lambda _: None
            return
        with _bar(self.console, loss=False) as progress:

            def begin(title: str) -> Callable[[int, int], None]:
                task = progress.add_task(escaped(title), total=None)
                return lambda done, total: progress.update(task, completed=done, total=total)

            yield begin
