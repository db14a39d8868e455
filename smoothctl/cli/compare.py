"""`smoothctl compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import print_json, print_table
from smoothctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smoothctl.evaluation import Column, Table

__all__ = ["command"]

_WIDTH, _NAME = 100, 26
"""Characters of a table where stdout is no terminal, and of a name before it is folded."""


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
    from smoothctl.evaluation import compare, markdown
    from smoothctl.runs.run import load_run

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
    """Prints as many columns at a time as fit, and then the notes."""
    title = table.dataset
    for columns in _parts(table):
        _print_part(table, title, columns)
        title = f"{table.dataset} (continued)"
    for note in [] if quiet else table.notes:
        print(note)


def _parts(table: "Table") -> "Iterator[list[Column]]":
    """Cuts the columns into parts that are as wide as the terminal at most."""
    from rich.console import Console

    console = Console()
    room = console.width if console.is_terminal else max(_WIDTH, console.width)
    names = [max(len(text) for text in texts) for texts in zip(*_names(table), strict=True)]
    room -= sum(min(width, _NAME) + 3 for width in names) + 1
    part: list[Column] = []
    used = 0
    for column in table.columns:
        width = _width(table, column) + 3
        if part and used + width > room:
            yield part
            part, used = [], 0
        part.append(column)
        used += width
    yield part


def _names(table: "Table") -> list[tuple[str, str]]:
    return [("run", "model"), *((row.run, row.model) for row in table.rows)]


def _width(table: "Table", column: "Column") -> int:
    """Returns the characters of the longest figure, or of the longest word of the heading."""
    from smoothctl.evaluation import shown

    cells = [shown(row.cells.get(column.key), column) for row in table.rows]
    return max(map(len, [*cells, *_heading(column).split(" ")]))


def _heading(column: "Column") -> str:
    """Returns the title, its arrow bound to its last word."""
    return "\u00a0".join(column.title.rsplit(" ", 1)) if column.better else column.title


def _print_part(table: "Table", title: str, columns: "list[Column]") -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    from smoothctl.evaluation import shown

    shape = RichTable(title=title, title_justify="left")
    for names in zip(*_names(table), strict=True):
        width = min(_NAME, max(map(len, names)))
        shape.add_column(names[0], overflow="fold", width=width)
    for column in columns:
        shape.add_column(_heading(column), justify="right", width=_width(table, column))
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
