"""Ctrl-C, SIGTERM and a closed terminal as a flag that is read between two steps."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smoothctl.errors import Interrupted

__all__ = ["SIGNALS", "Received", "caught"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ECHO = 2.0
"""Seconds in which a launcher's Ctrl-C is the one that the terminal has sent."""


class Received:
    """Which signal has arrived first; 0 for none. A second one interrupts at once.

    A launcher passes signals on to processes that may have received them already, so that under
    it only a second Ctrl-C does, and not one that follows at once.

    Args:
        launched: whether a launcher started this process.
    """

    def __init__(self, launched: bool = False) -> None:
        self.launched = launched
        self.signum = 0
        self.time = -math.inf

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Notes the signal."""
        del frame
        echo = self.launched and time.monotonic() - self.time < _ECHO
        again = not self.launched or (signum == self.signum == signal.SIGINT and not echo)
        if self.signum and again:
            raise Interrupted("Stopped at once; the last checkpoint is kept.", signum)
        if not self.signum:
            self.signum, self.time = signum, time.monotonic()


@contextmanager
def caught() -> Iterator[Received]:
    """Notes SIGINT, SIGTERM and SIGHUP for the time of the block; in the main thread only.

    One that the caller ignores (nohup) stays ignored.
    """
    received = Received(launched="WORLD_SIZE" in os.environ)
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    heard = [s for s in SIGNALS if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, received) for s in heard}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
