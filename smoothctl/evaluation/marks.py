"""Which figures can be compared, and which of those is the best."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from smoothctl.evaluation.tables import Cell, Column, Row

__all__ = ["mark", "remarks"]

_CHANCE = {"kernel_distance": 0.0, "energy_distance": 0.0, "classifier_accuracy": 50.0}
"""What equal distributions get on average: below it lies chance alone."""


def mark(
    column: Column, rows: Sequence[Row], marked: list[dict[str, Cell]], notes: dict[str, str]
) -> None:
    """Marks the best figure of the largest group of comparable ones, and letters the others."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.kind == "measured" and column.key in row.cells:
            conditions = json.dumps(row.cells[column.key].conditions, sort_keys=True)
            groups.setdefault(conditions, []).append(index)
    if not groups:
        return
    main = max(groups, key=lambda key: len(groups[key]))
    for key in [key for key in groups if key != main]:
        text = _difference(json.loads(key), json.loads(main))
        letter = notes.setdefault(text, chr(ord("a") + len(notes) % 26))
        for index in groups[key]:
            marked[index][column.key] = replace(marked[index][column.key], note=letter)
    if len(groups[main]) < 2 or not column.better:
        return
    ranks = {index: _rank(column, rows[index].cells[column.key]) for index in groups[main]}
    for index in groups[main]:
        if ranks[index] == min(ranks.values()):
            marked[index][column.key] = replace(marked[index][column.key], best=True)


def _rank(column: Column, cell: Cell) -> float:
    """Returns a number that is lower for the better; what is no better than chance is equal."""
    least = [chance for key, chance in _CHANCE.items() if column.key.endswith(key)]
    value = max([cell.value, *least])
    return -value if column.better == "higher" else value


def _difference(conditions: Mapping[str, Any], main: Mapping[str, Any]) -> str:
    keys = [key for key in {**main, **conditions} if conditions.get(key) != main.get(key)]
    return "; ".join(f"{key} {conditions.get(key)} instead of {main.get(key)}" for key in keys)


def remarks(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    found = []
    draws = sorted({cell.bound for row in rows for cell in row.cells.values()} - {0})
    if draws:
        several = "; with more draws it is tighter, so mind the difference" * (len(draws) > 1)
        found.append(f"≤: a bound with {' or '.join(map(str, draws))} draws{several}.")
    if any(row.kind == "published" for row in rows):
        found.append(
            "Published figures stand for orientation: their numbers of samples and their "
            "preprocessing are their authors', so they are not compared."
        )
    if any(column.key.endswith("nearer_than_test") for column in columns):
        found.append("nearer than test: 0.5 is ideal, 1 is copying; copies: 0.01 is ideal.")
    return found
