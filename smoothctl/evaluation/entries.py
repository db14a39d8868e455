"""From entries of scores.json to rows: the newest figure of each kind for each model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from smoothctl.evaluation.tables import Cell, Row

__all__ = ["METHODS", "OF_QUALITY", "Entry", "latest", "rows_of_run"]

Entry = Mapping[str, Any]
"""One scoring of a run: an element of scores.json."""

METHODS = ("two-step", "single-step", "smoothed", "baseline")

OF_QUALITY: tuple[tuple[str, Literal["lower", "higher", ""], int], ...] = (
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


def latest(entries: Sequence[Entry], kind: str) -> Entry | None:
    """Returns the newest entry that has any likelihood, samples or quality."""
    return next((entry for entry in reversed(entries) if entry.get(kind)), None)


def rows_of_run(entries: Sequence[Entry], name: str) -> list[Row]:
    """Returns a row for each model of a run, the newest figure of each kind, then the floors."""
    cells: dict[str, dict[str, Cell]] = {method: {} for method in METHODS}
    quality, samples = latest(entries, "quality"), latest(entries, "samples")
    likelihood = latest(entries, "likelihood")
    if likelihood is not None:
        _add(cells, _likelihoods(likelihood))
    if samples is not None and (quality is None or not _is_of_images(entries)):
        _add(cells, _statistics(samples))
    if quality is not None:
        _add(cells, _qualities(quality["quality"]))
    used = [entry for entry in (likelihood, samples, quality) if entry is not None]
    notes = _notes(used)
    return [
        Row(
            name if model in METHODS else "",
            ", ".join([model, *notes]) if model in METHODS else model,
            figures,
            "measured" if model in METHODS else "floor",
        )
        for model, figures in cells.items()
        if figures
    ]


def _notes(used: Sequence[Entry]) -> list[str]:
    """Returns what was not as by default when the figures were taken."""
    best = bool(used) and all(entry.get("weights") == "best" for entry in used)
    samplers = [entry.get("sampler") for entry in used if entry.get("samples")]
    sampler = samplers[-1] if samplers else None
    settings = sampler.items() if isinstance(sampler, dict) else ()
    return ["best weights"] * best + [f"{key}={value}" for key, value in settings]


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
        for key, _, _ in OF_QUALITY:
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
