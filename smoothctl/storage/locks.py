"""One process at a time in a folder: a lock that the system frees when its holder dies."""

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from smoothctl.errors import RunError
from smoothctl.storage.files import cannot_write, make_folder, parse_json, read_text

__all__ = ["InUse", "Lock", "hold"]

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_ATTEMPTS = 100
_LARGEST = 4096


class InUse(RunError):
    """Somebody else holds a lock."""


@dataclass(frozen=True)
class Lock:
    """A lock that is held.

    Args:
        path: its file.
        what: what is locked, for messages.
        identity: of its file, as the system knows it.
    """

    path: Path
    what: str
    identity: tuple[int, int] | None

    def is_there(self) -> bool:
        """Returns whether the path still leads to the locked file, and not to another one."""
        return self.identity is not None and _identity(self.path) == self.identity

    def check(self) -> None:
        """Checks that the file is still there, and with it the folder that it guards.

        Raises:
            RunError: it was removed or moved, so that nothing may be written there any more.
        """
        if not self.is_there():
            raise RunError(
                f"{self.what} was removed or moved while it was in use, so nothing more is written "
                "there: put it back to go on from its last checkpoint, or start again."
            )


@contextmanager
def hold(
    path: Path, what: str, note: Callable[[str], None] = lambda _: None, wait: bool = False
) -> Iterator[Lock]:
    """Holds the lock file `path` for the time of the block.

    The lock is the system's, so that a killed process never keeps it: a file that nobody has
    locked is stale. The file names its holder, for the message to whoever comes second.

    Args:
        path: the lock file; its folder is made, and removed where the block left it empty.
        what: what is locked, for messages: "runs/mine/prior".
        note: told a sentence where a stale lock is taken over, or the file system has no locks.
        wait: until the holder is done, instead of an error.

    Raises:
        InUse: another process holds it.
        RunError: the folder cannot be written.
    """
    new_folder = not path.parent.is_dir()
    system = FileLock(path, blocking=wait, fallback_to_soft=False)
    try:
        supported = _acquire(system)
    except Timeout as error:
        raise InUse(
            f"{what} is in use by {_holder(path) or 'another process'}: wait for it, or stop it."
        ) from error
    except OSError as error:
        raise cannot_write(path, error) from error
    lock, holder = Lock(path, what, _identity(path)), _holder(path)
    try:
        if not supported:
            last = f" (its file names {holder})" if holder else ""
            note(f"The file system of {path} has no locks{last}: let nobody else write {what} now.")
        elif holder:  # who ends in order removes the file
            note(f"Takes {what} over from {holder}, which ended without a word.")
        _name_holder(path)
        yield lock
    finally:
        with suppress(OSError):
            if lock.is_there():  # still locked, so that nobody else holds it
                path.unlink()
        system.release()
        if new_folder or wait:  # who waited cannot tell: its holder may have removed the folder
            with suppress(OSError):
                path.parent.rmdir()


def _acquire(lock: BaseFileLock) -> bool:
    """Acquires a lock, whose folder a holder may be removing just now.

    Returns:
        Whether the file system has locks.
    """
    for attempt in range(_ATTEMPTS):
        try:
            make_folder(Path(lock.lock_file).parent)
            lock.acquire()
            return True
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:
                raise
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            break
    return False


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns what the system knows a file by; None of one that is not there."""
    try:
        there = path.stat()
    except OSError:
        return None
    return there.st_dev, there.st_ino


def _name_holder(path: Path) -> None:
    try:
        path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    except OSError as error:
        raise cannot_write(path, error) from error


def _holder(path: Path) -> str | None:
    """Returns whom the file names; None if it names nobody."""
    try:
        named = parse_json(read_text(path, _LARGEST))
        return f"process {int(named['pid'])} on {str(named['host'])[:200]}"
    except (RunError, ValueError, KeyError, TypeError):
        return None
