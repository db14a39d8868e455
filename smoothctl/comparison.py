"""Runs side by side in the form of ARDS table 2, the best figure among the comparable marked."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from smoothctl.errors import RunError
from smoothctl.metrics.published import published_for
from smoothctl.metrics.scores import read_scores
from smoothctl.runs import Run

__all__ = [
    "Cell",
    "Column",
    "Entry",
    "Row",
    "Table",
    "compare",
    "latest",
    "markdown",
    "scores_table",
    "shown",
]

Entry = Mapping[str, Any]
"""One scoring of a run: an element of scores.json."""

_FIGURES = 5
"""Significant figures that are shown at most."""

_METHODS = ("two-step", "single-step", "smoothed", "baseline")
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
_OF_QUALITY: tuple[tuple[str, Literal["lower", "higher", ""], int], ...] = (
    ("inception_score", "higher", 2),
    ("frechet_distance", "lower", 2),
    ("kernel_distance", "lower", 5),
    ("precision", "higher", 3),
    ("recall", "higher", 3),
    ("density", "higher", 3),
    ("coverage", "higher", 3),
    ("nearer_than_test", "", 3),
    ("copies", "", 3),
)
_OF_SAMPLES = {
    "energy_distance": 1,
    "sliced_wasserstein": 1,
    "classifier_accuracy": 100,
    "off_support": 100,
}
"""Two-sample statistics and the factor that they are shown with: shares are in percent."""

_ERRORS = {"inception_score": "inception_score_deviation"}
"""Where the error of a figure isn't called FIGURE_error."""


@dataclass(frozen=True)
class Column:
    """A figure: its key, what it is called, which direction is better, how it is shown."""

    key: str
    heading: str
    better: Literal["lower", "higher", ""]
    digits: int

    @property
    def title(self) -> str:
        """The heading with an arrow towards the better."""
        return self.heading + {"lower": " ↓", "higher": " ↑", "": ""}[self.better]


@dataclass(frozen=True)
class Cell:
    """A measured figure.

    Args:
        value: the figure.
        error: its standard error, deviation or, of several seeds, half their range.
        bound: draws of a bound on the negative log-likelihood from above; 0: exact.
        conditions: what it was measured with; only equal ones are comparable.
        best: the best of the comparable ones.
        note: letter of the note that says why it is not compared.
    """

    value: float
    error: float | None = None
    bound: int = 0
    conditions: Mapping[str, Any] = field(default_factory=dict)
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A model's figures by column key; floors and published figures are not compared."""

    run: str
    model: str
    cells: Mapping[str, Cell]
    kind: Literal["measured", "floor", "published"] = "measured"


@dataclass(frozen=True)
class Table:
    """Rows over one dataset, the columns that any of them has, and what must be said of them."""

    dataset: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)


def latest(entries: Sequence[Entry], kind: str) -> Entry | None:
    """Returns the newest entry that has any likelihood, samples or quality."""
    return next((entry for entry in reversed(entries) if entry.get(kind)), None)


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
        path: _rows_of_run(entries, names[path]) for path, entries in scored.items()
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
    return _table("", _rows_of_run(entries, name))


def shown(cell: Cell | None, column: Column, strong: Callable[[str], str] = str) -> str:
    """Returns a cell as text: '≤ 2.679 ± 0.008 [a]', or a dash.

    Args:
        cell: the figure; None where there is none.
        column: its column.
        strong: emphasises the figure of the best.
    """
    if cell is None:
        return "–"
    largest = max(abs(cell.value), 1e-9)
    digits = min(column.digits, max(0, _FIGURES - 1 - math.floor(math.log10(largest))))
    value = f"{'≤ ' if cell.bound else ''}{cell.value:.{digits}f}".replace("-", "−")
    error = "" if cell.error is None else f" ± {cell.error:.{digits}f}"
    return (strong(value) if cell.best else value) + error + f" [{cell.note}]" * bool(cell.note)


def markdown(table: Table) -> str:
    """Returns a table in Markdown, the best figures between asterisks."""
    head = ["run", "model", *(column.title for column in table.columns)]
    lines = [head, ["---", "---", *["---:"] * len(table.columns)]]
    for row in table.rows:
        cells = [shown(row.cells.get(c.key), c, lambda text: f"**{text}**") for c in table.columns]
        lines.append([_plain(row.run), _plain(row.model), *cells])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"\n- {_plain(note)}" for note in table.notes)
    return f"### {_plain(table.dataset)}\n\n{body}\n" + (f"{notes}\n" if notes else "")


def _plain(text: str) -> str:
    """Returns text that Markdown shows as it is."""
    for letter in "\\|*_`<[":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())


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


def _rows_of_run(entries: Sequence[Entry], name: str) -> list[Row]:
    """Returns a row for each model of a run, the newest figure of each kind, then the floors."""
    cells: dict[str, dict[str, Cell]] = {method: {} for method in _METHODS}
    quality, samples = latest(entries, "quality"), latest(entries, "samples")
    likelihood = latest(entries, "likelihood")
    if likelihood is not None:
        _add(cells, _likelihoods(likelihood))
    if samples is not None and (quality is None or not _is_of_images(entries)):
        _add(cells, _statistics(samples))
    if quality is not None:
        _add(cells, _qualities(quality["quality"]))
    used = [entry for entry in (likelihood, samples, quality) if entry is not None]
    best = bool(used) and all(entry.get("weights") == "best" for entry in used)
    return [
        Row(
            name if model in _METHODS else "",
            f"{model}, best weights" if best and model in _METHODS else model,
            figures,
            "measured" if model in _METHODS else "floor",
        )
        for model, figures in cells.items()
        if figures
    ]


def _add(cells: dict[str, dict[str, Cell]], found: Iterable[tuple[str, str, Cell | None]]) -> None:
    for model, key, cell in found:
        if cell is not None:
            cells.setdefault(model, {})[key] = cell


def _is_of_images(entries: Sequence[Entry]) -> bool:
    return any(e.get("bits_per_dim") is not None for s in entries for e in _dicts(s, "likelihood"))


def _likelihoods(entry: Entry) -> Iterable[tuple[str, str, Cell | None]]:
    """Gives each model's exact likelihood or else its tightest bound, and the true entropy."""
    estimates = _dicts(entry, "likelihood")
    for model in {str(e.get("model")): None for e in estimates}:
        mine = [e for e in estimates if str(e.get("model")) == model]
        best = max(mine, key=lambda e: _tightness(str(e.get("quantity"))))
        tightness = _tightness(str(best.get("quantity")))
        if tightness < 1:
            continue
        bits = _number(best, "bits_per_dim") is not None
        value = _number(best, "bits_per_dim" if bits else "nats")
        error = _number(best, "bits_per_dim_error" if bits else "standard_error")
        examples = max((e.get("examples") or 0) for e in mine)
        bound = int(tightness) if tightness < math.inf else 0
        conditions = {"test examples": examples}
        key = "bits" if bits else "nats"
        yield model, key, _cell(value, error, conditions, bound)
    yield "true entropy", "nats", _cell(_number(entry, "true_entropy"), None, {})


def _tightness(quantity: str) -> float:
    """Returns infinity for an exact likelihood, K for a bound of K draws, 0 for a term of it."""
    if quantity.startswith("exact"):
        return math.inf
    words = quantity.split()
    return float(words[1]) if words[:1] == ["bound,"] and words[1:2] and words[1].isdigit() else 0


def _statistics(entry: Entry) -> Iterable[tuple[str, str, Cell | None]]:
    conditions = {"samples": entry.get("samples_each")}
    for row in _dicts(entry, "samples"):
        for key, factor in _OF_SAMPLES.items():
            value = _number(row, key)
            if value is not None:
                value *= factor
            yield str(row.get("method")), key, _cell(value, None, conditions)


def _qualities(quality: Entry) -> Iterable[tuple[str, str, Cell | None]]:
    features = str(quality.get("features"))
    shared = {
        "weights of the features": _short(quality.get("features_sha256")),
        "preprocessing": quality.get("preprocessing"),
        "reference": quality.get("reference"),
        "content of the reference": _short(quality.get("reference_sha256")),
        "reference images": quality.get("reference_count"),
    }
    for row in _dicts(quality, "rows"):
        conditions = {**shared, "samples": row.get("count")}
        for key, _, _ in _OF_QUALITY:
            error = _number(row, _ERRORS.get(key, f"{key}_error"))
            cell = _cell(_number(row, key), error, conditions)
            yield str(row.get("samples")), f"{features}:{key}", cell


def _dicts(entry: Entry, key: str) -> list[Entry]:
    values = entry.get(key)
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []


def _number(values: Entry, key: str) -> float | None:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _short(digest: Any) -> str:
    return str(digest)[:12]


def _cell(
    value: float | None, error: float | None, conditions: Mapping[str, Any], bound: int = 0
) -> Cell | None:
    return None if value is None else Cell(value, error, bound, conditions)


def _published(dataset: str, rows: Sequence[Row]) -> list[Row]:
    """Returns the published rows where figures with Inception's features stand beside them."""
    if not any(key.startswith("inception:") for row in rows for key in row.cells):
        return []
    found = []
    for figures in published_for(dataset):
        cells = {
            "inception:inception_score": _cell(
                figures.inception_score, figures.inception_score_deviation, {}
            ),
            "inception:frechet_distance": _cell(figures.fid, None, {}),
        }
        kept = {key: cell for key, cell in cells.items() if cell is not None}
        found.append(Row(figures.source, figures.model, kept, "published"))
    return found


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
        _mark(column, distinct, marked, notes)
    found = [replace(row, cells=cells) for row, cells in zip(distinct, marked, strict=True)]
    said = [f"[{letter}] not compared: {text}." for text, letter in notes.items()]
    return Table(dataset, columns, found, [*said, *_remarks(found, columns)])


def _columns(rows: Sequence[Row]) -> list[Column]:
    present = {key: None for row in rows for key in row.cells}
    known = [Column("bits", "bits/dim", "lower", 3), Column("nats", "−log p, nats", "lower", 3)]
    extractors = {key.partition(":")[0]: None for key in present if ":" in key}
    for features in extractors:
        for key, better, digits in _OF_QUALITY:
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


def _mark(
    column: Column, rows: Sequence[Row], marked: list[dict[str, Cell]], notes: dict[str, str]
) -> None:
    """Marks the best figure of the largest group of comparable ones, and letters the others."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.kind == "measured" and column.key in row.cells:
            conditions = json.dumps(row.cells[column.key].conditions, sort_keys=True)
            groups.setdefault(conditions, []).append(index)
    if not groups:
        return
    main = max(groups, key=lambda key: len(groups[key]))
    for key in [key for key in groups if key != main]:
        text = _difference(json.loads(key), json.loads(main))
        letter = notes.setdefault(text, chr(ord("a") + len(notes) % 26))
        for index in groups[key]:
            marked[index][column.key] = replace(marked[index][column.key], note=letter)
    if len(groups[main]) < 2 or not column.better:
        return
    ranks = {index: _rank(column, rows[index].cells[column.key]) for index in groups[main]}
    for index in groups[main]:
        if ranks[index] == min(ranks.values()):
            marked[index][column.key] = replace(marked[index][column.key], best=True)


def _rank(column: Column, cell: Cell) -> float:
    """Returns a number that is lower for the better; unbiased distances below zero are all zero."""
    unbiased = column.key.endswith(("kernel_distance", "energy_distance"))
    value = max(cell.value, 0.0) if unbiased else cell.value
    return -value if column.better == "higher" else value


def _difference(conditions: Mapping[str, Any], main: Mapping[str, Any]) -> str:
    keys = [key for key in {**main, **conditions} if conditions.get(key) != main.get(key)]
    return "; ".join(f"{key} {conditions.get(key)} instead of {main.get(key)}" for key in keys)


def _remarks(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    found = []
    draws = sorted({cell.bound for row in rows for cell in row.cells.values()} - {0})
    if draws:
        several = "; with more draws it is tighter, so mind the difference" * (len(draws) > 1)
        found.append(f"≤: a bound with {' or '.join(map(str, draws))} draws{several}.")
    if any(row.kind == "published" for row in rows):
        found.append(
            "Published figures stand for orientation: their numbers of samples and their "
            "preprocessing are their authors', so they are not compared."
        )
    if any(column.key.endswith("nearer_than_test") for column in columns):
        found.append("nearer than test: 0.5 is ideal, 1 is copying; copies: 0.01 is ideal.")
    return found
