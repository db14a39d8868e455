"""How a command ends, by itself and in a launch: an error becomes one sentence and an exit code."""

import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from types import FrameType
from typing import Any, NoReturn

from smoothctl.distributed.processes import PATIENCE, is_first, joined, lost, started, this_process
from smoothctl.errors import Interrupted, RunError, SmoothctlError, UsageError, escaped
from smoothctl.reporting.flags import with_flags

__all__ = ["Stopped", "by_first", "by_one", "fail", "raised_signals"]

Command = Callable[..., Any]

DEBUG = "SMOOTHCTL_DEBUG"
"""Environment variable: set it to see the traceback of an error."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_COURTESY = 5.0
"""Seconds in which the launcher ends the other processes if the first had the same error."""

_ECHO = 2.0
"""Seconds in which a second signal is an echo of the first."""

_IMPORT = 5.0
"""Seconds for which a signal waits for the end of an import."""

_MOMENT = 0.05
"""Seconds between two looks at whether it has ended."""

_NO_MEMORY = "Out of memory; take a smaller model, batch or number of samples."


class Stopped(BaseException):
    """A signal, raised where it finds the program, so that it cleans up on its way out.

    Args:
        signum: the signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _Handler:
    """Raises signals as `Stopped`, with the time at which each was received."""

    def __init__(self) -> None:
        self.received: list[tuple[int, float]] = []

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """Raises a signal, unless it is an echo; the first one not within an import."""
        now = time.monotonic()
        if self.received and now - self.received[-1][1] <= _ECHO:
            return
        self.received.append((signum, now))
        if len(self.received) > 1 or not _importing(frame):
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Stopped(signum)
        signal.signal(signal.SIGALRM, self.look_again)
        signal.setitimer(signal.ITIMER_REAL, _MOMENT)

    def look_again(self, signum: int, frame: FrameType | None) -> None:
        """Raises the first signal where the import has ended, or takes too long."""
        del signum
        first, since = self.received[0]
        if not _importing(frame) or time.monotonic() - since > _IMPORT:
            raise Stopped(first)
        signal.setitimer(signal.ITIMER_REAL, _MOMENT)


def _importing(frame: FrameType | None) -> bool:
    """Returns whether a module is half imported."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def raised_signals() -> Iterator[None]:
    """Raises Ctrl-C, SIGTERM and SIGHUP as `Stopped` for the time of the block.

    Another that follows at once is the same one: a launcher sends its own after a terminal's, and
    that must not cut the cleaning up short. One that the caller ignores (nohup) stays ignored.
    Within an import it waits a while for its end, as libraries swallow what is raised there.
    An error after a signal is its consequence: half an import, in a library that goes on.
    """
    before = {s: signal.getsignal(s) for s in (*_SIGNALS, signal.SIGALRM)}
    heard = [s for s in _SIGNALS if before[s] != signal.SIG_IGN]
    handler = _Handler()
    for each in heard:
        signal.signal(each, handler.stop)
    try:
        yield
    except Interrupted:
        raise  # says what the signal left
    except Exception as error:
        if handler.received:
            raise Stopped(handler.received[0][0]) from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for each in (*heard, signal.SIGALRM):
            signal.signal(each, before[each])


def fail(error: BaseException) -> NoReturn:
    """Ends the program: says on stderr what the error was, and exits with its code.

    Of several processes the first says it, and the others only what it may have had no time for.
    """
    message, code = _ending(_of_stdout(error))
    if os.environ.get(DEBUG):
        for line in "".join(traceback.format_exception(error)).split("\n"):
            sys.stderr.write(f"{escaped(line)}\n")
    who = "" if is_first() else f"{this_process()}: "
    if message and (is_first() or not _said_by_first(error)):
        what = "" if _was_asked_for(error, code) else "Error: "
        sys.stderr.write(f"{what}{who}{escaped(message)}\n")
    with suppress(OSError):
        sys.stderr.flush()
    sys.exit(code)


def _was_asked_for(error: BaseException, code: int) -> bool:
    """Returns whether a person stopped the program; a launcher does where a process has ended."""
    by_launcher = code == 128 + signal.SIGTERM and started() > 1
    return isinstance(error, (Stopped, Interrupted)) and not by_launcher


def _of_stdout(error: BaseException) -> BaseException:
    """Prints what is left to print; returns the error, or one that says it of stdout."""
    try:
        sys.stdout.flush()
    except OSError as unwritable:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # for what is left
        if isinstance(error, OSError) and error.errno == unwritable.errno != errno.EPIPE:
            return RunError(
                f"stdout cannot be written ({unwritable.strerror}): what was to be printed is "
                "lost, and nothing else."
            )
    return error


def _said_by_first(error: BaseException) -> bool:
    """Returns whether a process other than the first has nothing to add.

    With an error like the first one's it does not return: it waits a moment, and the launcher ends
    it. But the first may be the one that was lost, or killed while the others were at work.
    """
    if isinstance(error, Stopped):
        return error.signum != signal.SIGTERM or not joined()
    if isinstance(error, Interrupted):
        return True
    if not (lost(error) or lost(error.__cause__)):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_COURTESY)
    return False


def _ending(error: BaseException) -> tuple[str, int]:
    """Returns what to say of an error, and the exit code."""
    match error:
        case SmoothctlError():
            return with_flags(str(error)), error.exit_code
        case Stopped():
            return _stopped(error.signum), 128 + error.signum
        case UnicodeEncodeError():
            return f"{error.object!r} is not valid text: rename it.", 2
        case BrokenPipeError():
            return "", 1  # whoever read it has seen enough
        case OSError():
            where = f" ({error.filename})" if error.filename else ""
            return f"{error.strerror or error}{where}.", 1
        case MemoryError():
            return _NO_MEMORY, 1
        case RecursionError():
            return f"Something that was read is nested too deeply ({DEBUG}=1 shows where).", 1
    if lost(error):
        return (
            "Another process of this launch has ended or cannot be reached: see what it said; the "
            f"same command may be run again. {PATIENCE} sets how many seconds to wait for it."
        ), 1
    if "allocate memory" in str(error) or "out of memory" in str(error):
        return _NO_MEMORY, 1
    if (code := getattr(error, "exit_code", None)) is not None:  # typer's, of wrong options
        return _of_options(error), code
    return (
        f"Internal error, please report it: {type(error).__name__}: {error} "
        f"({DEBUG}=1 shows the traceback)."
    ), 1


def _of_options(error: Any) -> str:
    """Returns what typer says of wrong options; nothing where it has shown all of them."""
    said = error.format_message()
    if not said or error.ctx is None:
        return str(said)
    usage = " ".join(error.ctx.get_usage().split())
    return f"{said.rstrip('.')}. {usage}; see '{error.ctx.command_path} --help'."


def _stopped(signum: int) -> str:
    if signum == signal.SIGTERM and started() > 1:
        return "Stopped by the launcher, which does so when one of its processes has ended."
    return {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated."}.get(
        signal.Signals(signum), "Stopped, as the terminal was closed."
    )


def by_first(command: Command) -> Command:
    """Returns a verb that the first process does; the others have nothing to do."""

    @wraps(command)
    def done_by_first(*arguments: Any, **options: Any) -> Any:
        return command(*arguments, **options) if is_first() else None

    return done_by_first


def by_one(command: Command) -> Command:
    """Returns a verb that refuses to run beside other processes of a launch."""

    @wraps(command)
    def done_by_one(*arguments: Any, **options: Any) -> Any:
        if started() > 1:
            raise UsageError(
                f"'{command.__module__.rpartition('.')[2]}' does many things in turn and shares "
                "none of them: run it in one process, without the launcher."
            )
        return command(*arguments, **options)

    return done_by_one
