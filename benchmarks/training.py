"""Training speed of small models, as ratios to a bare PyTorch loop in the same run.

    python -m benchmarks.training [--steps 1000] [--repeats 3]

Each repeat times every variant in turn, so that a change of the machine's load hits all of them;
the median over repeats counts.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from smoothctl.architectures.made import MADE
from smoothctl.datasets import open_dataset
from smoothctl.training.fit import fit_baseline

WIDTH, BATCH = 112, 512


def bare_loop(steps: int, fused: bool) -> float:
    """Returns the seconds of a loop with nothing around it: no averages, logs or checkpoints."""
    data, model = open_dataset("rings"), MADE((2,), config=MADE.Config(width=WIDTH))
    model.initialize(data.train.batch(0, 0, 0, 8192))
    adam = torch.optim.Adam(model.parameters(), lr=5e-3, fused=fused)
    per_epoch = len(data.train) // BATCH
    begun = time.perf_counter()
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        x = data.train.batch(0, epoch, position * BATCH, (position + 1) * BATCH)
        loss = -model.log_prob(x).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return time.perf_counter() - begun


def smoothctl_loop(steps: int, **training: object) -> float:
    """Returns the seconds of the product's loop, without the time to start and to finish."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"batch_size": BATCH, "log_every": 50, "steps": steps, **training}
        options = {"width": WIDTH}
        run = fit_baseline(out=Path(folder), device="cpu", options=options, training=settings)
        entries = run.stage("baseline").log()
        spans = [b["step"] - a["step"] for a, b in pairwise(entries)]
        rates = [entry["steps_per_second"] for entry in entries[1:]]
        seconds = sum(n / rate for n, rate in zip(spans, rates, strict=True))
        return seconds * steps / sum(spans)


VARIANTS: dict[str, Callable[[int], float]] = {
    "bare loop, Adam": lambda steps: bare_loop(steps, fused=False),
    "bare loop, fused Adam": lambda steps: bare_loop(steps, fused=True),
    "smoothctl": lambda steps: smoothctl_loop(steps),
    "smoothctl without averaging and clipping": lambda steps: smoothctl_loop(
        steps, ema=0.0, clip=0.0
    ),
}


def main() -> None:
    """Prints seconds a thousand steps and the ratio to the first variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    bare_loop(50, fused=True)
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(arguments.repeats):
        for name, run in VARIANTS.items():
            times[name].append(run(arguments.steps) / arguments.steps * 1000)
    baseline = statistics.median(times["bare loop, Adam"])
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"MADE, width {WIDTH}, batch {BATCH}: seconds per 1,000 steps and ratio")
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:45s} {middle:6.2f} s  {middle / baseline:5.2f}")


if __name__ == "__main__":
    main()
