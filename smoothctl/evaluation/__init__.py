"""Runs side by side: `compare`, `scores_table`, and their tables."""

from smoothctl.evaluation.compare import compare, scores_table
from smoothctl.evaluation.entries import Entry, latest
from smoothctl.evaluation.tables import Cell, Column, Row, Table
from smoothctl.evaluation.text import markdown, shown

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
