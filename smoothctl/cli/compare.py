"""`smoothctl compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import print_json, print_table
from smoothctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothctl.comparison import Column, Table

__all__ = ["command"]

_ACROSS = 6
"""Figures in one printed table."""


def command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders that have been scored.")
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
            help="Published figures below those of the same dataset with Inception features.",
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
    from smoothctl.comparison import compare, markdown
    from smoothctl.runs import load_run

    if as_json and as_markdown:
        raise UsageError("--json and --markdown exclude each other: choose one.")
    tables = compare([load_run(path) for path in runs], published, average)
    if as_json:
        print_json([table.to_dict() for table in tables])
    elif as_markdown:
        print("\n".join(map(markdown, tables)), end="")
    else:
        for table in tables:
            _print(table, quiet)


def _print(table: "Table", quiet: bool) -> None:
    """Prints the columns a few at a time, so that they fit a terminal, and then the notes."""
    for first in range(0, len(table.columns), _ACROSS):
        title = table.dataset + " (continued)" * bool(first)
        _print_part(table, title, table.columns[first : first + _ACROSS])
    for note in [] if quiet else table.notes:
        print(note)


def _print_part(table: "Table", title: str, columns: "Sequence[Column]") -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    from smoothctl.comparison import shown

    shape = RichTable(title=title, title_justify="left")
    shape.add_column("run", overflow="fold")
    shape.add_column("model", overflow="fold")
    for column in columns:
        shape.add_column(column.title, justify="right")
    kind = "measured"
    for row in table.rows:
        cells = [row.cells.get(column.key) for column in columns]
        if not any(cells):
            continue
        if row.kind != kind:
            shape.add_section()
            kind = row.kind
        texts = [
            Text(shown(cell, column), style="bold" if cell is not None and cell.best else "")
            for cell, column in zip(cells, columns, strict=True)
        ]
        shape.add_row(row.run, row.model, *texts)
    print_table(shape)
