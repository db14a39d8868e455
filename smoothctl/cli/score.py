"""`smoothctl score`."""

from typing import TYPE_CHECKING, Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json, print_table, work

if TYPE_CHECKING:
    from rich.table import Table

    from smoothctl.metrics.scores import Scores

__all__ = ["command", "print_scores"]


def command(
    run: options.RunFolder = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=2, help="Test examples, the first ones.", show_default="all; 1000 images"
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            min=1,
            help="Draws K of the importance-weighted bound.",
            show_default="256; 8 for images",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=0,
            help="Samples for the statistics (of images: on their pixels); 0: none.",
            show_default="5000; 64 images",
        ),
    ] = None,
    quadrature: Annotated[
        int | None,
        typer.Option(
            "--quadrature",
            min=0,
            help="Examples for the exact likelihood of two-step models in 1-d and 2-d; 0: none.",
            show_default="256",
        ),
    ] = None,
    seed: options.Seed = 0,
    weights: options.WeightsChoice = options.WeightsName.last,
    device: options.Device = options.DeviceChoice.auto,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Score a run: likelihood bounds beside the true entropy, samples beside true samples.

    Of images it gives bits/dim (JSON has nats beside them) and takes fewer examples and draws.
    """
    from smoothctl.cli.opening import open_run
    from smoothctl.metrics.scores import EFFORTS, append_scores, score_run
    from smoothctl.sampling import is_image_run

    notes = Notes(quiet)
    opened = open_run(run, weights.value, device.value, notes)
    first = EFFORTS["image"].limit
    if limit is None and is_image_run(opened) and first and len(opened.dataset().test) > first:
        notes.note(f"Takes the first {first} test images; --limit takes others.")
    with work(quiet) as progress:
        scores = score_run(
            opened,
            limit=limit,
            draws=draws,
            samples=samples,
            quadrature=quadrature,
            seed=seed,
            progress=progress,
        )
    append_scores(opened, scores)
    print_json(scores.to_dict()) if as_json else print_scores(scores)


def print_scores(scores: "Scores") -> None:
    """Prints the likelihoods, then the two-sample statistics, then what is not available."""
    from rich.table import Table

    in_bits = any(e.bits_per_dim is not None for e in scores.likelihood)
    unit = "bits/dim" if in_bits else "nats"
    likelihood = Table(
        title=f"Negative log-likelihood on {scores.dataset}, {unit} (lower is better)",
        title_justify="left",
    )
    for heading in ("model", "quantity", unit, "± s.e.", "examples"):
        likelihood.add_column(
            heading, justify="left" if heading in ("model", "quantity") else "right"
        )
    for e in scores.likelihood:
        value, error = (
            (e.bits_per_dim, e.bits_per_dim_error) if in_bits else (e.nats, e.standard_error)
        )
        shown = ["n/a" if x is None else f"{x:.4f}" for x in (value, error)]
        likelihood.add_row(e.model, e.quantity, *shown, str(e.examples))
    if scores.true_entropy is not None:
        likelihood.add_section()
        likelihood.add_row("data", "true entropy", f"{scores.true_entropy:.4f}", "", "")
    print_table(likelihood)
    if scores.samples:
        print_table(_samples_table(scores))
    for name, reason in scores.not_available.items():
        print(f"{name}: not available: {reason}")


def _samples_table(scores: "Scores") -> "Table":
    from rich.table import Table

    table = Table(
        title=f"{scores.samples_each} samples against test data (lower is better)",
        title_justify="left",
    )
    table.add_column("samples")
    headings = ["energy distance", "sliced Wasserstein", "off the support"]
    supported = any(s.off_support is not None for s in scores.samples)
    for heading in headings if supported else headings[:2]:
        table.add_column(heading, justify="right")
    for s in scores.samples:
        off = [] if s.off_support is None else [f"{100 * s.off_support:.2f} %"]
        table.add_row(s.method, f"{s.energy_distance:.5f}", f"{s.sliced_wasserstein:.4f}", *off)
    return table
