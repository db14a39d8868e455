"""The power goes at any moment: the same command goes on, and ends in the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.disk import Change, Lost, Operation, Record, Sync, Tree, Write, digest, states

ROOT = Path(__file__).parents[1]


def cut(folder: Path, draws: int, twice: int, /, **most: int) -> dict[str, dict[str, int]]:
    """Returns what `tests.power_child` counted; it fails where an end is not the same."""
    command = [sys.executable, "-m", "tests.power_child", "cut"]
    command += [str(folder), str(draws), str(twice)]
    command += [f"{verb}={count}" for verb, count in most.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    counted: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    print(counted)
    return counted


@pytest.mark.slow
def test_verbs_that_were_cut_go_on(tmp_path: Path) -> None:
    """A choice of states; of each one that is made it is seen that no synced file is lost."""
    found = cut(tmp_path, 16, 0, fit=130, sample=30, score=40)
    assert sum(verb["started"] for verb in found.values()) == 200


def left(*operations: Operation) -> list[Tree]:
    """Returns what may be left of an empty folder to which this is done."""
    trees = states(Record({0: {}}, {}, [*operations]), 50)
    return list({digest(tree): tree for tree in trees}.values())


CONTENT = bytes(range(1, 256)) * 8
WRITTEN = Write(1, CONTENT)
NAMED = Change(0, {".a.tmp": 1})
RENAMED = Change(0, {".a.tmp": None, "a": 1})


def test_a_file_that_is_not_synced_may_be_torn() -> None:
    kept = {tree["a"] for tree in left(WRITTEN, NAMED, RENAMED) if "a" in tree}
    assert {b"", bytes(len(CONTENT)), CONTENT} < kept
    assert {} in left(WRITTEN, NAMED, RENAMED)
    with pytest.raises(Lost, match="a"):
        left(WRITTEN, NAMED, RENAMED, Sync(0))


def test_a_file_that_is_synced_before_its_name_is_whole() -> None:
    found = left(WRITTEN, NAMED, Sync(1), RENAMED, Sync(0))
    assert {tree["a"] for tree in found if "a" in tree} == {CONTENT}
    assert left(WRITTEN, NAMED, Sync(1), RENAMED, Sync(0))[-1] == {"a": CONTENT}


def test_a_folder_whose_name_is_not_synced_may_be_lost() -> None:
    inner = Change(2, {".a.tmp": 1}), Sync(1), Change(2, {".a.tmp": None, "a": 1}), Sync(2)
    with pytest.raises(Lost, match="folder/a"):
        left(Change(0, {"folder": 2}), WRITTEN, *inner)
    assert {"folder": None, "folder/a": CONTENT} in left(
        Change(0, {"folder": 2}), Sync(0), WRITTEN, *inner
    )


def test_what_is_appended_leaves_what_was_synced() -> None:
    longer = Write(1, CONTENT * 2)
    found = left(WRITTEN, NAMED, Sync(1), Sync(0), longer)
    assert len(found) > 10
    assert all(tree[".a.tmp"].startswith(CONTENT) for tree in found[-5:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "draws", "most"),
    [
        ("fit", 300, 2000),
        ("sample", 1000, 2000),
        ("score", 500, 2000),
        ("replace", 100, 700),
        ("longer", 100, 700),
        ("folder", 100, 700),
        ("score-images", 100, 500),
    ],
)
def test_each_verb_that_was_cut_goes_on(tmp_path: Path, verb: str, draws: int, most: int) -> None:
    """Some are cut a second time as they go on."""
    assert cut(tmp_path, draws, 5, **{verb: most})[verb]["started"] >= most
