"""One self-contained HTML page of a run: settings, curves, samples, scores, commands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from smoothctl import __version__
from smoothctl.architectures.base import Progress
from smoothctl.errors import SmoothctlError
from smoothctl.evaluation import Cell, Column, Entry, latest, scores_table, shown
from smoothctl.evaluation.records import read_scores
from smoothctl.reporting.samples import Pictures, pictures_of
from smoothctl.reporting.stages import StageView, decimals, stage_views
from smoothctl.runs.commands import report_command, sample_command, score_command, shell
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import is_image_run
from smoothctl.storage.files import write_bytes

__all__ = ["NUMBERS", "report", "write_report"]

NUMBERS = {"image": 36, "vector": 2000}
"""Samples of each method on the page, by domain."""

_TEMPLATE = files("smoothctl.reporting") / "report.html"
_KINDS = ("likelihood", "samples", "quality")


@dataclass
class View:
    """Everything that the template is given."""

    run: Run
    number: int
    seed: int
    missing: list[str] = field(default_factory=list)
    stages: list[StageView] = field(default_factory=list)
    pictures: Pictures = field(default_factory=Pictures)
    no_scores: str = ""
    entries: list[Entry] = field(default_factory=list)


def report(
    run: Run,
    *,
    number: int | None = None,
    seed: int = 0,
    samples: bool = True,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> str:
    """Returns the page; the same run and seed give the same bytes.

    What is missing is said on the page: stages, scores, data that are gone.

    Args:
        run: an opened run.
        number: samples of each method; `NUMBERS` of its domain if None.
        seed: determines the samples.
        samples: draw samples.
        progress: told (done, total) of drawing.
        note: told what the page says to be missing.
    """
    domain = "image" if is_image_run(run) else "vector"
    view = View(run, number or NUMBERS[domain], seed)
    view.stages = stage_views(run, view.missing)
    view.entries, view.no_scores = _entries(run)
    view.missing += [view.no_scores] * bool(view.no_scores)
    if samples:
        view.pictures = pictures_of(run, view.number, seed, view.missing, progress)
    else:
        view.pictures = Pictures(reason="No samples were asked for.")
    for sentence in view.missing:
        note(sentence)
    return _render(view)


def write_report(run: Run, path: Path, **how: Any) -> None:
    """Writes `report` into a file, atomically.

    Args:
        run: an opened run.
        path: an .html file.
        how: see `report`.

    Raises:
        RunError: the file cannot be written.
    """
    write_bytes(path, report(run, **how).encode("utf-8", "replace"))


def _entries(run: Run) -> tuple[list[Entry], str]:
    """Returns the run's scores, or why there are none."""
    try:
        entries = read_scores(run.path)
    except SmoothctlError as error:
        return [], str(error)
    return entries, "" if entries else f"No scores yet: smoothctl score {run.path} makes them."


def _render(view: View) -> str:
    from jinja2 import ChainableUndefined, Environment

    newest = {kind: entry for kind in _KINDS if (entry := latest(view.entries, kind)) is not None}
    environment = Environment(
        autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        view=view,
        title=view.run.path.name or view.run.path.absolute().name,
        config=view.stages[0].config,
        smoothed=next((s.config for s in view.stages if s.config.kernel is not None), None),
        shape=" × ".join(map(str, view.stages[0].config.event_shape)),
        newest=newest,
        table=scores_table(view.entries),
        shown=_cell,
        number=decimals,
        summary=_summary,
        reasons=_reasons(newest),
        commands=_commands(view, newest),
        fitted_with=sorted({stage.made_with for stage in view.stages}),
        versions={"smoothctl": __version__, "torch": version("torch")},
    )


def _cell(cell: Cell, column: Column, strong: Callable[[str], str]) -> str:
    """Returns `shown`, the best in bold: `strong` escapes its text, as the template does others."""
    text = shown(replace(cell, best=False), column)
    return strong(text) if cell.best else text


def _summary(entry: Entry) -> str:
    """Returns an entry's main figures in a line."""
    table = scores_table([entry])
    parts = []
    for row in table.rows:
        if row.kind == "measured":
            said = [
                f"{column.heading} {shown(row.cells[column.key], column)}"
                for column in table.columns
                if column.key in row.cells
            ]
            parts.append(f"{row.model}: {', '.join(said)}")
    return "; ".join(parts)


def _reasons(newest: Mapping[str, Entry]) -> dict[str, str]:
    """Returns what the newest scores say to be not available, and why."""
    found: dict[str, str] = {}
    for entry in newest.values():
        reasons = entry.get("not_available")
        found |= {str(k): str(v) for k, v in (reasons if isinstance(reasons, dict) else {}).items()}
    return found


def _commands(view: View, newest: Mapping[str, Entry]) -> list[tuple[str, str]]:
    run, drawing = view.run, (view.number, view.seed, view.run.weights)
    scored: list[Entry | None] = [*{id(entry): entry for entry in newest.values()}.values()]
    return [
        *((f"Fit the {stage.name}", stage.command) for stage in view.stages),
        *(("Score", shell(score_command(run.path, entry))) for entry in scored or [None]),
        ("Draw samples", shell(sample_command(run.path, *drawing))),
        ("Write this page", shell(report_command(run.path, *drawing))),
    ]
