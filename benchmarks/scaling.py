"""Weak scaling: work a second of two processes, with as much work for each, over that of one.

    python -m benchmarks.scaling [--repeats 5] [--steps 60]

Each process has one thread. Launches of one and of two take turns, so that a change of the
machine's load hits both; the median over repeats counts, and 2.00 would be perfect.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROWS = {"made": 512, "pixelcnnpp": 16}
"""Examples that each process takes of a step."""

IMAGES = 64
"""Images that each process draws, in batches of half as many."""


def fitted_a_second(architecture: str, steps: int, folder: Path) -> float:
    """Returns the median examples a second of a fit, over all processes of this launch."""
    from smoothctl.distributed.processes import launched
    from smoothctl.training.fit import fit_baseline

    count = launched("cpu").count
    settings: dict[str, Any] = {"architecture": architecture, "device": "cpu"}
    settings |= {"dataset": "rings" if architecture == "made" else "digits"}
    training = {"steps": steps, "batch_size": count * ROWS[architecture], "log_every": 5}
    training |= {"validate_every": steps, "checkpoint_every": steps}
    run = fit_baseline(out=folder / architecture, training=training, **settings)
    rates = [e["steps_per_second"] for e in run.stage("baseline").log() if "validation" not in e]
    return statistics.median(rates[2:]) * count * ROWS[architecture]


def drawn_a_second(folder: Path) -> float:
    """Returns the images a second that all processes of this launch draw together."""
    from smoothctl.distributed.processes import launched
    from smoothctl.runs.run import load_run
    from smoothctl.sampling.draw import draw_all
    from smoothctl.smoothing.batching import Execution

    processes, run = launched("cpu"), load_run(folder / "pixelcnnpp")
    n = IMAGES * processes.count
    processes.gather(None)
    begun = time.perf_counter()
    execution = Execution(IMAGES // 2, processes=processes)
    draw_all(run, ["baseline"], n, execution=execution)
    processes.gather(None)
    return n / (time.perf_counter() - begun)


def work(steps: int, folder: Path) -> None:
    """Does what is measured in each process of a launch; the first prints the figures."""
    from smoothctl.distributed.processes import end, is_first, leave

    made = fitted_a_second("made", 10 * steps, folder)
    image = fitted_a_second("pixelcnnpp", steps, folder)
    figures = {"fit MADE": made, "fit PixelCNN++": image, "draw images": drawn_a_second(folder)}
    leave()
    if is_first():
        print(json.dumps(figures))
    end(0)


def measured(processes: int, steps: int) -> dict[str, float]:
    """Launches so many processes and returns what each figure is, in examples a second."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
        command += ["--num_processes", str(processes), "--main_process_port", "0"]
        command += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with tempfile.TemporaryDirectory() as folder:
        command += ["benchmarks.scaling", "--steps", str(steps), "--worker", folder]
        done = subprocess.run(  # noqa: S603, as it runs itself
            command, env=environment, check=True, stdout=subprocess.PIPE
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Prints examples a second of one process and of two, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.steps, arguments.worker)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, one thread a process")
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(arguments.repeats):
        for processes, figures in found.items():
            figures.append(measured(processes, arguments.steps))
    print(f"{'examples a second':18}{'one':>10}{'two':>10}{'ratio':>8}")
    for name in found[1][0]:
        one, two = (statistics.median(f[name] for f in found[n]) for n in (1, 2))
        print(f"{name:18}{one:10.1f}{two:10.1f}{two / one:8.2f}")


if __name__ == "__main__":
    main()
