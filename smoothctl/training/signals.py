"""Ctrl-C and SIGTERM as a flag that is read between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smoothctl.errors import Interrupted

__all__ = ["Received", "caught"]


class Received:
    """Which signal has arrived; 0 for none. A second one interrupts at once."""

    signum = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Notes the signal."""
        del frame
        if self.signum:
            raise Interrupted("Stopped at once; the last checkpoint is kept.", signum)
        self.signum = signum


@contextmanager
def caught() -> Iterator[Received]:
    """Notes SIGINT and SIGTERM for the time of the block; in the main thread only."""
    received = Received()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {s: signal.signal(s, received) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
