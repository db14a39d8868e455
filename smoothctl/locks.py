"""One process at a time in a folder: a lock that the system frees when its holder dies."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smoothctl.errors import RunError
from smoothctl.files import cannot_write

__all__ = ["hold"]

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def hold(
    path: Path, what: str, note: Callable[[str], None] = lambda _: None, wait: bool = False
) -> Iterator[None]:
    """Holds the lock file `path` for the time of the block.

    The lock is the system's, so that a killed process never keeps it: a file that nobody has
    locked is stale. The file names its holder, for the message to whoever comes second.

    Args:
        path: the lock file; its folder is made.
        what: what is locked, for messages: "runs/mine/prior".
        note: told a sentence where a stale lock is taken over, or the file system has no locks.
        wait: until the holder is done, instead of an error.

    Raises:
        RunError: another process holds it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path, what, note, wait)
        holder = _holder(descriptor)
        if holder is not None:
            note(f"Takes {what} over from {holder}, which ended without a word.")
        me = {"host": socket.gethostname(), "pid": os.getpid()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(me).encode(), 0)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)  # while it is locked: nobody else can hold it yet
        os.close(descriptor)


def _locked(path: Path, what: str, note: Callable[[str], None], wait: bool) -> int:
    """Opens and locks the file; again if its holder removed it in between."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            holder = _holder(descriptor) or "another process"
            os.close(descriptor)
            raise RunError(
                f"{what} is in use by {holder}: wait for it, stop it, or choose another --out."
            ) from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(descriptor)
                raise
            note(f"The file system of {path} has no locks: let nobody else write {what} now.")
            return descriptor
        if _is_same_file(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        there, here = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _holder(descriptor: int) -> str | None:
    """Returns whom the file names; None if it names nobody."""
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(found['pid'])} on {str(found['host'])[:200]}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
