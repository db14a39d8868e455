"""Time and memory of the search for nearest neighbours.

    python -m benchmarks.neighbours [IMAGES] [--queries 1000] [--references 60000] [-k 10]

IMAGES is what `smoothctl neighbours --reference` takes, with a test split; random bytes of MNIST's
shape without it. Each repeat is a process of its own, so that the peak is that of the search and
of what it needs to start.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import torch

from smoothctl.metrics.image_sets import ImageSet, open_images
from smoothctl.metrics.neighbours import memorisation, nearest
from smoothctl.rng import generator


def random_images(n: int, key: str) -> ImageSet:
    """Returns bytes that have nothing in common with images but their shape."""
    draws = generator("benchmark", key)
    pixels = torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8, generator=draws)
    return ImageSet(key, (1, 28, 28), n, lambda start, stop: pixels[start:stop])


def peak() -> float:
    """Returns the process's largest resident set so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(images: str | None, queries: int, references: int, k: int) -> dict[str, float]:
    """Returns seconds and MiB of one search, and of the memorisation figures."""
    if images is None:
        train, test = (random_images(n, key) for n, key in ((references, "x"), (queries, "y")))
    else:
        train, test = open_images(images).head(references), open_images(images, "test")
        test = test.head(queries)
    before, begun = peak(), time.perf_counter()
    nearest(test, train, k)
    found = {"nearest, s": time.perf_counter() - begun, "before, MiB": before, "peak, MiB": peak()}
    begun = time.perf_counter()
    memorisation(test, train, test)
    return {**found, "memorisation, s": time.perf_counter() - begun}


def main() -> None:
    """Prints the median over repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", metavar="IMAGES")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--references", type=int, default=60_000)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        sizes = (arguments.queries, arguments.references, arguments.k)
        print(json.dumps(measure(arguments.images, *sizes)))
        return
    command = [sys.executable, "-m", "benchmarks.neighbours", *sys.argv[1:], "--once"]
    runs = []
    for _ in range(arguments.repeats):
        done = subprocess.run(  # noqa: S603, as it runs itself
            command, check=True, capture_output=True, text=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    what = arguments.images or "random bytes, 28×28"
    print(f"{arguments.queries} queries in {arguments.references} of {what}, k = {arguments.k}")
    for name in runs[0]:
        print(f"{name:20s} {statistics.median(run[name] for run in runs):8.1f}")


if __name__ == "__main__":
    main()
