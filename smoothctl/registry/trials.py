"""Tries the entries of a package in child processes, which may crash, hang, exit or print."""

import json
import mmap
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import NoReturn

from smoothctl.registry.registry import Entry, printable

__all__ = ["Trial", "fault_of_import", "try_entries"]

_PROGRAM = """
import json, pathlib, sys
asked = json.loads(pathlib.Path(sys.argv[1]).read_text())
sys.path[:] = asked["path"]
from smoothctl.registry.child import main
main(asked)
"""
_START_UP = 120.0
"""Seconds that a child has for importing smoothctl and torch."""

_GLANCE, _PATIENCE = 20, 60.0
"""Seconds that an import may take in a fork, and then in a fresh process."""


@dataclass(frozen=True)
class Trial:
    """How the import of one entry went.

    Args:
        fault: why it cannot be used; None if it can.
        noisy: it wrote to stdout.
    """

    fault: str | None
    noisy: bool = False


def fault_of_import(entry: Entry) -> str | None:
    """Returns how the import of an entry would end this process, or keep it waiting for ever.

    A fork of this process tries it first, which takes as long as the import. A fork lacks the
    threads that may hold a lock here, so that one that does not come back is no proof: then a
    fresh process has the last word.

    Returns:
        None where the import comes back, whether it succeeds or not.
    """
    if hasattr(os, "fork") and _comes_back(entry.entry_point.load):
        return None
    return try_entries([entry], _PATIENCE)[0].fault


def _comes_back(load: Callable[[], object]) -> bool:
    """Returns whether a call returns or raises in a fork of this process."""
    with mmap.mmap(-1, 1) as came_back, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:  # none may end what the fork has inherited: it would clean up what is not its own
            pid = os.fork()
            if not pid:
                _report(load, came_back)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            with suppress(ChildProcessError):  # who ignores SIGCHLD waits, too, but is told nothing
                os.waitpid(pid, 0)
        except BaseException:  # a signal to this process
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        finally:
            with suppress(OSError):  # it has left no process behind
                os.killpg(pid, signal.SIGKILL)
        return came_back[0] == 1


def _report(load: Callable[[], object], came_back: mmap.mmap) -> NoReturn:
    """Calls in a fork, which an alarm ends if nothing else does, and marks that it came back."""
    try:
        os.setsid()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_GLANCE)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        with suppress(BaseException):
            load()
        came_back[0] = 1
    finally:
        os._exit(0)


def try_entries(entries: Sequence[Entry], timeout: float) -> list[Trial]:
    """Imports entries of one package in a fresh process, and returns how each import went.

    An entry on which the process dies is told, and another process goes on with the next one.

    Args:
        entries: of one package, in groups that smoothctl knows.
        timeout: seconds that one import may take.
    """
    trials: list[Trial] = []
    while len(trials) < len(entries):
        trials += _round(entries[len(trials) :], timeout)
    return trials


def _round(entries: Sequence[Entry], timeout: float) -> list[Trial]:
    """Returns the trials of one child process, the last of which may have ended it."""
    with TemporaryDirectory(prefix="smoothctl-plugins-") as name:
        folder = Path(name)
        asked = {
            "path": sys.path,
            "log": str(folder / "log"),
            "package": entries[0].package,
            "version": entries[0].version,
            "entries": [(e.entry_point.group, e.name, e.entry_point.value) for e in entries],
        }
        (folder / "asked").write_text(json.dumps(asked))
        ending = _run(folder, timeout)
        log = folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        said = (folder / "stderr").read_text(errors="replace").split("\n")
    if not lines:
        last = next((printable(line, 200) for line in reversed(said) if line.strip()), ending)
        return [Trial(f"cannot be checked, for smoothctl itself fails ({last})")] * len(entries)
    trials = [Trial(**json.loads(line)) for line in lines[1:]]
    return trials if len(trials) == len(entries) else [*trials, Trial(ending)]


def _run(folder: Path, timeout: float) -> str:
    """Runs the child to its end, or ends it; returns what became of it, as a fault."""
    command = [sys.executable, "-c", _PROGRAM, str(folder / "asked")]
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        child = subprocess.Popen(  # noqa: S603, as it runs this Python, on a file of ours
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            if not _ends(child, folder / "log", timeout):
                return f"takes longer than {timeout:g} s to import"
        finally:
            _stop(child)
    if child.returncode < 0:
        return f"crashes when it is imported ({signal.strsignal(-child.returncode)})"
    return f"ends the process when it is imported (exit code {child.returncode})"


def _ends(child: "subprocess.Popen[bytes]", log: Path, timeout: float) -> bool:
    """Waits for a child; returns False once its log has not grown for too long."""
    size, deadline = 0, monotonic() + _START_UP
    while child.poll() is None:
        now = log.stat().st_size if log.exists() else 0
        if now > size:
            size, deadline = now, monotonic() + timeout
        if monotonic() > deadline:
            return False
        sleep(0.02)
    return True


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """Ends a child and, where the system has sessions, every process that it left behind."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except OSError:
            child.kill()
    else:
        child.kill()
    child.wait()
