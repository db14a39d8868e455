"""Rows of a file: what is damaged is found when it is read, and never given out."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothctl.datasets import checked_rows
from smoothctl.datasets.checked_rows import BlockDigests, CheckedRows
from smoothctl.errors import DataError

SHAPE = (23, 2, 3)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows a block: 23 rows are six blocks."""
    monkeypatch.setattr(checked_rows, "_BLOCK", 27)


def written(folder: Path) -> tuple[Path, np.ndarray, list[str]]:
    content = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    digests = BlockDigests()
    for row in content:
        digests.update(row.tobytes())
    (folder / "rows").write_bytes(content.tobytes())
    return folder / "rows", content, digests.hexdigests()


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


ROWS = st.one_of(
    st.lists(st.integers(0, SHAPE[0] - 1), max_size=9).map(lambda rows: np.array(rows, int)),
    st.tuples(st.integers(0, SHAPE[0]), st.integers(0, SHAPE[0])).map(lambda ends: slice(*ends)),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(asked=st.lists(ROWS, min_size=1, max_size=4), at=st.integers(0, 137))
def test_a_damaged_byte_is_found_wherever_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, asked: list, at: int
) -> None:
    file, content, digests = written(tmp_path_factory.mktemp("rows"))
    whole, restored = file.read_bytes(), []

    def restore() -> None:
        restored.append(True)
        file.write_bytes(whole)

    rows = CheckedRows(file, SHAPE, digests, restore)
    flip(file, at)
    for wanted in asked:
        np.testing.assert_array_equal(rows[wanted], content[wanted])
    damaged = at // 6 // 4
    touched = {i // 4 for wanted in asked for i in np.arange(SHAPE[0])[wanted].tolist()}
    assert len(restored) == (damaged in touched)


def test_each_block_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, content, digests = written(tmp_path)
    hashed: list[int] = []

    def counting(data: np.ndarray) -> object:
        hashed.append(len(data))
        return hashlib._hashlib.openssl_sha256(data)

    rows = CheckedRows(file, SHAPE, digests, lambda: None)
    monkeypatch.setattr(checked_rows.hashlib, "sha256", counting)
    rows[np.array([1, 2, 22])]
    assert hashed == [4, 3]
    for _ in range(3):
        np.testing.assert_array_equal(rows[0:23], content)
    assert sum(hashed) == 23


def test_what_another_process_replaced_is_taken(tmp_path: Path) -> None:
    file, content, digests = written(tmp_path)
    whole = file.read_bytes()
    flip(file, 3)
    rows = CheckedRows(file, SHAPE, digests, lambda: pytest.fail("it is whole again"))
    file.unlink()
    file.write_bytes(whole)
    np.testing.assert_array_equal(rows[0:23], content)


@pytest.mark.parametrize("left", ["other", "short", "nothing"])
def test_what_cannot_be_had_again_is_never_given_out(tmp_path: Path, left: str) -> None:
    file, _, digests = written(tmp_path)
    rows = CheckedRows(file, SHAPE, digests, lambda: None)
    flip(file, 100)
    if left != "other":
        file.unlink()
    if left == "short":
        file.write_bytes(bytes(9))
    rows[0:4]
    for _ in range(2):
        with pytest.raises(DataError, match="rows was damaged, .* run the same command again"):
            rows[np.array([17])]


def test_files_of_another_length_are_refused(tmp_path: Path) -> None:
    file, _, digests = written(tmp_path)
    for shape, given_ in ((SHAPE, digests[1:]), ((22, 2, 3), digests), ((23, 2, 2), digests)):
        with pytest.raises(ValueError, match="another"):
            CheckedRows(file, shape, given_, lambda: None)
