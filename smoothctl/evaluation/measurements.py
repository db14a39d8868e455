"""From records of scores.json to rows: the newest measurement of each kind for each model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "ANNEALED",
    "METHODS",
    "OF_QUALITY",
    "OF_RUNS",
    "Measure",
    "Measurement",
    "ModelRow",
    "ScoreRecord",
    "dicts_in",
    "latest",
    "number_in",
    "rows_of_run",
]

ScoreRecord = Mapping[str, Any]
"""One scoring of a run: an element of scores.json."""

ANNEALED = 2**31
"""Stands for the draws of an annealed bound, which is tighter than one of any draws."""

METHODS = ("two-step", "single-step", "smoothed", "baseline")

_ERRORS = {"inception_score": "inception_score_deviation"}
"""Where the error of a measurement isn't called MEASURE_error."""


@dataclass(frozen=True)
class Measure:
    """What is measured: its key, what it is called, which direction is better, its decimals."""

    key: str
    heading: str
    better: Literal["lower", "higher", ""]
    digits: int

    @property
    def title(self) -> str:
        """The heading with an arrow towards the better."""
        return self.heading + {"lower": " ↓", "higher": " ↑", "": ""}[self.better]


OF_RUNS = (
    Measure("bits", "bits/dim", "lower", 3),
    Measure("nats", "−log p, nats", "lower", 3),
    Measure("energy_distance", "energy distance", "lower", 5),
    Measure("sliced_wasserstein", "sliced Wasserstein", "lower", 4),
    Measure("classifier_accuracy", "told apart, %", "lower", 2),
    Measure("off_support", "off the support, %", "lower", 2),
)
OF_QUALITY = (
    Measure("inception_score", "class score", "higher", 2),
    Measure("frechet_distance", "Fréchet distance", "lower", 2),
    Measure("kernel_distance", "kernel distance", "lower", 5),
    Measure("precision", "precision", "higher", 3),
    Measure("recall", "recall", "higher", 3),
    Measure("density", "density", "higher", 3),
    Measure("coverage", "coverage", "higher", 3),
    Measure("nearer_than_test", "nearer than test", "", 3),
    Measure("copies", "copies", "", 3),
)


@dataclass(frozen=True)
class Measurement:
    """A number that was measured.

    Args:
        value: the number.
        error: its standard error, deviation or, of several seeds, half their range.
        bound: draws of a bound on the negative log-likelihood from above, or ANNEALED; 0: exact.
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
class ModelRow:
    """A model's measurements by key; floors and published ones are not compared."""

    run: str
    model: str
    cells: Mapping[str, Measurement]
    kind: Literal["measured", "floor", "published"] = "measured"


def latest(records: Sequence[ScoreRecord], kind: str) -> ScoreRecord | None:
    """Returns the newest record that has any likelihood, samples or quality."""
    return next((record for record in reversed(records) if record.get(kind)), None)


def rows_of_run(records: Sequence[ScoreRecord], name: str) -> list[ModelRow]:
    """Returns a row for each model of a run, the newest of each kind, then the floors."""
    likelihood, samples, quality = (
        latest(records, kind) for kind in ("likelihood", "samples", "quality")
    )
    if quality is not None and _is_of_images(records):
        samples = None
    cells: dict[str, dict[str, Measurement]] = {method: {} for method in METHODS}
    for record, read in (
        (likelihood, _likelihoods),
        (samples, _statistics),
        (quality, _qualities),
    ):
        for model, key, measured in () if record is None else read(record):
            if measured is not None:
                cells.setdefault(model, {})[key] = measured
    used = [record for record in (likelihood, samples, quality) if record is not None]
    said = _settings(used)
    return [
        ModelRow(name, ", ".join([model, *said]), measurements)
        if model in METHODS
        else ModelRow("", model, measurements, "floor")
        for model, measurements in cells.items()
        if measurements
    ]


def dicts_in(record: ScoreRecord, key: str) -> list[ScoreRecord]:
    """Returns what a list of a record holds of dictionaries; none where it is no list."""
    values = record.get(key)
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []


def number_in(record: ScoreRecord, key: str) -> float | None:
    """Returns a finite number of a record; None where there is none."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _settings(used: Sequence[ScoreRecord]) -> list[str]:
    """Returns what was not as by default when the measurements were taken."""
    best = bool(used) and all(record.get("weights") == "best" for record in used)
    samplers = [record.get("sampler") for record in used if record.get("samples")]
    sampler = samplers[-1] if samplers else None
    settings = sampler.items() if isinstance(sampler, dict) else ()
    return ["best weights"] * best + [f"{key}={value}" for key, value in settings]


def _is_of_images(records: Sequence[ScoreRecord]) -> bool:
    return any(
        estimate.get("bits_per_dim") is not None
        for record in records
        for estimate in dicts_in(record, "likelihood")
    )


_Measured = Iterator[tuple[str, str, Measurement | None]]
"""Model, key of the measure, and what was measured, if it is a number."""


def _likelihoods(record: ScoreRecord) -> _Measured:
    """Gives each model's exact likelihood or else its tightest bound, and the true entropy."""
    estimates = dicts_in(record, "likelihood")
    for model in {str(e.get("model")): None for e in estimates}:
        mine = [e for e in estimates if str(e.get("model")) == model]
        tightest = max(mine, key=_tightness)
        tightness = _tightness(tightest)
        if tightness < 1:
            continue
        bits = number_in(tightest, "bits_per_dim") is not None
        keys = ("bits_per_dim", "bits_per_dim_error") if bits else ("nats", "standard_error")
        value, error = (number_in(tightest, key) for key in keys)
        conditions = {"test examples": max((e.get("examples") or 0) for e in mine)}
        bound = int(tightness) if tightness < math.inf else 0
        yield model, "bits" if bits else "nats", _measurement(value, error, conditions, bound)
    yield "true entropy", "nats", _measurement(number_in(record, "true_entropy"), None, {})


def _tightness(estimate: ScoreRecord) -> float:
    """Returns infinity for an exact likelihood, K for a bound of K draws, 0 for a term of it."""
    quantity = str(estimate.get("quantity"))
    if quantity.startswith("exact"):
        return math.inf
    if quantity == "bound, annealed":
        return ANNEALED
    words = quantity.split()
    return float(words[1]) if words[:1] == ["bound,"] and words[1:2] and words[1].isdigit() else 0


def _statistics(record: ScoreRecord) -> _Measured:
    """Gives two-sample statistics; shares are in percent."""
    conditions = {"samples": record.get("samples_each")}
    for row in dicts_in(record, "samples"):
        for measure in OF_RUNS:
            value = number_in(row, measure.key)
            if value is not None and measure.heading.endswith("%"):
                value *= 100
            yield str(row.get("method")), measure.key, _measurement(value, None, conditions)


def _qualities(record: ScoreRecord) -> _Measured:
    quality = record["quality"]
    shared = {
        "weights of the features": str(quality.get("features_sha256"))[:12],
        "preprocessing": quality.get("preprocessing"),
        "reference": quality.get("reference"),
        "content of the reference": str(quality.get("reference_sha256"))[:12],
        "reference images": quality.get("reference_count"),
    }
    for row in dicts_in(quality, "rows"):
        conditions = {**shared, "samples": row.get("count")}
        for key in (measure.key for measure in OF_QUALITY):
            error = number_in(row, _ERRORS.get(key, f"{key}_error"))
            measured = _measurement(number_in(row, key), error, conditions)
            yield str(row.get("samples")), f"{quality.get('features')}:{key}", measured


def _measurement(
    value: float | None, error: float | None, conditions: Mapping[str, Any], bound: int = 0
) -> Measurement | None:
    return None if value is None else Measurement(value, error, bound, conditions)
