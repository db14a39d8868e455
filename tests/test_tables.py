"""Tables of numbers: every way to write one gives the same rows; any other gets a sentence."""

import gzip
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smoothctl.datasets import is_local, open_dataset
from smoothctl.datasets.base import Dataset
from smoothctl.errors import DataError, UsageError
from smoothctl.metrics.image_sets import open_images
from smoothctl.runs.run import load_run
from smoothctl.testing import CommandLine

ROWS = np.random.default_rng(0).normal(size=(30, 3)).tolist()
NAMES = ["a", "b", "c"]


def table(separator: str = ",", names: list[str] | None = NAMES, **cells: str) -> str:
    """The rows as text; r4c1="cat" puts a word into row 4, column 1, both counted from 0."""
    rows = [list(map(repr, row)) for row in ROWS]
    for where, cell in cells.items():
        row, column = map(int, where[1:].split("c"))
        rows[row][column] = cell
    lines = [names] * (names is not None) + rows
    return "".join(separator.join(line) + "\n" for line in lines)


def sorted_rows(data: Dataset) -> list[list[float]]:
    return sorted(torch.cat([v.head() for v in (data.train, data.validation, data.test)]).tolist())


GOOD = {
    "plain.csv": table(names=None),
    "names.csv": table(),
    "Capital.CSV": table(),
    "semicolon.csv": table(";"),
    "tab.csv": table("\t", None),
    "tab.tsv": table("\t"),
    "odd names.csv": table(names=["m;s", "x y", "größe"]),
    "mark.csv": "\ufeff" + table(names=None),
    "mark and names.csv": "\ufeff" + table(),
    "dos.csv": table().replace("\n", "\r\n"),
    "blank.csv": "\n \n" + table().replace("\n", "\n\n"),
    "spaces.csv": table(", "),
    "quoted.csv": table('","').replace("\n", '"\n"').join(['"', ""])[:-1],
    "no end.csv": table()[:-1],
    "no index name.csv": table(names=["", "b", "c"]),
    "same names.csv": table(names=["a", "a", "a"]),
    "[1] *?.csv": table(),
    "s3::x.csv": table(),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_table_is_its_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(GOOD[name], encoding="utf-8", newline="")
    data = open_dataset(str(tmp_path / name))
    assert sorted_rows(data) == sorted(ROWS)
    assert (data.domain, data.event_shape, dict(data.options)) == ("vector", (3,), {})
    assert data.slug == Path(name).stem


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    values=arrays("f8", (25, 2), elements=st.floats(0, 1e9), unique=True),
    sep=st.sampled_from(";,\t"),
)
def test_it_is_split_as_the_same_array_is(values: np.ndarray, sep: str) -> None:
    """Every float comes out as it was, in the view where that of an .npy is."""
    values[0] = 0.0, 1e9  # so that no column is too narrow
    with tempfile.TemporaryDirectory() as folder:
        np.savetxt(f"{folder}/x.csv", values, fmt="%.17g", delimiter=sep)
        np.save(f"{folder}/x.npy", values)
        data, same = (open_dataset(f"{folder}/x{ending}") for ending in (".csv", ".npy"))
    for view in ("train", "validation", "test"):
        assert torch.equal(getattr(data, view).head(), getattr(same, view).head())


def test_more_rows_than_a_batch(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(20_011, 1))
    np.savetxt(tmp_path / "x.csv", values, fmt="%.17g")
    data = open_dataset(str(tmp_path / "x.csv"))
    assert sorted_rows(data) == sorted(values.tolist())
    with (tmp_path / "x.csv").open("a") as file:
        file.write("late\n")
    with pytest.raises(DataError, match=r"\(column 1\), such as 'late' in line 20012"):
        open_dataset(str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("columns", "names", "taken"),
    [
        ("c,a", NAMES, [2, 0]),
        (" c , a ", NAMES, [2, 0]),
        (["a"], NAMES, [0]),
        (3, None, [2]),
        ("1,3", None, [0, 2]),
        ([2, "3"], None, [1, 2]),
        (2001, ["b", "2001", "2002"], [1]),
        (["x, y"], ['"x, y"', "b", "c"], [0]),
    ],
)
def test_columns_are_chosen(tmp_path: Path, columns: object, names: list[str], taken: list) -> None:
    path = tmp_path / "x.csv"
    path.write_text(table(names=names, r3c1="1" if 1 in taken else "word"))
    rows = [[*row] for row in ROWS]
    rows[3][1] = 1.0
    data = open_dataset(str(path), {"columns": columns})
    assert sorted_rows(data) == sorted([row[i] for i in taken] for row in rows)
    assert dict(data.options) == {"columns": columns}
    assert data.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("a,bb", "no column 'bb'; did you mean b"),
        ("zzz", "no column 'zzz'; known: a, b, b"),
        ("a,a", "'a' is chosen 2 times"),
        ("b", "2 columns 'b': rename"),
        ("", "no column ''"),
        ([], "No column .* is chosen"),
        (1.5, "'columns.*' is wrong"),
    ],
)
def test_a_wrong_choice_gets_a_sentence(tmp_path: Path, columns: object, message: str) -> None:
    (tmp_path / "x.csv").write_text(table(names=["a", "b", "b"]))
    with pytest.raises(UsageError, match=message):
        open_dataset(str(tmp_path / "x.csv"), {"columns": columns})


def test_other_settings_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(table())
    with pytest.raises(UsageError, match="no setting 'size'; known: columns"):
        open_dataset(str(tmp_path / "x.csv"), {"size": 32})


BAD: dict[str, tuple[str | bytes, str]] = {
    "text": (
        table(r4c1="cat"),
        r"text \(column b\), such as 'cat' in line 6.*`data.columns=a,c`\.",
    ),
    "texts": (table(r4c1="cat", r0c2="x"), r"\(columns b, c\), such as 'cat' in line 6.*=a`\."),
    "no names": (table(names=None, r4c1="cat"), r"\(column 2\), such as 'cat' in line 5.*=1,3`\."),
    "all text": (table(r0c0="x", r0c1="y", r0c2="z"), "a column of numbers is needed"),
    "escapes": (table(r4c1="\x1b[31m"), r"such as '\\u001b\[31m' in line 6"),
    "underscore": (table(r4c1="1_000"), "such as '1_000'"),
    "decimals": (table(";", r4c1="1,5"), "'1,5' in line 6: write decimals with a point"),
    "missing": (table(r4c1=""), r"1 row with missing or infinite values \(line 6; column b\)"),
    "marked": (table(r4c1="NA", r6c2="null"), r"2 rows .*\(lines 6, 8; columns b, c\)"),
    "infinite": (table(r4c1="-inf"), r"infinite values \(line 6; column b\)"),
    "overflow": (table(r4c1="1e999"), r"infinite values \(line 6; column b\)"),
    "large": (table(r4c1="1e20"), r"values up to 1e\+20 \(line 6; column b\)"),
    "narrow": (
        "a,b\n" + "".join(f"{1e9 + i * 1e-6},{i}\n" for i in range(30)),
        "Column a of .* varies",
    ),
    "long row": (table(r4c1="1,1"), "Line 6 .* has 4 cells, and its first line has 3"),
    "short row": (table() + "1\n", "Line 32 .* has 1 cell, and its first line has 3"),
    "few names": (table(names=["a", "b"]), "Line 2 .* has 3 cells, and its first line has 2"),
    "blank before": ("\n\n" + table(r4c1="cat"), "in line 8"),
    "few": ("1,2\n" * 19, "has 19 rows; at least 20"),
    "empty": ("", "is empty"),
    "spaces": (" \n\n", "is empty"),
    "only names": ("a,b\n", "no rows"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "Line 1 of .* is no UTF-8 text"),
    "zeros": (b"1,2\n\0\0\n", "Line 2 of .* is no UTF-8 text"),
    "latin": ("a,größe\n1,2\n".encode("latin-1"), "Line 1 of .* is no UTF-8 text"),
    "utf-16": (table().encode("utf-16"), "Line 1 of .* is no UTF-8 text"),
    "zip": (b"PK\x03\x04" + bytes(99), "is no UTF-8 text"),
    "gzip": (gzip.compress(table().encode()), "is no UTF-8 text"),
    "mac": (table().replace("\n", "\r"), r"no table that can be read \(new-line"),
    "quote": (table(r4c1='"'), "no table that can be read|cells"),
    "one line": (b"1" * 2**24, "Line 1 of .* is longer than"),
    "wide field": (b"1" * 2**20, "field larger than field limit"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_table_gets_a_sentence(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content, message = BAD[name]
    path = tmp_path / f"{name}.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(str(path))
    said = str(caught.value)
    assert str(path) in said
    assert said.isprintable()
    assert len(said) < 500
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "holds no images"),
        (os.mkfifo, "is no plain file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: None, "There is no file"),
    ],
)
def test_what_is_no_file_gets_a_sentence(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "x.csv")
    with pytest.raises(DataError, match=message):
        open_dataset(str(tmp_path / "x.csv"))
    assert is_local("x.csv")


def test_a_folder_of_tables_says_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(table())
    with pytest.raises(DataError, match=r"for rows of numbers name the file, .*x\.csv"):
        open_dataset(str(tmp_path))


def test_names_that_are_numbers_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "x.csv").write_text(table(names=["5.1", "3.5", "cat"]))
    open_dataset(str(tmp_path / "x.csv"), {}, told.append)
    assert len(told) == 1
    assert "Takes the first line" in told[0]
    (tmp_path / "x.csv").write_text(table())
    open_dataset(str(tmp_path / "x.csv"), {}, told.append)
    assert len(told) == 1


def test_a_table_is_no_set_of_images(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(table())
    with pytest.raises(DataError, match="a table of rows, not of images"):
        open_images(str(tmp_path / "x.csv"))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own cache, and the private one, are as they were: also after an error."""
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", None)
    for cell in ("1", "word"):
        (tmp_path / "x.csv").write_text(table(r4c1=cell))
        try:
            open_dataset(str(tmp_path / "x.csv"))
        except DataError:
            assert cell == "word"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["HOME", "TMPDIR", "x.csv"]


def test_a_run_remembers_the_columns(cli: CommandLine) -> None:
    Path("x.csv").write_text(table(r3c1="word"))
    tiny = ["--set", "width=8", "--steps", "3", "--device", "cpu", "--out", "run"]
    chosen = ["--dataset", "x.csv", "--data", "columns=c,a"]
    cli.output("fit-prior", *chosen, *tiny, "--sigma", "0.3")
    run = load_run("run")
    assert run.stage("prior").config().data == {"columns": "c,a"}
    assert run.dataset().event_shape == (2,)
    cli.output("fit-denoiser", *chosen, *tiny)
    Path("x.csv").write_text(table())
    code, _, err = cli("score", "run")
    assert code == 1
    assert "has changed since" in err
