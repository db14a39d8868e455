"""How often each two-sample statistic notices that samples are wrong: the table of docs/statistics.

    python -m benchmarks.power [--samples 5000] [--repeats 20]

A statistic notices where it exceeds the 95th percentile of its own values on true samples (three
times as many repeats), so that of true samples it would reject 5 %. As many fresh true samples
are the reference each time.
"""

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from smoothctl.datasets.gaussians import EightGaussians
from smoothctl.datasets.shapes import Checkerboard, Rings
from smoothctl.datasets.synthetic import Synthetic
from smoothctl.metrics.two_sample import classifier_test, energy_distance, sliced_wasserstein
from smoothctl.rng import generator, normal, uniform


class Fault(NamedTuple):
    """Samples that are wrong in one way."""

    name: str
    data: Synthetic
    sample: Callable[[int, Generator], Tensor]


def rings(
    radii: tuple[float, ...] = (0.75, 1.5, 2.25, 3.0),
    weights: tuple[float, ...] = (1, 1, 1, 1),
    noise: float = 0.08,
) -> Callable[[int, Generator], Tensor]:
    """Returns a sampler of rings with other radii, weights or noise."""

    def sample(n: int, generator: Generator) -> Tensor:
        ring = torch.multinomial(
            torch.tensor(weights, dtype=torch.float), n, True, generator=generator
        )
        radius = torch.tensor(radii)[ring][:, None]
        angle = 2 * math.pi * uniform((n,), radius, generator)
        points = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
        return points + noise * normal((n, 2), points, generator)

    return sample


def strays(share: float) -> Callable[[int, Generator], Tensor]:
    """Returns a sampler of rings with a share of samples anywhere in the square around them."""

    def sample(n: int, generator: Generator) -> Tensor:
        x = Rings().sample(n, generator)
        anywhere = 6.6 * uniform((n, 2), x, generator) - 3.3
        return torch.where(uniform((n, 1), x, generator) < share, anywhere, x)

    return sample


def lighter_mode(n: int, generator: Generator) -> Tensor:
    """Draws of eight Gaussians, one of which lost half of its mass to the others."""
    weights = torch.tensor([1.0] * 7 + [0.5])
    modes = torch.multinomial(weights, n, True, generator=generator)
    centres = torch.tensor(EightGaussians.centres)[modes]
    return centres + EightGaussians.noise * normal((n, 2), centres, generator)


def blurred_board(n: int, generator: Generator) -> Tensor:
    """Draws of the checkerboard, blurred by 0.3 (cells are 2 wide)."""
    x = Checkerboard().sample(n, generator)
    return x + 0.3 * normal((n, 2), x, generator)


def copies(n: int, generator: Generator) -> Tensor:
    """Draws a tenth as many of the rings and repeats each ten times."""
    return Rings().sample(n // 10, generator).repeat(10, 1)


FAULTS = [
    Fault("rings: third radius 2.25 → 2.33", Rings(), rings(radii=(0.75, 1.5, 2.33, 3.0))),
    Fault("rings: noise 0.08 → 0.12", Rings(), rings(noise=0.12)),
    Fault("rings: noise 0.08 → 0.05", Rings(), rings(noise=0.05)),
    Fault("rings: outer ring 25 % → 20 %", Rings(), rings(weights=(1, 1, 1, 0.75))),
    Fault("rings: inner ring 25 % → 14 %", Rings(), rings(weights=(0.5, 1, 1, 1))),
    Fault("rings: 3 % strays", Rings(), strays(0.03)),
    Fault("rings: 10 % strays", Rings(), strays(0.10)),
    Fault("rings: each sample ten times", Rings(), copies),
    Fault("eight Gaussians: one at half weight", EightGaussians(), lighter_mode),
    Fault("checkerboard: blurred by 0.3", Checkerboard(), blurred_board),
]


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Returns the unbiased squared MMD, Gaussian kernel (Gretton et al. 2012).

    Its bandwidth is the median distance between pooled samples. It is not part of smoothctl: as
    the table shows, it sees what the energy distance sees.
    """
    pooled = torch.cat([x, y])
    rate = -0.5 / torch.pdist(pooled[:: max(1, len(pooled) // 1000)]).median() ** 2
    between, *within = (
        float((rate * distances.square_()).exp_().mean(dtype=torch.float64))
        for distances in (torch.cdist(x, y), torch.pdist(x), torch.pdist(y))
    )
    return sum(within) - 2 * between


def statistics_of(data: Synthetic, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """Returns every statistic of samples x and true samples y; larger is worse."""
    return {
        "energy distance": energy_distance(x, y),
        "sliced Wasserstein": sliced_wasserstein(x, y, generator=generator(seed, "projections")),
        "MMD": squared_mmd(x, y),
        "classifier test": classifier_test(x, y, seed).z,
        "off the support": float(data.off_support(x).float().mean()),
    }


def repeated(
    name: str, data: Synthetic, sample: Callable[[int, Generator], Tensor], n: int, repeats: int
) -> dict[str, Tensor]:
    """Returns `repeats` values of every statistic, each on fresh samples."""
    rows = []
    for seed in range(repeats):
        x, y = sample(n, generator(name, "faulty", seed)), data.sample(n, generator(name, seed))
        rows.append(statistics_of(data, x, y, seed))
    return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}


def main() -> None:
    """Prints for every fault how often each statistic notices it, in percent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    n, repeats = arguments.samples, arguments.repeats
    thresholds: dict[str, dict[str, float]] = {}
    for fault in FAULTS:
        data = fault.data
        if data.name not in thresholds:
            true = repeated("true", data, data.sample, n, 3 * repeats)
            thresholds[data.name] = {k: float(v.quantile(0.95)) for k, v in true.items()}
            if len(thresholds) == 1:
                print(" | ".join([f"| {f'{n} samples':37s}", *true, ""]))
                print("|---" * (len(true) + 1) + "|")
        found = repeated(fault.name, data, fault.sample, n, repeats)
        shares = [
            float((values > thresholds[data.name][key]).float().mean())
            for key, values in found.items()
        ]
        print(" | ".join([f"| {fault.name:37s}", *(f"{s:.0%}" for s in shares), ""]), flush=True)


if __name__ == "__main__":
    main()
