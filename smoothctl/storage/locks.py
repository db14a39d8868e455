"""One process at a time in a folder: a lock that the system frees when its holder dies."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from smoothctl.errors import RunError
from smoothctl.storage.files import cannot_write

__all__ = ["Lock", "hold"]

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_ATTEMPTS = 100


@dataclass(frozen=True)
class Lock:
    """A lock that is held.

    Args:
        path: its file.
        what: what is locked, for messages.
        descriptor: the open file.
    """

    path: Path
    what: str
    descriptor: int

    def check(self) -> None:
        """Checks that the file is still there, and with it the folder that it guards.

        Raises:
            RunError: it was removed or moved, so that nothing may be written there any more.
        """
        if not _is_same_file(self.descriptor, self.path):
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
        RunError: another process holds it, or the folder cannot be written.
    """
    try:
        new_folder = not path.parent.is_dir()
        descriptor = _locked(path, what, note, wait)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        _name_holder(path, descriptor)
        yield Lock(path, what, descriptor)
    finally:
        _release(path, descriptor)
        if new_folder or wait:  # who waited cannot tell: its holder may have removed the folder
            with suppress(OSError):
                path.parent.rmdir()


def _locked(path: Path, what: str, note: Callable[[str], None], wait: bool) -> int:
    """Opens and locks the file; again if its holder removed it in between."""
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise RunError(
                f"{what} is in use by {holder or 'another process'}: wait for it, stop it, or "
                "choose another `out`."
            ) from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(descriptor)
                raise
            holder = _holder(descriptor)
            last = f" (its file names {holder})" if holder else ""
            note(f"The file system of {path} has no locks{last}: let nobody else write {what} now.")
            return descriptor
        if _is_same_file(descriptor, path):
            holder = _holder(descriptor)
            if holder is not None:
                note(f"Takes {what} over from {holder}, which ended without a word.")
            return descriptor
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Opens the file, and makes it and its folder, which a holder may be removing just now."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_ATTEMPTS):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return os.open(path, flags, 0o666)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _name_holder(path: Path, descriptor: int) -> None:
    me = {"host": socket.gethostname(), "pid": os.getpid()}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(me).encode(), 0)
    except OSError as error:
        raise cannot_write(path, error) from error


def _release(path: Path, descriptor: int) -> None:
    """Removes the file while it is locked, when nobody else can hold it, and frees the lock."""
    with suppress(OSError):
        if _is_same_file(descriptor, path):
            path.unlink()
    os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Returns whether the path still leads to the open file; another one may stand there."""
    try:
        there, here = path.stat(), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _holder(descriptor: int) -> str | None:
    """Returns whom the file names; None if it names nobody."""
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(found['pid'])} on {str(found['host'])[:200]}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
