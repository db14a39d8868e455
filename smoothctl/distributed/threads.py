"""How many threads a fit computes with on a CPU."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["suited_threads"]

_VARIABLE = "OMP_NUM_THREADS"

_WORTH_THREADS = 500_000
"""Parameters from which on a second thread pays where it need not wait (benchmarks/threads.py)."""


@contextmanager
def suited_threads(parameters: int, note: Callable[[str], None]) -> Iterator[None]:
    """Computes with one thread for the time of the block, where the network is small.

    Operations that take microseconds gain nothing from being shared, and on a busy machine all
    threads wait for the one that is not running. OMP_NUM_THREADS chooses otherwise.

    Args:
        parameters: trained numbers of the network.
        note: told about it, where that is fewer threads than there were.
    """
    import torch

    before = torch.get_num_threads()
    if before == 1 or parameters >= _WORTH_THREADS or _VARIABLE in os.environ:
        yield
        return
    note(
        f"Computes with one thread of {before}, as suits a network of {parameters:,} parameters; "
        f"{_VARIABLE}={before} takes all."
    )
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
