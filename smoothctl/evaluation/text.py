"""Tables as text: cells, and Markdown for papers."""

import math
from collections.abc import Callable

from smoothctl.evaluation.tables import Cell, Column, Table

__all__ = ["markdown", "shown"]

_FIGURES = 5
"""Significant figures that are shown at most."""


def shown(cell: Cell | None, column: Column, strong: Callable[[str], str] = str) -> str:
    """Returns a cell as text: '≤ 2.679 ± 0.008 [a]', or a dash.

    Args:
        cell: the figure; None where there is none.
        column: its column.
        strong: emphasises the figure of the best.
    """
    if cell is None:
        return "–"
    largest = max(abs(cell.value), 1e-9)
    digits = min(column.digits, max(0, _FIGURES - 1 - math.floor(math.log10(largest))))
    value = f"{'≤ ' if cell.bound else ''}{cell.value:.{digits}f}".replace("-", "−")
    error = "" if cell.error is None else f" ± {cell.error:.{digits}f}"
    return (strong(value) if cell.best else value) + error + f" [{cell.note}]" * bool(cell.note)


def markdown(table: Table) -> str:
    """Returns a table in Markdown, the best figures between asterisks."""
    head = ["run", "model", *(column.title for column in table.columns)]
    lines = [head, ["---", "---", *["---:"] * len(table.columns)]]
    for row in table.rows:
        cells = [shown(row.cells.get(c.key), c, lambda text: f"**{text}**") for c in table.columns]
        lines.append([_plain(row.run), _plain(row.model), *cells])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"\n- {_plain(note)}" for note in table.notes)
    return f"### {_plain(table.dataset)}\n\n{body}\n" + (f"{notes}\n" if notes else "")


def _plain(text: str) -> str:
    """Returns text that Markdown shows as it is."""
    for letter in "\\|*_`<[":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())
