"""One process at a time: who comes second is told who is there, and nobody blocks when dead."""

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from smoothctl.errors import RunError
from smoothctl.storage.locks import hold

_HOLDER = """
import sys, time
from pathlib import Path
from smoothctl.storage.locks import hold
with hold(Path(sys.argv[1]), "runs/a/prior"):
    print("held", flush=True)
    time.sleep(60)
"""


def _start_holder(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLDER, str(path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_the_second_is_told_of_the_first_and_a_killed_one_is_taken_over(tmp_path: Path) -> None:
    path, notes = tmp_path / "run/.prior.lock", []
    holder = _start_holder(path)
    who = re.escape(f"process {holder.pid} on {socket.gethostname()}")
    with (
        pytest.raises(RunError, match=f"runs/a/prior is in use by {who}"),
        hold(path, "runs/a/prior"),
    ):
        pass
    assert json.loads(path.read_text())["pid"] == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with hold(path, "runs/a/prior", notes.append) as lock:
        lock.check()
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert len(notes) == 1
    assert re.search(f"over from {who}", notes[0])
    assert not list((tmp_path / "run").iterdir())


def test_it_can_be_held_again_and_leaves_nothing(tmp_path: Path) -> None:
    notes: list[str] = []
    for _ in range(3):
        with hold(tmp_path / "run/.lock", "it", notes.append):
            assert (tmp_path / "run/.lock").is_file()
        assert not (tmp_path / "run").exists()
    assert not notes


def test_what_was_written_beside_it_stays(tmp_path: Path) -> None:
    with hold(tmp_path / "run/.lock", "it"):
        (tmp_path / "run/file").write_text("precious")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["file"]


def test_an_error_frees_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path / ".lock", "it"):
        raise ZeroDivisionError
    with hold(tmp_path / ".lock", "it"):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"pid": "x", "host": 1}', b"[" * 4096])
def test_a_file_that_names_nobody_is_simply_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lock").write_bytes(content)
    notes: list[str] = []
    with hold(tmp_path / ".lock", "it", notes.append):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert not notes


def test_a_lock_that_is_gone_is_noticed_and_another_s_is_left(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with hold(path, "runs/a/prior") as lock:
        path.unlink()
        with pytest.raises(RunError, match="runs/a/prior was removed or moved"):
            lock.check()
        with hold(path, "it") as other:
            with pytest.raises(RunError, match="removed or moved"):
                lock.check()
            other.check()
            path.rename(tmp_path / "aside")
            path.write_text("a third one's")
    assert path.read_text() == "a third one's"


def test_whoever_waits_gets_the_lock_that_is_there(tmp_path: Path) -> None:
    """Its holder removes the file; one that was opened before must not count as the lock."""
    path = tmp_path / "run/.lock"
    waiting = _HOLDER.replace('"runs/a/prior")', '"it", wait=True)').replace("time.sleep(60)", "")
    with hold(path, "it"):
        command = [sys.executable, "-c", waiting, str(path)]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    for child in children:
        assert child.communicate(timeout=60)[0] == b"held\n"
        assert child.returncode == 0
    assert not (tmp_path / "run").exists()


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="Cannot write"), hold(tmp_path / ".lock", "it"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"), hold(tmp_path / "file/.lock", "it"):
        pass
    read_only = tmp_path / "read-only"
    read_only.mkdir(0o500)
    if os.access(read_only, os.W_OK):
        pytest.skip("this user may write everywhere")
    denied = pytest.raises(RunError, match=r"Cannot write .*Permission denied")
    with denied, hold(read_only / ".lock", "it"):
        pass


def test_a_full_disk_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match="No space left"), hold(tmp_path / ".lock", "it"):
        pass
    monkeypatch.undo()
    with hold(tmp_path / ".lock", "it"):
        pass


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / ".lock").write_text('{"host": "there", "pid": 7}')
    notes: list[str] = []
    with hold(tmp_path / ".lock", "it", notes.append):
        pass
    assert len(notes) == 1
    assert "has no locks (its file names process 7 on there)" in notes[0]
