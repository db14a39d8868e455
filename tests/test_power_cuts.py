"""The power goes at any moment: the same command goes on, and ends in the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def cut(folder: Path, verbs: str, **told: int) -> dict[str, dict[str, int]]:
    """Returns what `tests.power_child` counted; it fails where an end is not the same."""
    command = [sys.executable, "-m", "tests.power_child", str(folder), verbs]
    command += [f"{key}={value}" for key, value in told.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    counted: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    print(told, counted)
    return counted


def test_verbs_that_were_cut_go_on(tmp_path: Path) -> None:
    """A choice of states; of each one that is made it is seen that no synced file is lost."""
    found = cut(tmp_path, "fit,sample,score", draws=16, most=70)
    assert sum(verb["started"] for verb in found.values()) >= 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", ["fit", "replace", "longer", "sample", "folder", "score", "score-images"]
)
def test_each_verb_that_was_cut_goes_on(tmp_path: Path, verb: str) -> None:
    """Some are cut a second time as they go on."""
    assert cut(tmp_path, verb, draws=250, most=2000, twice=5)[verb]["started"] >= 500
