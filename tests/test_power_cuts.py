"""The power goes at any moment: the same command goes on, and ends in the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def cut(folder: Path, draws: int, twice: int, **most: int) -> dict[str, dict[str, int]]:
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


def test_verbs_that_were_cut_go_on(tmp_path: Path) -> None:
    """A choice of states; of each one that is made it is seen that no synced file is lost."""
    found = cut(tmp_path, 16, 0, fit=110, sample=40, score=50)
    assert sum(verb["started"] for verb in found.values()) == 200


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
