"""kill -9 at any moment: the same command goes on, and ends in the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.training_child import NAMES, PLUGINS, results

ROOT = Path(__file__).parents[1]
SLOWER = (("quickstart", 50), ("reproduce", 150))


def killed(mode: str, folder: Path, /, **told: Any) -> dict[str, Any]:
    """Returns what a child of the tests counted; it fails where an end is not the same."""
    child = "power" if mode == "kill" else "training"
    command = [sys.executable, "-m", f"tests.{child}_child", mode, str(folder)]
    command += [f"{key}={value}" for key, value in told.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counted: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(mode, told, counted)
    return counted


def test_killed_at_every_change_of_the_folder(tmp_path: Path) -> None:
    """One fit dies at its first change, at its second, … in writes, renames and removals."""
    assert killed("creep", tmp_path, name="made", ranks=1)["kills"] >= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "made"])
def test_killed_at_some_changes_of_the_folder(tmp_path: Path, name: str) -> None:
    assert killed("sweep", tmp_path, name=name, ranks=1, stride=37)["kills"] >= 5


@pytest.mark.slow
def test_killed_while_a_complete_stage_is_replaced(tmp_path: Path) -> None:
    found = killed("sweep", tmp_path, name="made", ranks=1, stride=23, overwrite=1)
    assert found["kills"] >= 7


@pytest.mark.slow
def test_killed_while_a_complete_stage_goes_on(tmp_path: Path) -> None:
    found = killed("sweep", tmp_path, name="made", ranks=1, stride=11, longer=1)
    assert found["kills"] >= 10


@pytest.mark.slow
def test_two_processes_and_the_one_that_writes_is_killed(tmp_path: Path) -> None:
    """The other ends by itself, in a sentence."""
    assert killed("sweep", tmp_path, name="made", ranks=2, stride=37)["kills"] >= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "stride"),
    [("folder", 1), ("sample", 1), ("score", 1), ("score-images", 3), *SLOWER],
)
def test_other_verbs_killed_at_changes_of_the_folder(
    tmp_path: Path, verb: str, stride: int
) -> None:
    assert killed("kill", tmp_path, **{verb: stride})[verb]["kills"] >= 10


@pytest.fixture(params=PLUGINS)
def plugin(request: pytest.FixtureRequest) -> str:
    """An architecture of a plugin of this repository, where that is installed."""
    name: str = request.param
    if find_spec(f"smoothctl_{name.partition('-')[0]}") is None:
        pytest.skip("nox -s plugins installs it")
    return name


@pytest.mark.parametrize("plugin", ["ncsn-mlp"], indirect=True)
def test_a_plugin_is_killed_at_some_changes_of_the_folder(tmp_path: Path, plugin: str) -> None:
    assert killed("sweep", tmp_path, name=plugin, ranks=1, stride=97)["kills"] >= 3


@pytest.mark.slow
def test_a_plugin_is_killed_at_each_change_of_the_folder(tmp_path: Path, plugin: str) -> None:
    assert killed("sweep", tmp_path, name=plugin, ranks=1, stride=1)["kills"] >= 150


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [3, 4])
def test_several_processes_and_the_one_that_writes_is_killed(tmp_path: Path, ranks: int) -> None:
    assert killed("sweep", tmp_path, name="made", ranks=ranks, stride=11)["kills"] >= 10


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [3, 4])
def test_several_processes_killed_at_random(tmp_path: Path, ranks: int) -> None:
    told = {"name": "made", "ranks": ranks, "steps": 200, "kills": 15}
    assert killed("random", tmp_path, **told)["kills"] >= 15


@pytest.mark.slow
def test_another_number_of_processes_changes_last_bits_alone(tmp_path: Path) -> None:
    """Two fits by as many processes are the same to the bit."""
    found = killed("apart", tmp_path, steps=40)
    assert found["1"] == 0
    assert max(found.values()) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_killed_at_each_change_of_the_folder(tmp_path: Path, name: str, overwrite: int) -> None:
    told = {"name": name, "ranks": 1, "stride": 1, "overwrite": overwrite}
    assert killed("sweep", tmp_path, **told)["kills"] >= 150


@pytest.mark.slow
def test_killed_at_each_change_of_a_stage_that_goes_on(tmp_path: Path) -> None:
    found = killed("sweep", tmp_path, name="made", ranks=1, stride=1, longer=1)
    assert found["kills"] >= 100


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_killed_at_random(tmp_path: Path, name: str) -> None:
    steps = 12 if name == "pixelcnnpp" else 300
    assert killed("random", tmp_path, name=name, ranks=1, steps=steps, kills=50)["kills"] >= 50


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_killed_at_random(tmp_path: Path, name: str) -> None:
    """Either of them, or both."""
    steps, kills = 12 if name == "pixelcnnpp" else 200, 50 if name == "made" else 15
    told = {"name": name, "ranks": 2, "steps": steps, "kills": kills}
    assert killed("random", tmp_path, **told)["kills"] >= kills


@pytest.mark.slow
def test_two_processes_of_a_launcher_killed_at_random(tmp_path: Path) -> None:
    """The launcher ends too, and its command goes on."""
    assert _launch(tmp_path, "whole").wait(120) == 0
    whole, dice, kills = results(tmp_path / "whole"), random.Random(0), 0
    while kills < 6:
        launcher = _launch(tmp_path, "cut")
        deadline = time.monotonic() + 60
        while launcher.poll() is None and not _is_training(tmp_path / "cut", launcher.pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(dice.uniform(0, 2))
        victims = dice.choice(([0], [1], [0, 1]))
        ranks = _children(launcher.pid)
        for rank in victims:
            if rank < len(ranks):
                os.kill(ranks[rank], signal.SIGKILL)
                kills += 1
        code = launcher.wait(90)
        assert code in (0, 1)
        if code == 0:
            assert results(tmp_path / "cut") == whole
            subprocess.run(["rm", "-r", str(tmp_path / "cut")], check=True)
    if (tmp_path / "cut").exists():
        assert _launch(tmp_path, "cut").wait(120) == 0
        assert results(tmp_path / "cut") == whole
    print("launcher", {"kills": kills})


def _launch(folder: Path, out: str) -> subprocess.Popen[bytes]:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launcher += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launcher += ["--dynamo_backend", "no", "--main_process_port", "0", "-m", "smoothctl"]
    command = ["fit-prior", "--dataset", "two-moons", "--steps", "400", "--batch-size", "64"]
    command += ["--set", "width=8", "--set", "training.checkpoint_every=20", "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        [*launcher, *command, "--quiet"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_training(run: Path, launcher: int) -> bool:
    """Returns whether a process of this launch, and not a killed one, holds the run."""
    try:
        return json.loads((run / ".prior.lock").read_text())["pid"] in _children(launcher)
    except (OSError, ValueError):
        return False
