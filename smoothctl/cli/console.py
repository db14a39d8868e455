"""What a person sees: results on stdout; notes, warnings and progress bars on stderr."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from rich.table import Table
from rich.text import Text

from smoothctl.processes import is_first

if TYPE_CHECKING:
    from smoothctl.metrics.scores import ProgressFor

__all__ = ["Notes", "print_json", "print_table", "work"]


def print_json(value: Any) -> None:
    """Prints a value as JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(table: Table) -> None:
    """Prints a table on stdout, at least 100 columns wide where stdout is no terminal."""
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(markup=False, width=max(100, console.width))
    console.print(table)


class RateColumn(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """Returns such as '412.0/s'."""
        return Text(
            "" if task.speed is None else f"{task.speed:.1f}/s", style="progress.data.speed"
        )


def _bar(console: Console, loss: bool) -> Progress:
    extra = [TextColumn("loss {task.fields[loss]:.4f}")] if loss else []
    return Progress(
        TextColumn("{task.description}"),
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
    """A `Reporter` for people: notes, and a progress bar where stderr is a terminal.

    Of several processes only the first speaks.

    Args:
        quiet: say nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        silent = quiet or not is_first()
        self.console = Console(stderr=True, quiet=silent, highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def start(self, title: str, step: int, total: int) -> None:
        """Opens the progress bar."""
        if self.console.is_terminal and not self.console.quiet:
            self._progress = _bar(self.console, loss=True)
            self._task = self._progress.add_task(title, total=total, completed=step, loss=0.0)
            self._progress.start()
        else:
            self.note(f"Fits the {title}, {total - step} steps.")

    def advance(self, step: int, loss: float) -> None:
        """Moves the progress bar."""
        if self._progress is not None and step % 10 == 0:
            self._progress.update(self._task, completed=step, loss=loss)

    def note(self, message: str) -> None:
        """Prints one sentence on stderr."""
        self.console.print(message, markup=False, soft_wrap=True)

    def finish(self) -> None:
        """Closes the progress bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


@contextmanager
def work(quiet: bool) -> Iterator["ProgressFor"]:
    """Yields a maker of (done, total) callbacks that share one progress display."""
    console = Console(stderr=True, quiet=quiet)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with _bar(console, loss=False) as progress:

        def begin(title: str) -> Callable[[int, int], None]:
            task = progress.add_task(title, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield begin
