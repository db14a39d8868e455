"""Training steps of small and larger networks with one thread and with two, on the clock.

    python -m benchmarks.threads [--busy 1] [--repeats 7] [--seconds 0.3]

Both take turns in one process, on an otherwise idle machine, beside so many processes that keep a
core busy each. A ratio above 1 says that the second thread costs time.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch

from smoothctl.architectures.base import Density
from smoothctl.architectures.made import MADE
from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.training.adam import Adam

WIDTHS, FILTERS = (32, 112, 256, 512, 1024), (8, 16, 32, 64)


def stepper(density: Density, rows: int) -> Callable[[], None]:
    """Returns a training step of a density on a batch that stays the same."""
    x = torch.rand(rows, *density.event_shape) * 2 - 1
    density.initialize(x)
    adam = Adam(density.parameters(), (0.9, 0.999))

    def step() -> None:
        adam.zero_grad()
        density.training_loss(x).mean().backward()
        adam.step(1e-4)

    return step


def networks() -> Iterator[tuple[str, Density, int]]:
    """Yields name, density and batch: MADE of two coordinates, PixelCNN++ of 8×8 grey images."""
    for width in WIDTHS:
        yield f"made, width {width}", MADE((2,), config=MADE.Config(width=width)), 512
    for filters in FILTERS:
        config = PixelCNNpp.Config(filters=filters)
        yield f"pixelcnnpp, {filters} filters", PixelCNNpp((1, 8, 8), None, None, config), 8


def per_step(step: Callable[[], None], threads: int, seconds: float) -> float:
    """Returns the seconds a step takes on the clock, over at least so many seconds."""
    torch.set_num_threads(threads)
    step()
    begun, count = time.perf_counter(), 0
    while time.perf_counter() < begun + seconds or count < 3:
        step()
        count += 1
    return (time.perf_counter() - begun) / count


@contextmanager
def a_busy_process() -> Iterator[None]:
    """Keeps one core busy."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def main() -> None:
    """Prints milliseconds a step, and the median ratio of two threads to one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3)
    arguments = parser.parse_args()
    load = f"{os.getloadavg()[0]:.1f}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load}, torch {torch.__version__}")
    print(f"{'beside ' + str(arguments.busy) + ' busy':26}{'parameters':>12}{'one, ms':>10}"
          f"{'two, ms':>10}{'two ÷ one':>11}")  # fmt: skip
    with ExitStack() as others:
        for _ in range(arguments.busy):
            others.enter_context(a_busy_process())
        for name, density, rows in networks():
            step = stepper(density, rows)
            pairs = [
                [per_step(step, threads, arguments.seconds) for threads in (1, 2)]
                for _ in range(arguments.repeats)
            ]
            one, two = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(two / one for one, two in pairs)
            count = sum(p.numel() for p in density.parameters())
            print(f"{name:26}{count:12,}{one:10.2f}{two:10.2f}{ratio:11.2f}", flush=True)


if __name__ == "__main__":
    main()
