"""What a command takes before it works, beside `import torch`, and beside another version.

    python -m benchmarks.start [--against CHECKOUT] [--repeats 5]

All take turns. Seconds of processors, as those on the clock depend on what else the machine does.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = ("fit-prior --dataset rings --steps 1 --out run --overwrite", "kernels list",
            "datasets list", "architectures list")  # fmt: skip


def seconds(arguments: list[str], checkout: Path, folder: str) -> float:
    """Returns the processor seconds of a Python that has a checkout first on its path."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    environment["SMOOTHCTL_CACHE"] = f"{folder}/cache"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603, as it runs this Python
        [sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints medians and, with another version, the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    here = Path(__file__).parents[1]
    there = (arguments.against or here).resolve()
    print(f"{platform.machine()}, Python {platform.python_version()}; CPU seconds")
    print(f"{'':62}{'here':>7}{'there':>7}{'ratio':>7}")
    starts = {"import torch": ["-c", "import torch"]}
    starts |= {words: ["-m", "smoothctl", *words.split()] for words in COMMANDS}
    for name, command in starts.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds(command, here, folder)
            pairs = [
                (seconds(command, here, folder), seconds(command, there, folder))
                for _ in range(arguments.repeats)
            ]
        own, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name:62}{own:7.2f}{other:7.2f}{ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
