"""Several processes of one launch: who works, who speaks, and what happens when one dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smoothctl.cli import endings
from smoothctl.cli.endings import Stopped, fail
from smoothctl.errors import Interrupted
from smoothctl.runs.run import Run, load_run
from smoothctl.testing import CommandLine
from tests.launches import ENVIRONMENT, launcher, rank_of

FIT = ["fit-prior", "--dataset", "two-moons", "--arch", "made", "--set", "width=8",
       "--steps", "600", "--batch-size", "64", "--set", "training.checkpoint_every=20",
       "--device", "cpu", "--out", "r"]  # fmt: skip
BY_FIRST = [
    ["sigma-heuristic", "--dataset", "two-moons"],
    ["denoise", "test", "-n", "4", "--draws", "1"],
    ["inpaint", "test", "-n", "4"],
    ["neighbours", "test"],
    ["compare", "run"],
    ["report"],
    ["plugins"],
    *([plural, "list"] for plural in ("architectures", "kernels", "datasets", "features")),
    ["kernels", "show", "gaussian"],
]


@pytest.fixture
def cli(cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that runs a command line as one of two processes."""
    monkeypatch.setattr(endings, "_COURTESY", 0.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = signal.getsignal(signal.SIGTERM)

    def run(rank: int, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("RANK", str(rank))
        return cli(*words)

    yield run
    signal.signal(signal.SIGTERM, before)


class TestWhoSpeaks:
    @pytest.mark.parametrize("command", BY_FIRST, ids=" ".join)
    def test_the_others_have_nothing_to_do(self, cli, command: list[str]) -> None:
        assert cli(1, *command) == (0, "", "")

    @pytest.mark.parametrize("command", BY_FIRST, ids=" ".join)
    def test_the_first_does_it_alone(
        self, cli, command: list[str], trained_run: Run, in_tmp: Path
    ) -> None:
        """Without a word to the other, who would be missed: no address of it is given here."""
        shutil.copytree(trained_run.path, in_tmp / "runs" / "mine")
        if command[0] in ("inpaint", "neighbours", "compare"):  # of images, or of scored runs
            command = [*command[:1], "--help"]
        code, out, err = cli(0, *command)
        assert code == 0, err
        assert out

    @pytest.mark.parametrize("verb", [["quickstart"], ["reproduce", "rings"], ["reproduce"]])
    def test_what_cannot_be_shared_is_refused(self, cli, verb: list[str]) -> None:
        code, out, err = cli(0, *verb)
        assert (code, out) == (2, "")
        assert f"'{verb[0]}'" in err
        assert "without the launcher" in err

    def test_errors_of_others_have_their_name(self, cli) -> None:
        code, out, err = cli(1, "sample", "--nonsense")
        assert (code, out) == (2, "")
        assert err.startswith("Error: process 1 on ")
        assert "--nonsense" in err
        assert cli(1, "sample", "nowhere")[2].startswith("Error: process 1 on ")

    @pytest.mark.parametrize("error", [Stopped(15), Interrupted("Stopped and saved.", 15)])
    def test_a_signal_is_said_by_the_first(
        self, error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        for rank, said in (("1", ""), ("0", "Error: Stopped")):
            monkeypatch.setenv("RANK", rank)
            monkeypatch.setenv("WORLD_SIZE", "2")
            with pytest.raises(SystemExit, match="143"):
                fail(error)
            assert capsys.readouterr().err[: len("Error: Stopped")] == said

    def test_a_process_at_work_says_that_it_was_stopped(
        self, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        """As the first may have been killed."""
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr(endings, "joined", lambda: True)
        with pytest.raises(SystemExit, match="143"):
            fail(Stopped(signal.SIGTERM))
        err = capsys.readouterr().err
        assert err.startswith("Error: process 1 on ")
        assert "Stopped by the launcher" in err

    def test_help_comes_once(self, cli) -> None:
        assert cli(1, "sample", "--help") == (0, "", "")
        assert "Usage:" in cli(0, "sample", "--help")[1]

    def test_a_launch_is_needed(self, cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MASTER_ADDR", raising=False)
        code, _, err = cli(0, "score", "--device", "cpu")
        assert code == 1
        assert "accelerate launch" in err


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*launcher(), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_a_process_that_never_comes_is_missed(in_tmp: Path) -> None:
    """Where no launcher watches over them, as under other schedulers."""
    others = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "SMOOTHCTL_PATIENCE": "2"}
    others |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    command = [sys.executable, "-m", "smoothctl", *FIT]
    done = subprocess.run(command, env=ENVIRONMENT | others, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Error: Not all 2 processes met within 2 seconds" in done.stderr


@pytest.mark.slow
def test_one_answer(in_tmp: Path) -> None:
    """Two gloo ranks, one JSON document: that of one process."""
    verb = ["sigma-heuristic", "--dataset", "two-moons", "--json"]
    two = launch(*verb)
    assert two.returncode == 0, two.stderr
    one = subprocess.run([sys.executable, "-m", "smoothctl", *verb], capture_output=True)
    assert json.loads(two.stdout) == json.loads(one.stdout)
    assert two.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rank_that_dies_ends_the_launch(victim: int, in_tmp: Path) -> None:
    """A rank is killed that fits: no hang, one sentence, and the same command goes on."""
    checkpoints = Path("r/prior/checkpoints")
    with subprocess.Popen(
        [*launcher(), *FIT], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as running:
        until = time.monotonic() + 120
        while not list(checkpoints.glob("step-*")) and running.poll() is None:
            assert time.monotonic() < until, "no checkpoint in two minutes"
            time.sleep(0.05)
        os.kill(rank_of(running.pid, victim), signal.SIGKILL)
        begun = time.monotonic()
        err = running.communicate(timeout=60)[1]
    assert time.monotonic() - begun < 20
    assert running.returncode == 1
    said = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1, err
    assert "process" in said[0]
    if victim == 0:
        return
    again = launch(*FIT)
    assert again.returncode == 0, again.stderr
    assert "Resumes r/prior at step" in again.stderr
    assert load_run(Path("r")).stage("prior").complete
