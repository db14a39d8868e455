"""`smoothctl compare`."""

from pathlib import Path
from typing import Annotated

import typer

from smoothctl.cli import completion, options
from smoothctl.cli.console import Notes, print_json
from smoothctl.errors import UsageError

__all__ = ["command"]


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…",
            help="Run folders that have been scored.",
            autocompletion=completion.runs,
        ),
    ],
    average: Annotated[
        bool,
        typer.Option(
            "--mean",
            help="Show runs that differ in their seed alone as one: mean ± half the range.",
        ),
    ] = False,
    published: Annotated[
        bool,
        typer.Option(
            "--published/--no-published",
            help="Published figures of the same dataset below those that were measured.",
        ),
    ] = True,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a paper's draft.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Compare runs in one table a dataset: the newest scores, the best in bold.

    Only figures that were measured alike are compared; notes name what differs in the others.
    """
    from smoothctl.evaluation.compare import compare
    from smoothctl.reporting.scores import comparison_table
    from smoothctl.reporting.tables import markdown, print_table, say
    from smoothctl.runs.run import load_run

    if as_json and as_markdown:
        raise UsageError("--json and --markdown exclude each other: choose one.")
    note = Notes(quiet).note
    comparisons = compare([load_run(path, note=note) for path in runs], published, average)
    if as_json:
        print_json([comparison.to_dict() for comparison in comparisons])
        return
    tables = [comparison_table(comparison) for comparison in comparisons]
    if as_markdown:
        say(*"\n".join(map(markdown, tables)).removesuffix("\n").split("\n"))
        return
    for table in tables:
        print_table(table, notes=not quiet)
