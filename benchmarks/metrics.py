"""Speed of the figures of image quality on features that exist; FID as a ratio to `sqrtm`.

    python -m benchmarks.metrics [--count 10000] [--width 2048]

Random features with the decaying spectrum that those of networks have. The matrix square root
works on the same covariances in the same run, as clean-fid and most others compute FID. Where other
work is on the machine the seconds of processors compare better than those on the clock.
"""

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from smoothctl.metrics.frechet import frechet_between
from smoothctl.metrics.inception_score import InceptionScore
from smoothctl.metrics.kernel_distance import kernel_distance
from smoothctl.metrics.manifold import manifold_scores
from smoothctl.metrics.moments import Moments
from smoothctl.rng import generator

BLOCK = 256


def features(n: int, width: int, key: str, scale: float = 1.0) -> Tensor:
    """Returns non-negative correlated features (n, width)."""
    mixing = torch.randn(width, width, generator=generator("mixing", width)) / width**0.5
    spectrum = torch.arange(1, width + 1) ** -0.5
    draws = torch.randn(n, width, generator=generator(key, n, width))
    return scale * (draws * spectrum @ mixing).relu()


def streamed(x: Tensor) -> Moments:
    """Returns the moments, gathered a block at a time."""
    moments = Moments()
    for block in x.split(BLOCK):
        moments.update(block)
    return moments


def frechet(x: Tensor, y: Tensor) -> float:
    """Returns the Fréchet distance from features to figure."""
    return frechet_between(streamed(x), streamed(y))


def frechet_by_sqrtm(x: Tensor, y: Tensor) -> float:
    """Returns the same as clean-fid computes it, with NumPy's covariances."""
    a, b = (np.cov(z.double().numpy(), rowvar=False) for z in (x, y))
    root = scipy.linalg.sqrtm(a @ b).real
    shift = (x.double().mean(0) - y.double().mean(0)).square().sum()
    return float(shift) + float(np.trace(a) + np.trace(b) - 2 * np.trace(root))


def kernel_distance_by_products(
    x: Tensor, y: Tensor, subsets: int = 100, size: int = 1000
) -> float:
    """Returns a kernel distance from three whole products a subset, as clean-fid computes it."""
    random, total = np.random.RandomState(0), 0.0
    for _ in range(subsets):
        b, a = (z[torch.from_numpy(random.choice(len(z), size, replace=False))] for z in (y, x))
        for first, second, weight in ((a, a, 1.0), (b, b, 1.0), (a, b, -2.0)):
            kernel = (first.double() @ second.double().T / x.shape[1] + 1) ** 3
            if weight > 0:
                total += weight * float(kernel.sum() - kernel.trace()) / (size * (size - 1))
            else:
                total += weight * float(kernel.mean())
    return total / subsets


def inception_score(n: int) -> float:
    """Returns the score of random probabilities of 1,008 classes."""
    score = InceptionScore(n)
    random = generator("probabilities")
    for start in range(0, n, BLOCK):
        logits = torch.randn(min(BLOCK, n - start), 1008, generator=random)
        score.update(logits.softmax(1))
    return score.result().value


def timed(name: str, compute: Callable[[], Any]) -> tuple[float, Any]:
    """Prints the seconds of a call, on the clock and of processors; returns the first, and it."""
    begun, worked = time.perf_counter(), time.process_time()
    value = compute()
    seconds, work = time.perf_counter() - begun, time.process_time() - worked
    print(f"{name:40s} {seconds:6.1f} s {work:6.1f} CPU s   {value}", flush=True)
    return seconds, value


def main() -> None:
    """Prints seconds, figures, the ratio to `sqrtm`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=2048)
    arguments = parser.parse_args()
    n, width = arguments.count, arguments.width
    threads = torch.get_num_threads()
    versions = f"torch {torch.__version__}, scipy {scipy.__version__}"
    print(f"{platform.machine()}, {threads} threads, {versions}; {n} × {width} features")
    x, y = features(n, width, "x"), features(n, width, "y", 1.1)
    ours, value = timed("Fréchet distance, smoothctl", lambda: frechet(x, y))
    theirs, other = timed("Fréchet distance, scipy.linalg.sqrtm", lambda: frechet_by_sqrtm(x, y))
    print(f"ratio {ours / theirs:.2f}; relative difference {abs(value / other - 1):.1e}")
    ours, value = timed(
        "kernel distance, 100 subsets of 1,000", lambda: kernel_distance(x, y).value
    )
    theirs, other = timed("the same by whole products", lambda: kernel_distance_by_products(x, y))
    print(f"ratio {ours / theirs:.2f}; difference {abs(value - other):.1e}")
    timed("precision, recall, density, coverage", lambda: tuple(manifold_scores(y, x))[:4])
    timed("Inception score", lambda: inception_score(n))


if __name__ == "__main__":
    main()
