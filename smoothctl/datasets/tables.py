"""A user's own vectors from a .csv or .tsv file, read through `datasets`: one a row."""

import csv
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from pydantic import Field

from smoothctl.config import as_dict, build, config
from smoothctl.datasets.base import Note
from smoothctl.datasets.library import quietly
from smoothctl.datasets.rows import Rows, RowsDataset, check_file, checked, counted, listed, split
from smoothctl.errors import DataError, UsageError, near_misses
from smoothctl.registry.registry import printable

__all__ = ["SUFFIXES", "TableDataset", "TableSettings"]

SUFFIXES = (".csv", ".tsv")
_MISSING = {"", "na", "n/a", "nan", "null", "none"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_LONGEST = 2**24
"""Bytes of a line."""

_BATCH = 10_000
_SHOWN = 20
_REMEDY = "save the table as CSV in UTF-8"


@config
class TableSettings:
    """What is taken of a table."""

    columns: int | str | list[int | str] | None = Field(
        None,
        description="columns of numbers to take, such as a,b; numbered from 1 where there is no "
        "line of names; none: all",
    )


class TableDataset(RowsDataset):
    """Vectors from a table of numbers, one a row.

    Commas, semicolons or tabs separate the cells. The first line is of names unless it is all
    numbers. A seeded tenth of the rows is held out for testing, and a tenth of the rest for
    validation.

    Args:
        path: the file.
        options: settings of `TableSettings`.
        note: told what a person should know.

    Raises:
        UsageError: an unknown setting, or a column that there is not.
        DataError: missing, no table, or rows that are ragged, too few, or not all numbers.
    """

    summary = "vectors from a .csv or .tsv file"
    Config = TableSettings

    def __init__(
        self, path: str, options: Mapping[str, Any] | None = None, note: Note | None = None
    ) -> None:
        super().__init__(path)
        chosen = {key: value for key, value in (options or {}).items() if value is not None}
        settings = build(TableSettings, chosen, path)
        self.options = {key: as_dict(settings)[key] for key in chosen}
        layout = _read_layout(self._path)
        if note is not None and layout.doubtful:
            note(
                f"Takes the first line of {path} for names, though some are numbers: put a line of "
                "names above it if it is a row."
            )
        rest, test = split(checked(_rows(layout, _chosen(layout, settings.columns))))
        self._show(rest, test)


class _Layout(NamedTuple):
    """How a table is laid out."""

    path: Path
    separator: str
    names: list[str]
    named: bool
    """Whether the first line is of names."""

    doubtful: bool
    """Whether some of the names are numbers."""

    lines: Sequence[int]
    """The line of each row."""


def _read_layout(path: Path) -> _Layout:
    """Goes through a table once: every row must have as many cells as the first line."""
    check_file(path, "a table")
    try:
        with path.open("rb") as file:
            return _layout(path, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except csv.Error as error:
        said = str(error).partition(" - ")[0]
        raise DataError(f"{path} is no table that can be read ({said}): {_REMEDY}.") from error


def _layout(path: Path, file: BinaryIO) -> _Layout:
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(islice(_text(path, file), 10))
    file.seek(0)
    rows = _parsed(_text(path, file), separator)
    line, first = next(rows, (0, []))
    if not first:
        raise DataError(f"{path} is empty: it must hold a row of numbers a line.")
    numbers = [_number(cell) is not None for cell in first]
    named = not all(numbers)
    lines = array("q", [] if named else [line])
    for line, row in rows:
        if len(row) != len(first):
            raise DataError(
                f"Line {line} of {path} has {counted(len(row), 'cell')}, and its first line has "
                f"{len(first)}: give all rows the same number."
            )
        lines.append(line)
    if not lines:
        raise DataError(f"{path} has a line of names and no rows: at least 20 are needed.")
    names = [(named and cell.strip()) or str(i) for i, cell in enumerate(first, 1)]
    doubtful = named and any(ok and cell.strip() for ok, cell in zip(numbers, first, strict=True))
    return _Layout(path, separator, names, named, doubtful, lines)


def _text(path: Path, file: BinaryIO) -> Iterator[str]:
    """Reads lines of UTF-8, the mark of byte order left out."""
    for number, line in enumerate(iter(partial(file.readline, _LONGEST), b""), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise DataError(f"Line {number} of {path} is no UTF-8 text: {_REMEDY}.")
        if len(line) == _LONGEST:
            raise DataError(f"Line {number} of {path} is longer than {_LONGEST:,} bytes.")
        yield text


def _parsed(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the cells of each row with the number of its line; blank lines are left out."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    return ((reader.line_num, row) for row in reader if len(row) > 1 or "".join(row).strip())


def _separator(lines: Iterable[str]) -> str:
    """Returns the separator that splits most lines into the same number of cells."""
    sample = list(lines)

    def agreeing(separator: str) -> int:
        counts = Counter(len(row) for _, row in _parsed(sample, separator) if len(row) > 1)
        return max(counts.values(), default=0)

    return max("\t;,", key=agreeing)


def _number(cell: str) -> float | None:
    """Returns a cell's number, NaN where it is missing; None where it is text."""
    try:
        value = float(cell)
    except ValueError:
        return np.nan if cell.strip().lower() in _MISSING else None
    return None if "_" in cell else value  # Python takes 1_000 for 1000


def _chosen(layout: _Layout, columns: int | str | list[int | str] | None) -> list[int]:
    """Returns the indices of the chosen columns, in the order of the choice."""
    if columns is None:
        return list(range(len(layout.names)))
    wanted = columns.split(",") if isinstance(columns, str) else columns
    names = [str(name).strip() for name in (wanted if isinstance(wanted, list) else [wanted])]
    for name, times in Counter(names).items():
        held = layout.names.count(name)
        if held != 1:
            many = f"{layout.path} has {held} columns '{printable(name)}': rename all but one."
            raise UsageError(many if held else _unknown(layout, name))
        if times > 1:
            raise UsageError(
                f"The column '{printable(name)}' is chosen {times} times: once will do."
            )
    if not names:
        raise UsageError(f"No column of {layout.path} is chosen: name one, or leave columns out.")
    return [layout.names.index(name) for name in names]


def _unknown(layout: _Layout, name: str) -> str:
    known = [printable(held, 40) for held in layout.names]
    hint = near_misses(name, known) if len(known) <= _SHOWN else f"; it has {len(known)} columns"
    unnamed = "" if layout.named else "; without a line of names they are numbered from 1"
    return f"{layout.path} has no column '{printable(name)}'{hint}{unnamed}"


def _rows(layout: _Layout, chosen: list[int]) -> Rows:
    """Reads the chosen columns as float64."""
    names = [printable(layout.names[column], 40) for column in chosen]
    parts, start = [], 0
    for cells in _batches(layout, chosen):
        values = [list(map(_number, column)) for column in cells]
        if any(None in column for column in values):
            _refuse_text(layout, names, cells, values, start)
        parts.append(np.array(values, dtype=np.float64).T)
        start += len(parts[-1])
    if start != len(layout.lines):
        raise DataError(
            f"{layout.path} is no table that can be read: it has {len(layout.lines)} lines of "
            f"cells and {start} rows: leave quotation marks out."
        )
    return Rows(str(layout.path), np.concatenate(parts), layout.lines, names, "line", "missing")


def _batches(layout: _Layout, chosen: list[int]) -> Iterator[list[list[str]]]:
    """Reads the cells of the chosen columns, some thousand rows at a time, column by column."""
    keys = [str(column) for column in chosen]
    with TemporaryDirectory() as folder, quietly(str(layout.path), "restore it") as datasets:
        from datasets.io.csv import CsvDatasetReader

        link = Path(folder, "table.csv")  # the library takes [ and * in a path for a pattern
        link.symlink_to(layout.path.absolute())
        table = CsvDatasetReader(
            str(link),
            streaming=True,
            cache_dir=folder,
            features=datasets.Features({key: datasets.Value("string") for key in keys}),
            sep=layout.separator,
            header=0 if layout.named else None,
            column_names=[str(column) for column in range(len(layout.names))],
            usecols=keys,
            na_filter=False,
            skipinitialspace=True,
            encoding="utf-8-sig",
        ).read()
        for batch in table.with_format("arrow").iter(_BATCH):
            yield [batch.column(key).to_pylist() for key in keys]


def _refuse_text(
    layout: _Layout,
    names: list[str],
    cells: list[list[str]],
    values: list[list[float | None]],
    start: int,
) -> None:
    """Names the columns of text, and one cell of them.

    Raises:
        DataError: always.
    """
    texts = [i for i, column in enumerate(values) if None in column]
    first, row = texts[0], values[texts[0]].index(None)
    example = f"'{printable(cells[first][row], 40)}' in line {layout.lines[start + row]}"
    if _DECIMAL_COMMA.fullmatch(cells[first][row].strip()):
        raise DataError(f"{layout.path} has {example}: write decimals with a point, not a comma.")
    numeric = [name for i, name in enumerate(names) if i not in texts]
    hint = ",".join(numeric[:_SHOWN]) + ",…" * (len(numeric) > _SHOWN)
    advice = f"take the columns of numbers with `data.columns={hint}`"
    raise DataError(
        f"{layout.path} holds text ({listed('column', (names[i] for i in texts))}), such as "
        f"{example}: {advice if numeric else 'a column of numbers is needed'}."
    )
