"""Many steps take no more memory than few, little disk, and no exit leaves a temporary file."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from smoothctl.errors import Interrupted, TrainingError
from smoothctl.training.fit import Quiet, fit_baseline
from tests.conftest import SMALL, TINY
from tests.test_training import StopAt

_CHILD = """
import json, resource, sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from smoothctl.training.fit import Quiet, fit_prior

class Watch(Quiet):
    def __init__(self, steps):
        self.every, self.pages = steps // 50, []
    def advance(self, step, loss):
        if step % self.every == 0:
            self.pages.append(int(Path("/proc/self/statm").read_text().split()[1]))

steps = int(sys.argv[2])
watch = Watch(steps)
training = {"steps": steps, "batch_size": 16, "warmup": 5, "validation_limit": 256}
options = {"mixtures": 2}
fit_prior(watch, out=sys.argv[1], dataset="two-moons", architecture="logistic-mixture",
          options=options, training=training, device="cpu")
print(json.dumps([pages * resource.getpagesize() for pages in watch.pages]))
"""


def soak(out: Path, steps: int) -> dict[str, Any]:
    """Fits so many small steps; returns how much memory and log they took."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(out), str(steps)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bytes_used = json.loads(done.stdout)
    after = bytes_used[len(bytes_used) // 5 :]
    found = {
        "MB": [round(value / 1e6, 1) for value in (after[0], max(after), after[-1])],
        "growth": max(after) / after[0] - 1,
        "log": (out / "prior/log.jsonl").stat().st_size,
        "run": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }
    print("soak", steps, found)
    return found


@pytest.mark.slow
def test_steps_take_no_memory(tmp_path: Path) -> None:
    found = soak(tmp_path / "run", 1500)
    assert found["growth"] < 0.1
    assert found["log"] < 20_000


@pytest.mark.slow
def test_fifty_thousand_steps_take_no_memory(tmp_path: Path) -> None:
    found = soak(tmp_path / "run", 50_000)
    assert found["growth"] < 0.05
    assert found["log"] < 200_000


class Fails(Quiet):
    def advance(self, step: int, loss: float) -> None:
        if step == 33:
            raise TrainingError("It fails.")


@pytest.mark.parametrize("reporter", [Quiet(), Fails(), StopAt(33)])
def test_no_exit_leaves_a_temporary_file_or_a_lock(tmp_path: Path, reporter: Quiet) -> None:
    """After kill -9 the next start removes them: see test_kills."""
    settings = {"dataset": "two-moons", "options": SMALL, "device": "cpu"}
    training = {**TINY, "checkpoint_every": 10}
    with suppress(TrainingError, Interrupted):
        fit_baseline(reporter, out=tmp_path / "run", training=training, **settings)
    names = {path.name for path in (tmp_path / "run").rglob("*")}
    assert {"baseline", "config.toml", "checkpoints", "log.jsonl"} < names
    assert not [name for name in names if name.startswith(".") or name.endswith(".tmp")]
