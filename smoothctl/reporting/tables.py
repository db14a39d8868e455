"""What is printed: lines, tables for the terminal and Markdown, and how numbers are written."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from smoothctl.errors import escaped

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = [
    "MISSING",
    "Bold",
    "Column",
    "Table",
    "decimals",
    "duration",
    "is_number",
    "left",
    "markdown",
    "print_table",
    "right",
    "say",
]

MISSING = "–"
"""Stands where a number is not known."""

_WIDTH, _NAME = 100, 26
"""Characters of a line where stdout is no terminal, and of a name in a table that is cut."""

_INFINITE = 1e100
"""What is as good as infinite."""


class Bold(str):
    """The text of a cell that stands out."""

    __slots__ = ()


@dataclass(frozen=True)
class Column:
    """A heading; the numbers below it are aligned on the right, names and words on the left."""

    heading: str
    right: bool = False


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Args:
        title: above the table.
        columns: their headings; a table without any has no head.
        sections: rows of cells, with lines between the sections.
        notes: sentences below.
    """

    title: str
    columns: Sequence[Column]
    sections: Sequence[Sequence[Sequence[str]]]
    notes: Sequence[str] = ()

    def transposed(self, corner: str) -> "Table":
        """Returns the table with a row for each column and a column for each row.

        Args:
            corner: the heading of the new first column.
        """
        rows = [row for section in self.sections for row in section]
        heads, *body = zip((column.heading for column in self.columns), *rows, strict=True)
        return Table(self.title, [*left(corner), *right(*heads[1:])], [body], self.notes)


def left(*headings: str) -> list[Column]:
    """Returns columns of names and words."""
    return [Column(heading) for heading in headings]


def right(*headings: str) -> list[Column]:
    """Returns columns of numbers."""
    return [Column(heading, right=True) for heading in headings]


def is_number(value: Any) -> TypeGuard[float]:
    """Returns whether a value is a finite number."""
    return isinstance(value, int | float) and abs(value) < _INFINITE


def decimals(value: Any, digits: int) -> str:
    """Returns a number with so many decimals, or a dash for what is no finite number."""
    return f"{value:.{digits}f}".replace("-", "−") if is_number(value) else MISSING


def duration(seconds: float) -> str:
    """Returns such as '40 s', '12 min' or '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say(*lines: str) -> None:
    """Prints lines on stdout, with what others wrote `escaped`."""
    sys.stdout.write("".join(f"{escaped(line)}\n" for line in lines))


def print_table(table: Table, notes: bool = True) -> None:
    """Prints a table on stdout, at least 100 columns wide where stdout is no terminal.

    Args:
        table: what to print; numbers that do not fit beside others come in parts below.
        notes: print its notes, too.
    """
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, width=max(_WIDTH, console.width))
    table = _readable(table)
    title = table.title
    for widths in _parts(table, console.width):
        console.print(_shape(table, title, widths))
        title = f"{table.title} (continued)"
    say(*(table.notes if notes else ()))


def markdown(table: Table) -> str:
    """Returns a table in Markdown, below its title if it has one, bold text between **."""
    rows = [[column.heading for column in table.columns], *_rows(table)]
    lines = [f"| {' | '.join(map(_in_markdown, row))} |" for row in rows]
    rule = " | ".join("---:" if column.right else "---" for column in table.columns)
    body = "\n".join([lines[0], f"| {rule} |", *lines[1:]])
    notes = "".join(f"\n- {_in_markdown(note)}" for note in table.notes)
    heading = f"### {_in_markdown(table.title)}\n\n" if table.title else ""
    return f"{heading}{body}\n" + (f"{notes}\n" if notes else "")


def _in_markdown(text: str) -> str:
    """Returns text that Markdown shows as it is."""
    plain = escaped(" ".join(re.sub(r"[\\|*_`<[]", r"\\\g<0>", text).split()))
    return f"**{plain}**" if isinstance(text, Bold) else plain


def _readable(table: Table) -> Table:
    """Returns a table with all that others wrote `escaped`."""
    columns = [replace(column, heading=escaped(column.heading)) for column in table.columns]
    sections = [[list(map(_readable_cell, row)) for row in rows] for rows in table.sections]
    return Table(escaped(table.title), columns, sections, table.notes)


def _readable_cell(text: str) -> str:
    return Bold(escaped(text)) if isinstance(text, Bold) else escaped(text)


def _rows(table: Table) -> Iterator[Sequence[str]]:
    for section in table.sections:
        yield from section


def _parts(table: Table, room: int) -> Sequence[Mapping[int, int | None]]:
    """Returns the columns of each part of a table and their widths; None: as wide as they like.

    Names are in every part, numbers in one.
    """
    cells = {i: [row[i] for row in _rows(table)] for i in range(len(table.columns))}
    whole = {
        i: max(map(cell_len, [table.columns[i].heading, *texts])) for i, texts in cells.items()
    }
    numbers = [i for i in cells if table.columns[i].right]
    if not numbers or _total(whole.values()) <= room:
        return [dict.fromkeys(whole)]
    names = {i: min(whole[i], _NAME) for i in cells if i not in numbers}
    parts = [dict(names)]
    for i in numbers:
        words = (min(cell_len(word), _NAME) for word in _heading(table.columns[i]).split(" "))
        width = max([*words, *map(cell_len, cells[i])])
        if len(parts[-1]) > len(names) and _total([*parts[-1].values(), width]) > room:
            parts.append(dict(names))
        parts[-1][i] = width
    return parts


def _total(widths: Collection[int]) -> int:
    """Returns how wide a table is with its lines."""
    return sum(widths) + 3 * len(widths) + 1


def _heading(column: Column) -> str:
    """Returns the heading, an arrow bound to its last word."""
    return re.sub(" (?=[↓↑]$)", "\u00a0", column.heading)


def _shape(table: Table, title: str, widths: Mapping[int, int | None]) -> "RichTable":
    """Returns some columns of a table; rows that have none of their numbers are left out."""
    from rich.table import Table as RichTable

    headed = any(column.heading for column in table.columns)
    shape = RichTable(title=title or None, title_justify="left", show_header=headed)
    for i, width in widths.items():
        column = table.columns[i]
        shape.add_column(
            Text(_heading(column)),
            justify="right" if column.right else "left",
            width=width,
            overflow="fold",
        )
    for section in table.sections:
        shape.add_section()
        for row in section:
            numbers = {row[i] for i in widths if table.columns[i].right}
            if numbers != {MISSING} or len(widths) == len(table.columns):
                texts = (Text(row[i], "bold" * isinstance(row[i], Bold)) for i in widths)
                shape.add_row(*texts)
    return shape
