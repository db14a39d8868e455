"""`python tests/sampling_child.py K sample …`: parts are small, and the K-th sync is fatal."""

import os
import signal
import sys

from smoothctl import cli
from smoothctl.sampling import draw as sampling
from smoothctl.smoothing import batching

__all__ = ["SHARD", "small_parts"]

SHARD = 16


def small_parts() -> None:
    """Makes every part a small one."""
    sampling._BATCHES, batching._MOST_IMAGES["cpu"] = 2, SHARD // 2
    batching.KEPT_ROWS.update(image=SHARD, vector=64 * SHARD)


def die_at(moment: int) -> None:
    """Ends this process, as by kill -9, where it would sync a file for the k-th time."""
    sync, count = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = fsync


if __name__ == "__main__":
    small_parts()
    die_at(int(sys.argv.pop(1)))
    cli.main()
