"""However a command ends: one sentence, the right code, and nothing left behind."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smoothctl.cli import endings
from smoothctl.cli.endings import Stopped, fail, raised_signals
from smoothctl.errors import RunError
from smoothctl.evaluation.records import read_scores

SMOOTHCTL = [sys.executable, "-m", "smoothctl"]


def ending(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Returns the exit code of an error and what was said of it."""
    with pytest.raises(SystemExit) as stopped:
        fail(error)
    return int(stopped.value.code or 0), capsys.readouterr().err


class TestSignals:
    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_the_first_is_raised_and_others_wait(self, signum: int) -> None:
        before = signal.getsignal(signum)
        with pytest.raises(Stopped) as stopped, raised_signals():
            try:
                os.kill(os.getpid(), signum)
                time.sleep(1)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)  # as a launcher sends it after Ctrl-C
                cleaned = True
        assert (stopped.value.signum, cleaned) == (signum, True)
        assert signal.getsignal(signum) is before

    def test_are_heard_again_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A library may swallow the first one."""
        monkeypatch.setattr(endings, "_ECHO", 0.0)
        with pytest.raises(Stopped), raised_signals():
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    def test_are_the_cause_of_later_errors(self) -> None:
        with pytest.raises(Stopped) as stopped, raised_signals():
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("half an import")
        assert stopped.value.signum == signal.SIGTERM

    def test_wait_for_the_end_of_an_import(
        self, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A library swallows what is raised there."""
        monkeypatch.syspath_prepend(str(in_tmp))
        Path("half_imported.py").write_text(
            "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    time.sleep(0.2)\nexcept BaseException:\n    pass\nwhole = True\n"
        )
        alarm = signal.getsignal(signal.SIGALRM)
        with pytest.raises(Stopped) as stopped, raised_signals():
            half_imported = importlib.import_module("half_imported")
            time.sleep(5)
        assert stopped.value.signum == signal.SIGTERM
        assert half_imported.whole
        assert signal.getsignal(signal.SIGALRM) == alarm
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)

    def test_do_not_wait_for_ever(self, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(in_tmp))
        monkeypatch.setattr(endings, "_IMPORT", 0.2)
        Path("never_imported.py").write_text(
            "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
        )
        began = time.monotonic()
        with pytest.raises(Stopped), raised_signals():
            importlib.import_module("never_imported")
        assert time.monotonic() - began < 30

    def test_ignored_ones_stay_ignored(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        try:
            with raised_signals():
                os.kill(os.getpid(), signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, before)

    @pytest.mark.parametrize(
        ("signum", "code", "said"),
        [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated"),
         (signal.SIGHUP, 129, "terminal was closed")],
    )  # fmt: skip
    def test_are_said(
        self, signum: int, code: int, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found, err = ending(Stopped(signum), capsys)
        assert found == code
        assert said in err

    @pytest.mark.parametrize(("signum", "seconds"), [(signal.SIGTERM, 0.7), (signal.SIGINT, 1.6)])
    def test_at_any_moment_of_a_verb(self, signum: int, seconds: float, in_tmp: Path) -> None:
        """While it imports or opens its data; half an import is no internal error."""
        command = [*SMOOTHCTL, "sigma-heuristic", "--dataset", "two-gaussians"]
        code, err = -signum, ""
        while code == -signum and not err:  # before Python has come to the first line of it
            with subprocess.Popen(
                [*command, "--tolerance", "1e-4"], stderr=subprocess.PIPE, text=True
            ) as running:
                time.sleep(seconds)
                running.send_signal(signum)
                err = running.communicate(timeout=30)[1]
            code, seconds = running.returncode, 1.2 * seconds
        assert code == 128 + signum, err
        said = {signal.SIGTERM: "Terminated.\n", signal.SIGINT: "Interrupted.\n"}
        assert err.endswith(said[signum])
        assert "Error" not in err
        assert "Traceback" not in err
        assert not list(in_tmp.iterdir())

    def test_leave_no_temporary_file(self, in_tmp: Path) -> None:
        """A signal in the middle of a write: the old file stays, and nothing beside it."""
        code = (
            "import os, signal, sys\nfrom pathlib import Path\n"
            "from smoothctl.cli import endings\nfrom smoothctl.storage import files\n"
            "def killed(descriptor):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
            "os.fsync = killed\ntry:\n    with endings.raised_signals():\n"
            "        files.write_bytes(Path('a'), b'new')\n"
            "except endings.Stopped as error:\n    endings.fail(error)\n"
        )
        Path("a").write_bytes(b"old")
        done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (143, "Terminated.\n")
        assert [file.name for file in in_tmp.iterdir()] == ["a"]
        assert Path("a").read_bytes() == b"old"


class TestOutput:
    def test_a_reader_that_leaves_ends_it_quietly(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        command = [*SMOOTHCTL, "kernels", "list", "--json"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, "")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_disk_is_said(self) -> None:
        command = [*SMOOTHCTL, "kernels", "list", "--json"]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1
        assert re.fullmatch("Error: .*No space left on device.*\n", done.stderr)

    def test_a_closed_one_is_said(self) -> None:
        done = _closing(">&-", "--version")
        assert (done.returncode, done.stderr) == (1, NOT_PRINTED)

    def test_one_that_cannot_be_written_costs_no_figures(
        self, cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = ["--out", "run", "--steps", "2", "--batch-size", "8", "--device", "cpu"]
        cli.output("fit-baseline", "--dataset", "six-modes", *run)
        with (
            os.fdopen(os.open(os.devnull, os.O_RDONLY), "w") as closed,
            monkeypatch.context() as patch,
        ):
            patch.setattr(sys, "stdout", closed)
            code, _, err = cli("score", "run", "--limit", "9", "--samples", "9")
        assert (code, err.endswith(NOT_PRINTED)) == (1, True)
        assert len(read_scores(Path("run"))) == 1

    @pytest.mark.slow
    def test_without_any_a_fit_is_the_same(self, cli) -> None:
        """No file takes a stream's number; and ranks that no launcher has set change nothing."""
        fit = "fit-prior --dataset rings --steps 3 --batch-size 8 --device cpu --out"
        cli.output(*fit.split(), "a")
        ranks = {"RANK": "1", "LOCAL_RANK": "1", "OMP_NUM_THREADS": "1"}
        done = _closing(">&- 2>&- <&-", f"{fit} b", **ranks)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
        a, b = (Path(run, "prior/model.safetensors").read_bytes() for run in "ab")
        assert a == b


NOT_PRINTED = (
    "Error: stdout cannot be written (Bad file descriptor): what was to be printed is lost, and "
    "nothing else.\n"
)


def _closing(streams: str, words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command whose streams a shell closes."""
    command = f'exec "{sys.executable}" -m smoothctl {words} {streams}'
    environment = os.environ | variables
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment)


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (MemoryError(), "Out of memory"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Out of memory"),
            (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "Out of memory"),
            (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
            (OSError(28, "No space left on device", "x/y"), "No space left on device (x/y)"),
            (RuntimeError("x.cc:1 Connection closed by peer [10.0.0.1]:5"), "Another process"),
            (RunError("x is there: choose another `out`."), "x is there: choose another --out."),
            (ValueError("strange"), "report it: ValueError: strange"),
        ],
    )
    def test_is_one_sentence(
        self, error: Exception, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, err = ending(error, capsys)
        assert code == 1
        assert said in err
        assert err.startswith("Error: ")
        assert err.count("\n") == 1

    def test_debug_shows_the_traceback(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(endings.DEBUG, "1")
        try:
            json.loads("{")
        except ValueError as error:
            assert "Traceback" in ending(error, capsys)[1]
