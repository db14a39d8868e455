"""`smoothctl report`."""

from pathlib import Path
from typing import Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.targets import open_run
from smoothctl.errors import RunError, UsageError
from smoothctl.reporting.tables import say

__all__ = ["command"]


def command(
    run: options.RunFolder = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The .html file to write.", show_default="RUN/report.html"),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--number",
            min=1,
            help="Samples of each method.",
            show_default="2000; 36 images",
        ),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples/--no-samples", help="Draw samples for the page.")
    ] = True,
    seed: options.Seed = 0,
    weights: options.Weights = "last",
    device: options.Device = "auto",
    dataset: options.RunData = None,
    overwrite: options.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write a run's report: one HTML page with all that belongs to it, readable anywhere.

    Settings, curves, samples, scores and the commands that recreate it; it needs no network.
    """
    from smoothctl.reporting.page import write_report

    notes = Notes(quiet)
    opened = open_run(run, weights, device, notes, dataset=dataset)
    path = out or opened.path / "report.html"
    _check(path, overwrite or out is None)
    missing: list[str] = []
    with notes.work() as progress:
        write_report(
            opened,
            path,
            number=n,
            seed=seed,
            samples=samples,
            progress=progress("samples"),
            note=missing.append,
        )
    for sentence in missing:
        notes.note(sentence)
    if as_json:
        print_json({"run": str(opened.path), "report": str(path), "missing": missing})
    else:
        say(str(path))


def _check(path: Path, overwrite: bool) -> None:
    """Checks, before any work, that the page may be written."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"The report is an .html file: name --out {path}.html.")
    if path.is_dir():
        raise RunError(f"{path} is a folder: choose another --out.")
    if path.exists() and not overwrite:
        raise RunError(f"{path} is there already: choose another --out, or --overwrite it.")
