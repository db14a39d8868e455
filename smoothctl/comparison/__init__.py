"""Runs side by side: `compare`, `scores_table`, and their tables."""

from smoothctl.comparison.entries import Entry, latest
from smoothctl.comparison.runs import compare, scores_table
from smoothctl.comparison.tables import Cell, Column, Row, Table
from smoothctl.comparison.text import markdown, shown

__all__ = [
    "Cell",
    "Column",
    "Entry",
    "Row",
    "Table",
    "compare",
    "latest",
    "markdown",
    "scores_table",
    "shown",
]
