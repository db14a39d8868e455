"""A table of runs: its columns, rows and cells."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Cell", "Column", "Row", "Table"]


@dataclass(frozen=True)
class Column:
    """A figure: its key, what it is called, which direction is better, how it is shown."""

    key: str
    heading: str
    better: Literal["lower", "higher", ""]
    digits: int

    @property
    def title(self) -> str:
        """The heading with an arrow towards the better."""
        return self.heading + {"lower": " ↓", "higher": " ↑", "": ""}[self.better]


@dataclass(frozen=True)
class Cell:
    """A measured figure.

    Args:
        value: the figure.
        error: its standard error, deviation or, of several seeds, half their range.
        bound: draws of a bound on the negative log-likelihood from above; 0: exact.
        conditions: what it was measured with; only equal ones are comparable.
        best: the best of the comparable ones.
        note: letter of the note that says why it is not compared.
    """

    value: float
    error: float | None = None
    bound: int = 0
    conditions: Mapping[str, Any] = field(default_factory=dict)
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A model's figures by column key; floors and published figures are not compared."""

    run: str
    model: str
    cells: Mapping[str, Cell]
    kind: Literal["measured", "floor", "published"] = "measured"


@dataclass(frozen=True)
class Table:
    """Rows over one dataset, the columns that any of them has, and what must be said of them."""

    dataset: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)
