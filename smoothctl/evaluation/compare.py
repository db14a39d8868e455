"""Runs side by side in the form of ARDS table 2, the best of what is comparable marked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from smoothctl.errors import RunError
from smoothctl.evaluation.measurements import (
    ANNEALED,
    OF_QUALITY,
    OF_RUNS,
    Measure,
    Measurement,
    ModelRow,
    ScoreRecord,
    rows_of_run,
)
from smoothctl.evaluation.published import published_for
from smoothctl.evaluation.records import read_scores
from smoothctl.runs.run import Run

__all__ = ["Comparison", "compare", "of_records"]

_PAPERS = {
    "inception_score": "Inception score",
    "frechet_distance": "FID",
    "kernel_distance": "KID",
}
"""What papers call measures where the features are Inception's, and only there."""

_CHANCE = {"kernel_distance": 0.0, "energy_distance": 0.0, "classifier_accuracy": 50.0}
"""What equal distributions get on average: below it lies chance alone."""


@dataclass(frozen=True)
class Comparison:
    """Rows over one dataset, the measures that any of them has, and what must be said of them."""

    dataset: str
    columns: list[Measure]
    rows: list[ModelRow]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)


def compare(runs: Sequence[Run], published: bool = True, average: bool = False) -> list[Comparison]:
    """Returns a comparison for each dataset that runs were fitted to, in the order of the runs.

    Args:
        runs: opened runs.
        published: add the published figures of the dataset.
        average: show runs that differ in their seed alone as one, mean ± half range.

    Raises:
        RunError: a run has no scores.
    """
    scored = {run.path: read_scores(run.path) for run in runs}
    for path, records in scored.items():
        if not records:
            raise RunError(f"{path} has no scores yet: smoothctl score {path} makes them.")
    names = _short_names(list(scored))
    rows = {path: rows_of_run(records, names[path]) for path, records in scored.items()}
    groups: dict[str, list[Run]] = {}
    for run in {run.path: run for run in runs}.values():
        groups.setdefault(_data(run), []).append(run)
    comparisons = []
    for members in groups.values():
        config = members[0].config()
        dataset, settings = config.dataset, config.data
        theirs = _averaged(members, rows) if average else [r for m in members for r in rows[m.path]]
        extra = _published(dataset, theirs) if published and not settings else []
        comparisons.append(_comparison(_title(dataset, settings), [*theirs, *extra]))
    return comparisons


def of_records(records: Sequence[ScoreRecord], name: str = "") -> Comparison:
    """Returns the newest measurements of one run's scores, without published ones."""
    return _comparison("", rows_of_run(records, name))


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    names = [path.name or str(path.absolute().name) for path in paths]
    return {
        path: name if names.count(name) == 1 else str(path)
        for path, name in zip(paths, names, strict=True)
    }


def _data(run: Run) -> str:
    """Returns what is the same for runs of the same data, whatever their files are called."""
    config = run.config()
    named = [config.dataset, config.data]
    return config.data_sha256 or json.dumps(named, sort_keys=True)


def _title(dataset: str, settings: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
    return f"{dataset} ({said})" if said else dataset


def _averaged(runs: Sequence[Run], rows: Mapping[Path, Sequence[ModelRow]]) -> list[ModelRow]:
    """Returns one row a model for runs that differ in their seed alone."""
    alike: dict[tuple[Path, str], list[ModelRow]] = {}
    for run in runs:
        first = next(other for other in runs if _differ_in_seed_alone(other, run))
        for row in rows[run.path]:
            alike.setdefault((first.path, row.model), []).append(row)
    return [row for same in alike.values() for row in _mean(same)]


def _differ_in_seed_alone(run: Run, other: Run) -> bool:
    mine, others = run.configs(), other.configs()
    return mine.keys() == others.keys() and all(
        change.startswith("seed:")
        for name in mine
        for change in mine[name].differences(others[name])
    )


def _mean(rows: Sequence[ModelRow]) -> Sequence[ModelRow]:
    """Returns the mean of rows; the rows of floors, and where they were not measured alike."""
    first = rows[0]
    if len(rows) == 1 or first.kind == "floor":
        return rows
    cells = {}
    for key in [key for key in first.cells if all(key in row.cells for row in rows)]:
        same = [row.cells[key] for row in rows]
        if any((m.conditions, m.bound) != (same[0].conditions, same[0].bound) for m in same):
            return rows
        values = [measurement.value for measurement in same]
        half = (max(values) - min(values)) / 2
        cells[key] = replace(same[0], value=mean(values), error=half)
    return [ModelRow(f"{first.run} and {len(rows) - 1} more", first.model, cells, first.kind)]


def _published(dataset: str, rows: Sequence[ModelRow]) -> list[ModelRow]:
    """Returns the published rows, of each what was measured too."""
    measured = {key for row in rows for key in row.cells}
    published = []
    for model in published_for(dataset):
        figures = {
            "inception:inception_score": model.inception_score,
            "inception:frechet_distance": model.fid,
            "inception:kernel_distance": model.kid,
            "bits": model.bits_per_dim,
            "nats": model.nats,
        }
        errors = {"inception:inception_score": model.inception_score_deviation}
        bounds = dict.fromkeys(("bits", "nats"), int(model.bound))
        cells = {
            key: Measurement(value, errors.get(key), bounds.get(key, 0))
            for key, value in figures.items()
            if value is not None and key in measured
        }
        if cells:
            published.append(ModelRow(model.source, model.model, cells, "published"))
    return published


def _comparison(dataset: str, rows: Sequence[ModelRow]) -> Comparison:
    """Puts rows together: measures that were taken, the best marked, and the notes."""
    columns = _columns(rows)
    distinct: list[ModelRow] = []
    for kind in ("measured", "floor", "published"):
        for row in rows:
            if row.kind == kind and (kind == "measured" or row not in distinct):
                distinct.append(row)
    notes: dict[str, str] = {}
    cells = [dict(row.cells) for row in distinct]
    measured = [c for row, c in zip(distinct, cells, strict=True) if row.kind == "measured"]
    for column in columns:
        _mark(column, measured, notes)
    marked = [replace(row, cells=c) for row, c in zip(distinct, cells, strict=True)]
    said = [f"[{letter}] not compared: {text}." for text, letter in notes.items()]
    return Comparison(dataset, columns, marked, [*said, *_remarks(marked, columns)])


def _columns(rows: Sequence[ModelRow]) -> list[Measure]:
    """Returns what any row has; the features are named where there could be doubt."""
    present = {key: None for row in rows for key in row.cells}
    extractors = {key.partition(":")[0]: None for key in present if ":" in key}
    of_quality = []
    for features in extractors:
        for measure in OF_QUALITY:
            named, heading = measure.key in _PAPERS, measure.heading
            if named and features == "inception":
                heading = _PAPERS[measure.key]
            elif named or len(extractors) > 1:
                heading = f"{heading} ({features})"
            of_quality.append(replace(measure, key=f"{features}:{measure.key}", heading=heading))
    every = [*OF_RUNS[:2], *of_quality, *OF_RUNS[2:]]
    return [measure for measure in every if measure.key in present]


def _mark(
    column: Measure, measured: Sequence[dict[str, Measurement]], notes: dict[str, str]
) -> None:
    """Marks the best of the largest group of comparable measurements, and letters the others.

    Args:
        column: what was measured.
        measured: of each model by key; changed.
        notes: what differs -> its letter; grows.
    """
    groups: dict[str, list[dict[str, Measurement]]] = {}
    for cells in measured:
        if column.key in cells:
            conditions = json.dumps(cells[column.key].conditions, sort_keys=True)
            groups.setdefault(conditions, []).append(cells)
    if not groups:
        return
    main = max(groups, key=lambda key: len(groups[key]))
    for key in [key for key in groups if key != main]:
        text = _difference(json.loads(key), json.loads(main))
        letter = notes.setdefault(text, chr(ord("a") + len(notes) % 26))
        for cells in groups[key]:
            cells[column.key] = replace(cells[column.key], note=letter)
    if len(groups[main]) < 2 or not column.better:
        return
    best = min(_rank(column, cells[column.key]) for cells in groups[main])
    for cells in groups[main]:
        is_best = _rank(column, cells[column.key]) == best
        cells[column.key] = replace(cells[column.key], best=is_best)


def _rank(column: Measure, measurement: Measurement) -> float:
    """Returns a number that is lower for the better; what is no better than chance is equal."""
    least = [chance for key, chance in _CHANCE.items() if column.key.endswith(key)]
    value = max([measurement.value, *least])
    return -value if column.better == "higher" else value


def _difference(conditions: Mapping[str, Any], main: Mapping[str, Any]) -> str:
    keys = [key for key in {**main, **conditions} if conditions.get(key) != main.get(key)]
    return "; ".join(f"{key} {conditions.get(key)} instead of {main.get(key)}" for key in keys)


def _remarks(rows: Sequence[ModelRow], columns: Sequence[Measure]) -> list[str]:
    """Returns what a reader must know of bounds, published figures and memorisation."""
    remarks = []
    draws = sorted({cell.bound for row in rows for cell in row.cells.values()} - {0})
    if draws:
        several = "; with more draws it is tighter, so mind the difference" * (len(draws) > 1)
        counts = " or ".join(str(count) for count in draws if count != ANNEALED)
        ways = [f"with {counts} draws"] * bool(counts) + ["by annealing"] * (ANNEALED in draws)
        remarks.append(f"≤: a bound {' or '.join(ways)}{several}.")
    if any(row.kind == "published" for row in rows):
        remarks.append(
            "Published figures stand for orientation: their numbers of samples and their "
            "preprocessing are their authors', so they are not compared."
        )
    if any(column.key.endswith("nearer_than_test") for column in columns):
        remarks.append("nearer than test: 0.5 is ideal, 1 is copying; copies: 0.01 is ideal.")
    return remarks
