"""Runs side by side in the form of ARDS table 2, the best figure among the comparable marked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from smoothctl.errors import RunError
from smoothctl.evaluation.entries import OF_QUALITY, Entry, rows_of_run
from smoothctl.evaluation.marks import mark, remarks
from smoothctl.evaluation.published import published_for
from smoothctl.evaluation.records import read_scores
from smoothctl.evaluation.tables import Cell, Column, Row, Table
from smoothctl.runs.run import Run

__all__ = ["compare", "scores_table"]

_FAMILIAR = {
    "inception_score": "Inception score",
    "frechet_distance": "FID",
    "kernel_distance": "KID",
}
"""What the figures are called where the features are Inception's, and only there."""

_PLAIN = {
    "inception_score": "class score",
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "kernel distance",
}


def compare(runs: Sequence[Run], published: bool = True, average: bool = False) -> list[Table]:
    """Returns a table for each dataset that runs were fitted to, in the order of the runs.

    Args:
        runs: opened runs.
        published: add the published figures of the dataset.
        average: show runs that differ in their seed alone as one, mean ± half range.

    Raises:
        RunError: a run has no scores.
    """
    scored = {run.path: read_scores(run.path) for run in runs}
    for path, entries in scored.items():
        if not entries:
            raise RunError(f"{path} has no scores yet: smoothctl score {path} makes them.")
    names = _short_names(list(scored))
    rows: dict[Path, list[Row]] = {
        path: rows_of_run(entries, names[path]) for path, entries in scored.items()
    }
    parts: dict[str, list[Run]] = {}
    for run in {run.path: run for run in runs}.values():
        parts.setdefault(_data(run), []).append(run)
    found = []
    for key, members in parts.items():
        theirs = _averaged(members, rows) if average else [r for m in members for r in rows[m.path]]
        dataset, *settings = json.loads(key)
        extra = _published(dataset, theirs) if published and not settings[0] else []
        found.append(_table(_title(dataset, settings[0]), [*theirs, *extra]))
    return found


def scores_table(entries: Sequence[Entry], name: str = "") -> Table:
    """Returns the newest figures of one run's scores, without published ones."""
    return _table("", rows_of_run(entries, name))


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    names = [path.name or str(path.absolute().name) for path in paths]
    return {
        path: name if names.count(name) == 1 else str(path)
        for path, name in zip(paths, names, strict=True)
    }


def _data(run: Run) -> str:
    config = next(iter(run.configs().values()))
    return json.dumps([config.dataset, config.data, config.data_sha256], sort_keys=True)


def _title(dataset: str, settings: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
    return f"{dataset} ({said})" if said else dataset


def _averaged(runs: Sequence[Run], rows: Mapping[Path, Sequence[Row]]) -> list[Row]:
    """Returns one row a model for runs that differ in their seed alone."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        plain = {name: config.to_dict() for name, config in run.configs().items()}
        for values in plain.values():
            values.pop("seed", None)
            values.pop("smoothctl", None)
        groups.setdefault(json.dumps(plain, sort_keys=True), []).append(run)
    found: list[Row] = []
    for members in groups.values():
        same: dict[str, list[Row]] = {}
        for row in (row for member in members for row in rows[member.path]):
            same.setdefault(row.model, []).append(row)
        for each in same.values():
            found += each if len(each) == 1 or each[0].kind == "floor" else _mean(each)
    return found


def _mean(rows: Sequence[Row]) -> list[Row]:
    """Returns the mean of rows, or the rows where they were not measured alike."""
    keys = [key for key in rows[0].cells if all(key in row.cells for row in rows)]
    cells = {}
    for key in keys:
        found = [row.cells[key] for row in rows]
        if any((c.conditions, c.bound) != (found[0].conditions, found[0].bound) for c in found):
            return list(rows)
        values = [cell.value for cell in found]
        half = (max(values) - min(values)) / 2
        cells[key] = replace(found[0], value=mean(values), error=half)
    return [Row(f"{rows[0].run} and {len(rows) - 1} more", rows[0].model, cells, rows[0].kind)]


def _published(dataset: str, rows: Sequence[Row]) -> list[Row]:
    """Returns the published rows where figures with Inception's features stand beside them."""
    if not any(key.startswith("inception:") for row in rows for key in row.cells):
        return []
    found = []
    for figures in published_for(dataset):
        values = {
            "inception:inception_score": (
                figures.inception_score,
                figures.inception_score_deviation,
            ),
            "inception:frechet_distance": (figures.fid, None),
        }
        kept = {k: Cell(value, error) for k, (value, error) in values.items() if value is not None}
        found.append(Row(figures.source, figures.model, kept, "published"))
    return found


def _table(dataset: str, rows: Sequence[Row]) -> Table:
    """Puts rows into one table: columns that have figures, the best marked, and the notes."""
    columns = _columns(rows)
    ordered = [
        row for kind in ("measured", "floor", "published") for row in rows if row.kind == kind
    ]
    distinct: list[Row] = []
    for row in ordered:
        if row.kind == "measured" or row not in distinct:
            distinct.append(row)
    notes: dict[str, str] = {}
    marked = [dict(row.cells) for row in distinct]
    for column in columns:
        mark(column, distinct, marked, notes)
    found = [replace(row, cells=cells) for row, cells in zip(distinct, marked, strict=True)]
    said = [f"[{letter}] not compared: {text}." for text, letter in notes.items()]
    return Table(dataset, columns, found, [*said, *remarks(found, columns)])


def _columns(rows: Sequence[Row]) -> list[Column]:
    present = {key: None for row in rows for key in row.cells}
    known = [Column("bits", "bits/dim", "lower", 3), Column("nats", "−log p, nats", "lower", 3)]
    extractors = {key.partition(":")[0]: None for key in present if ":" in key}
    for features in extractors:
        for key, better, digits in OF_QUALITY:
            heading = _heading(features, key, len(extractors) > 1)
            known.append(Column(f"{features}:{key}", heading, better, digits))
    known += [
        Column("energy_distance", "energy distance", "lower", 5),
        Column("sliced_wasserstein", "sliced Wasserstein", "lower", 4),
        Column("classifier_accuracy", "told apart, %", "lower", 2),
        Column("off_support", "off the support, %", "lower", 2),
    ]
    return [column for column in known if column.key in present]


def _heading(features: str, key: str, several: bool) -> str:
    """Returns what a figure is called; the features are named where there could be doubt."""
    if features == "inception" and key in _FAMILIAR:
        return _FAMILIAR[key]
    name = _PLAIN.get(key, key.replace("_", " "))
    return f"{name} ({features})" if several or key in _PLAIN else name
