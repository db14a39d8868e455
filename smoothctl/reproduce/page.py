"""What was found, as tables and as a page of Markdown: every claim beside the published figure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import NamedTuple

from smoothctl.reporting.tables import Bold, Table, decimals, duration, left, markdown, right
from smoothctl.reproduce.base import Experiment, Result

__all__ = ["Stored", "cost", "page", "result_table"]

_INTRODUCTION = """# Reproduced results

Written by `smoothctl reproduce --markdown`: every figure is what the command above its table
measured, mean over the seeds ± half their range. A claim that is refuted is a result.
"""


class Stored(NamedTuple):
    """An experiment and what it found; no result: it was not run here."""

    experiment: Experiment
    result: Result | None = None


def page(stored: Sequence[Stored]) -> str:
    """Returns the page: a table of all claims, then a section for each experiment that was run."""
    sections = (_section(each) for each in stored if each.result is not None)
    return "\n".join([_INTRODUCTION, markdown(_claims_table(stored)), *sections])


def result_table(experiment: Experiment, result: Result) -> Table:
    """Returns a row for each model; the title says first what they have in equal measure."""
    figures = list(dict.fromkeys(key for row in result.rows for key in row.figures))
    sized = any(row.parameters for row in result.rows)
    columns = [*left("model"), *right(*["parameters"] * sized, *figures)]
    rows = [
        [r.model, *[f"{r.parameters:,}"] * sized, *_cells(r.figures, figures)] for r in result.rows
    ]
    if any(row.reference for row in result.rows):
        columns += left("reference")
        rows = [[*cells, row.reference] for cells, row in zip(rows, result.rows, strict=True)]
    return Table(f"{result.name}: {_about(experiment, result)}", columns, [rows])


def cost(experiment: Experiment) -> str:
    """Returns about how long it takes on two cores; a dash where that is not known."""
    if experiment.gpu:
        return "GPU"
    return "–" if experiment.minutes is None else duration(60 * experiment.minutes)


def _about(experiment: Experiment, result: Result) -> str:
    """Returns the source, what the rows have in equal measure, and the seeds."""
    equal = [f"equal: {experiment.equal}"] if experiment.equal else []
    seeds = (
        [f"seeds {', '.join(map(str, result.seeds))}"]
        if any(len(values) > 1 for row in result.rows for values in row.figures.values())
        else []
    )
    return "; ".join([experiment.source, *equal, *seeds])


def _claims_table(stored: Sequence[Stored]) -> Table:
    columns = left("claim", "published", "ours", "verdict", "smoothctl reproduce …")
    return Table("", columns, [[row for each in stored for row in _claims(each)]])


def _claims(stored: Stored) -> Iterator[list[str]]:
    experiment, result = stored.experiment, stored.result
    if result is None:
        yield [experiment.summary, "", f"cost: {cost(experiment)}", "not run here", experiment.name]
        return
    for claim in result.claims:
        verdict = "holds" if claim.holds else Bold("refuted")
        yield [claim.statement, claim.published, claim.measured, verdict, experiment.name]


def _section(stored: Stored) -> str:
    """Returns the command, the table, what is true of the data, the pictures and the note."""
    experiment, result = stored.experiment, stored.result
    assert result is not None
    parts = [
        f"## {experiment.summary[0].upper()}{experiment.summary[1:]}",
        f"```text\n$ {result.command or f'smoothctl reproduce {experiment.name}'}\n```",
        f"{_about(experiment, result)}.",
        markdown(replace(result_table(experiment, result), title="")) if result.rows else "",
        " ".join(f"{what}: {value:.3f}." for what, value in result.truth.items()),
        *(f"![{experiment.summary}]({picture})" for picture in result.pictures),
        experiment.note,
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _cells(figures: Mapping[str, Sequence[float]], headings: Sequence[str]) -> list[str]:
    """Returns 'mean ± half the range over seeds' of each figure."""
    every = [figures.get(heading) or [] for heading in headings]
    spreads = [f" ± {(max(v) - min(v)) / 2:.3f}" if len(v) > 1 else "" for v in every]
    return [decimals(mean(v), 3) + s if v else "" for v, s in zip(every, spreads, strict=True)]
