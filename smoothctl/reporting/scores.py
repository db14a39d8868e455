"""The tables of what was scored, from records of scores.json."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from smoothctl.evaluation.compare import Comparison, of_records
from smoothctl.evaluation.measurements import Measure, Measurement, ScoreRecord, dicts_in, number_in
from smoothctl.reporting.tables import MISSING, Bold, Table, decimals, left, print_table, right, say

__all__ = [
    "annealing_sentence",
    "comparison_table",
    "gain_sentence",
    "likelihood_table",
    "print_quality",
    "print_scores",
    "shown",
]

_FIGURES = 5
"""Significant figures that are shown at most."""

_UNITS = {
    "bits/dim": ("bits_per_dim", "bits_per_dim_error"),
    "nats": ("nats", "standard_error"),
}
"""Unit -> keys of an estimate and of its error."""


def shown(measurement: Measurement | None, measure: Measure) -> str:
    """Returns a measurement as text: '≤ 2.679 ± 0.008 [a]', the best in bold; or a dash."""
    if measurement is None:
        return MISSING
    largest = max(abs(measurement.value), 1e-9)
    digits = min(measure.digits, max(0, _FIGURES - 1 - math.floor(math.log10(largest))))
    value = f"{'≤ ' if measurement.bound else ''}{measurement.value:.{digits}f}"
    error = "" if measurement.error is None else f" ± {measurement.error:.{digits}f}"
    note = f" [{measurement.note}]" if measurement.note else ""
    text = value.replace("-", "−") + error + note
    return Bold(text) if measurement.best else text


def comparison_table(comparison: Comparison, runs: bool = True, title: str = "") -> Table:
    """Returns a row for each model, in the sections measured, floors and published.

    Args:
        comparison: of several runs or of one.
        runs: say which run a model is of.
        title: of the table; the dataset if empty.
    """
    columns = comparison.columns
    sections: dict[str, list[list[str]]] = {}
    for row in comparison.rows:
        names = [row.run, row.model] if runs else [row.model]
        cells = [shown(row.cells.get(column.key), column) for column in columns]
        sections.setdefault(row.kind, []).append([*names, *cells])
    names = ["run", "model"] if runs else ["model"]
    heads = [*left(*names), *right(*(column.title for column in columns))]
    return Table(title or comparison.dataset, heads, list(sections.values()), comparison.notes)


def likelihood_table(record: ScoreRecord, every_unit: bool = False) -> Table:
    """Returns every estimate of the likelihood, and the true entropy.

    Args:
        record: one scoring of a run.
        every_unit: show nats beside bits/dim, where there are these.
    """
    estimates = dicts_in(record, "likelihood")
    in_bits = any(number_in(e, "bits_per_dim") is not None for e in estimates)
    units = ["bits/dim", "nats"] if in_bits else ["nats"]
    units = units if every_unit else units[:1]
    rows = [
        [
            str(e.get("model")),
            str(e.get("quantity")),
            *(decimals(e.get(key), 4) for unit in units for key in _UNITS[unit]),
            str(e.get("examples")),
        ]
        for e in estimates
    ]
    sections = [rows]
    if (entropy := number_in(record, "true_entropy")) is not None:
        empty = [""] * (2 * len(units) - 2)
        sections.append([["data", "true entropy", *empty, decimals(entropy, 4), "", ""]])
    heads = [*left("model", "quantity"), *right(*(h for u in units for h in (u, "± s.e.")))]
    title = f"Negative log-likelihood on {record.get('dataset')}, {units[0]} (lower is better)"
    return Table(title, [*heads, *right("examples")], sections)


def gain_sentence(record: ScoreRecord) -> str:
    """Returns what an example's own x̃ tells the denoiser beyond another's; '' if not scored."""
    gain = record.get("gain")
    if not isinstance(gain, dict):
        return ""
    unit = "nats" if number_in(gain, "bits_per_dim") is None else "bits/dim"
    value, error = (decimals(gain.get(key), 4) for key in _UNITS[unit])
    return (
        f"Gain from x̃, an example's own against another's: {value} ± {error} {unit} "
        f"({gain.get('examples')} examples, higher is better)"
    )


def annealing_sentence(record: ScoreRecord) -> str:
    """Returns how well the chains of annealing went; '' where nothing was annealed."""
    figures = record.get("annealing")
    if not isinstance(figures, dict) or not isinstance(figures.get("settings"), dict):
        return ""
    work = ", ".join(f"{name} {value}" for name, value in figures["settings"].items())
    accepted, effective, spread = (
        number_in(figures, key) for key in ("acceptance", "effective_chains", "spread")
    )
    said = f"Annealing ({work}): {100 * (accepted or 0):.0f} % of moves accepted"
    if spread is None:
        return said
    said += f"; log w differs by {spread:.3g} nats between chains, of which"
    return said + f" {effective:.3g} count"


def print_scores(record: ScoreRecord) -> None:
    """Prints the likelihoods, then the figures of samples, then what is not available."""
    print_table(likelihood_table(record))
    if gain := gain_sentence(record):
        say(gain)
    if annealing := annealing_sentence(record):
        say(annealing)
    if record["samples"]:
        print_table(_samples_table(record))
    if record["quality"] is not None:
        print_quality(record["quality"])
    _print_missing(record["not_available"])


def print_quality(quality: Mapping[str, Any]) -> None:
    """Prints the figures of sets of images, what to know of them, and what is not available."""
    print_table(_quality_table(quality))
    for name, value in quality["details"].items():
        text = f"{value:.4g}" if isinstance(value, float) else value
        say(f"{quality['features']}: {name} {text}")
    for warning in quality["warnings"]:
        say(f"Note: {warning}")
    _print_missing(quality["not_available"])


def _print_missing(reasons: Mapping[str, str]) -> None:
    for name, reason in reasons.items():
        say(f"{name}: not available: {reason}")


def _samples_table(record: ScoreRecord) -> Table:
    rows = [
        [
            str(row["method"]),
            decimals(row["energy_distance"], 5),
            decimals(row["sliced_wasserstein"], 4),
            _told_apart(row),
            MISSING if row["off_support"] is None else f"{100 * row['off_support']:.2f} %",
        ]
        for row in record["samples"]
    ]
    figures = ("energy distance", "sliced Wasserstein", "told apart (p)", "off the support")
    known = [0, *(i for i in range(1, 5) if any(row[i] != MISSING for row in rows))]
    heads = [*left("samples"), *right(*figures)]
    title = f"{record['samples_each']} samples against test data (lower is better)"
    return Table(title, [heads[i] for i in known], [[[row[i] for i in known] for row in rows]])


def _told_apart(row: ScoreRecord) -> str:
    """Returns the accuracy of the classifier of samples against test data, with its p-value."""
    accuracy, p = row["classifier_accuracy"], row["classifier_p"]
    if accuracy is None or p is None:
        return MISSING
    return f"{100 * accuracy:.1f} % ({'< 0.001' if p < 0.001 else f'{p:.3f}'})"


def _quality_table(quality: Mapping[str, Any]) -> Table:
    """Returns a row for each figure, and a column for each set of images."""
    title = (
        f"Images against {quality['reference_count']} of {quality['reference']}, by the features "
        f"'{quality['features']}'"
    )
    comparison = of_records([{"quality": quality}])
    table = comparison_table(comparison, runs=False, title=title).transposed("figure")
    counts = {row["samples"]: str(row["count"]) for row in quality["rows"]}
    images = ["images", *(counts[column.heading] for column in table.columns[1:])]
    return replace(table, sections=[[images, *table.sections[0]]])
