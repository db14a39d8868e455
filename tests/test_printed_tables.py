"""Tables as a person sees them: in a terminal, cut where they are too wide, and in Markdown."""

import pytest

from smoothctl.reporting.tables import (
    Bold,
    Table,
    decimals,
    duration,
    left,
    markdown,
    print_table,
    right,
)

SMALL = Table("a [b]", [*left("name"), *right("x ↓")], [[["one_", Bold("1.0")]], [["[red]", "–"]]])


def test_a_table_has_its_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(SMALL)
    assert capsys.readouterr().out.splitlines() == [
        "a [b]          ",
        "┏━━━━━━━┳━━━━━┓",
        "┃ name  ┃ x ↓ ┃".replace("x ↓", "x\u00a0↓"),
        "┡━━━━━━━╇━━━━━┩",
        "│ one_  │ 1.0 │",
        "├───────┼─────┤",
        "│ [red] │   – │",
        "└───────┴─────┘",
    ]


def test_without_headings_there_is_no_head(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table("", left("", ""), [[["key", "value"]]], ["A note."]))
    assert capsys.readouterr().out == (
        "┌─────┬───────┐\n│ key │ value │\n└─────┴───────┘\nA note.\n"
    )


def test_numbers_that_do_not_fit_come_below(capsys: pytest.CaptureFixture[str]) -> None:
    many = [f"{'long ' * 3}heading {i} ↓" for i in range(12)]
    rows = [["a" * 40, *("123.45 ± 0.67" for _ in many)], ["floor", *["1"], *["–"] * 11]]
    table = Table("wide", [*left("model"), *right(*many)], [rows], ["Once."])
    print_table(table)
    out = capsys.readouterr().out
    assert out.count("wide (continued)") == 2
    assert max(map(len, out.splitlines())) <= 100
    assert out.count("123.45 ± 0.67") == 12
    assert out.count("a" * 26) == 3
    assert out.count("floor") == 1
    assert out.count("Once.") == 1
    print_table(table, notes=False)
    assert "Once." not in capsys.readouterr().out


def test_words_are_folded_and_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table("", left("name", "what"), [[["x" * 30, "word " * 60]]]))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert out.count("word") == 60


def test_rows_become_columns() -> None:
    turned = SMALL.transposed("figure")
    assert [column.heading for column in turned.columns] == ["figure", "one_", "[red]"]
    assert [list(map(list, section)) for section in turned.sections] == [[["x ↓", "1.0", "–"]]]
    assert isinstance(turned.sections[0][0][1], Bold)


def test_markdown_is_escaped() -> None:
    assert markdown(SMALL) == (
        "### a \\[b]\n\n| name | x ↓ |\n| --- | ---: |\n| one\\_ | **1.0** |\n| \\[red] | – |\n"
    )


def test_numbers_and_times() -> None:
    assert [decimals(value, 2) for value in (-1.234, 1e300, None, "1", float("nan"))] == [
        "−1.23",
        *["–"] * 4,
    ]
    assert [duration(seconds) for seconds in (40, 700, 12_600)] == ["40 s", "12 min", "3.5 h"]
