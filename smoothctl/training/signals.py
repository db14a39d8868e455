"""Ctrl-C and SIGTERM as a flag that is read between two steps."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smoothctl.errors import Interrupted

__all__ = ["Received", "caught"]


class Received:
    """Which signal has arrived first; 0 for none. A second one interrupts at once.

    A launcher passes signals on to processes that may have received them already, so that under
    it only a second Ctrl-C does.

    Args:
        launched: whether a launcher started this process.
    """

    def __init__(self, launched: bool = False) -> None:
        self.launched = launched
        self.signum = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Notes the signal."""
        del frame
        again = not self.launched or signum == self.signum == signal.SIGINT
        if self.signum and again:
            raise Interrupted("Stopped at once; the last checkpoint is kept.", signum)
        self.signum = self.signum or signum


@contextmanager
def caught() -> Iterator[Received]:
    """Notes SIGINT and SIGTERM for the time of the block; in the main thread only."""
    received = Received(launched="WORLD_SIZE" in os.environ)
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {s: signal.signal(s, received) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
