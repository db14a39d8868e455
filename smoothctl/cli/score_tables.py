"""The tables that `smoothctl score` prints."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from smoothctl.cli.console import print_table

if TYPE_CHECKING:
    from rich.table import Table

    from smoothctl.evaluation.image_quality import Quality, QualityRow
    from smoothctl.evaluation.likelihood import Estimate
    from smoothctl.evaluation.scores import SampleScore, Scores

__all__ = ["print_quality", "print_scores"]


def print_scores(scores: "Scores") -> None:
    """Prints the likelihoods, then the figures of samples, then what is not available."""
    print_table(_likelihood_table(scores))
    if scores.gain is not None:
        _print_gain(scores.gain)
    if scores.samples:
        print_table(_samples_table(scores))
    if scores.quality is not None:
        print_quality(scores.quality)
    _print_missing(scores.not_available)


def _print_gain(gain: "Estimate") -> None:
    """Prints what a test example's own x̃ tells the denoiser beyond another's."""
    shown = f"{_number(gain.nats)} ± {_number(gain.standard_error)} nats"
    if gain.bits_per_dim is not None:
        shown = f"{_number(gain.bits_per_dim)} ± {_number(gain.bits_per_dim_error)} bits/dim"
    print(
        f"Gain from x̃, an example's own against another's: {shown} ({gain.examples} examples, "
        "higher is better)"
    )


def print_quality(quality: "Quality") -> None:
    """Prints the figures of sets of images, what to know of them, and what is not available."""
    print_table(_quality_table(quality))
    for name, value in quality.details.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        print(f"{quality.features}: {name} {shown}")
    for warning in quality.warnings:
        print(f"Note: {warning}")
    _print_missing(quality.not_available)


def _print_missing(reasons: dict[str, str]) -> None:
    for name, reason in reasons.items():
        print(f"{name}: not available: {reason}")


def _likelihood_table(scores: "Scores") -> "Table":
    from rich.table import Table

    in_bits = any(e.bits_per_dim is not None for e in scores.likelihood)
    unit = "bits/dim" if in_bits else "nats"
    table = Table(
        title=f"Negative log-likelihood on {scores.dataset}, {unit} (lower is better)",
        title_justify="left",
    )
    for heading in ("model", "quantity", unit, "± s.e.", "examples"):
        table.add_column(heading, justify="left" if heading in ("model", "quantity") else "right")
    for e in scores.likelihood:
        value, error = (
            (e.bits_per_dim, e.bits_per_dim_error) if in_bits else (e.nats, e.standard_error)
        )
        table.add_row(e.model, e.quantity, _number(value), _number(error), str(e.examples))
    if scores.true_entropy is not None:
        table.add_section()
        table.add_row("data", "true entropy", f"{scores.true_entropy:.4f}", "", "")
    return table


def _samples_table(scores: "Scores") -> "Table":
    from rich.table import Table

    table = Table(
        title=f"{scores.samples_each} samples against test data (lower is better)",
        title_justify="left",
    )
    columns: dict[str, Callable[[SampleScore], str | None]] = {
        "energy distance": lambda s: f"{s.energy_distance:.5f}",
        "sliced Wasserstein": lambda s: f"{s.sliced_wasserstein:.4f}",
        "told apart (p)": _told_apart,
        "off the support": _off_support,
    }
    shown = {
        heading: cells
        for heading, cell in columns.items()
        if any(cells := [cell(s) for s in scores.samples])
    }
    table.add_column("samples")
    for heading in shown:
        table.add_column(heading, justify="right")
    for row, s in enumerate(scores.samples):
        table.add_row(s.method, *(cells[row] or "n/a" for cells in shown.values()))
    return table


def _off_support(score: "SampleScore") -> str | None:
    return None if score.off_support is None else f"{100 * score.off_support:.2f} %"


def _told_apart(score: "SampleScore") -> str | None:
    """Returns the accuracy of the classifier of samples against test data, with its p-value."""
    if score.classifier_accuracy is None or score.classifier_p is None:
        return None
    p = "< 0.001" if score.classifier_p < 0.001 else f"{score.classifier_p:.3f}"
    return f"{100 * score.classifier_accuracy:.1f} % ({p})"


def _quality_table(quality: "Quality") -> "Table":
    from rich.table import Table

    table = Table(
        title=f"Images against {quality.reference_count} of {quality.reference}, by the features "
        f"'{quality.features}'",
        title_justify="left",
    )
    table.add_column("figure")
    for row in quality.rows:
        table.add_column(row.samples, justify="right", overflow="fold")
    for name, fields in _figures(quality.features == "inception").items():
        if any(getattr(row, fields[0]) is not None for row in quality.rows):
            table.add_row(name, *(_cell(row, fields) for row in quality.rows))
    return table


def _figures(published: bool) -> dict[str, tuple[str, ...]]:
    """Returns name -> figure and its error; the names of papers are for Inception's features."""
    return {
        "images": ("count",),
        "FID ↓" if published else "Fréchet distance ↓": ("frechet_distance",),
        "KID ↓" if published else "kernel distance ↓": (
            "kernel_distance",
            "kernel_distance_error",
        ),
        "Inception score ↑" if published else "class score ↑": (
            "inception_score",
            "inception_score_deviation",
        ),
        "precision ↑": ("precision",),
        "recall ↑": ("recall",),
        "density ↑": ("density",),
        "coverage ↑": ("coverage",),
        "nearer than test, ideal 0.5": ("nearer_than_test", "nearer_than_test_error"),
        "copies, ideal 0.01": ("copies",),
    }


def _cell(row: "QualityRow", fields: tuple[str, ...]) -> str:
    value, *errors = (getattr(row, field) for field in fields)
    if isinstance(value, int):
        return str(value)
    small = value is not None and fields[0] == "kernel_distance" and abs(value) < 1
    digits = 4 if small else 1 if value is not None and abs(value) >= 100 else 3
    known = [error for error in errors if error is not None and math.isfinite(error)]
    return " ± ".join(_number(each, digits) for each in (value, *known))


def _number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
