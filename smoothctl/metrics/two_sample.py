"""Distances between two sets of vectors."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from smoothctl.errors import DataError
from smoothctl.rng import generator as seeded
from smoothctl.rng import normal, seed_from

__all__ = [
    "FEWEST",
    "ClassifierTest",
    "check_pair",
    "classifier_test",
    "energy_distance",
    "sliced_wasserstein",
]

FEWEST = 20
_STEPS, _BATCH, _WIDTH, _RATE = 600, 256, 64, 5e-3
_AT_ONCE = 2**16
"""Samples that one block of distances has on its longer side."""

_WAVES, _LOWEST, _HIGHEST = 64, 0.5, 10.0


def energy_distance(x: Tensor, y: Tensor) -> float:
    r"""Returns 2 E|X − Y| − E|X − X′| − E|Y − Y′| without bias (Székely & Rizzo 2013).

    Zero in expectation for equal distributions, and then as often negative as positive.

    Args:
        x: samples, (n, D).
        y: samples, (m, D).

    Raises:
        DataError: fewer than two samples, unequal widths, or values that are not finite.
    """
    check_pair(x, y)
    x, y = x.double(), y.double()
    between = _mean_distance(x, y)
    within = [_mean_distance(z, z) * len(z) / (len(z) - 1) for z in (x, y)]
    return 2 * between - sum(within)


def sliced_wasserstein(
    x: Tensor, y: Tensor, projections: int = 256, generator: Generator | None = None
) -> float:
    r"""Returns the mean over random directions of the 1-d Wasserstein-1 distance, in data units.

    (Bonneel et al. 2015.) In one dimension it is the Wasserstein-1 distance itself.

    Args:
        x: samples, (n, D).
        y: samples, (m, D); both are compared at the quantiles of the smaller set.
        projections: number of directions.
        generator: draws the directions.

    Raises:
        DataError: fewer than two samples, unequal widths, or values that are not finite.
    """
    check_pair(x, y)
    x, y = x.double(), y.double()
    count = 1 if x.shape[1] == 1 else projections
    directions = normal((x.shape[1], count), x, generator)
    directions = directions / directions.norm(dim=0)
    quantiles = (torch.arange(min(len(x), len(y)), dtype=x.dtype) + 0.5) / min(len(x), len(y))
    total = 0.0
    for block in directions.split(32, dim=1):
        gap = _quantiles(x @ block, quantiles) - _quantiles(y @ block, quantiles)
        total += float(gap.abs().mean(0).sum())
    return total / count


class ClassifierTest(NamedTuple):
    """How well a classifier tells two sets apart."""

    accuracy: float
    """Share of held-out samples that it assigns to their own set; 0.5 on average if equal."""

    z: float
    """The accuracy's distance from 0.5 in standard deviations under equal distributions."""

    p_value: float
    """Probability of an accuracy at least as high, if the distributions are equal."""

    held_out: int
    """Held-out samples, as many of each set."""


def classifier_test(x: Tensor, y: Tensor, seed: int = 0) -> ClassifierTest:
    r"""Returns the held-out accuracy of a classifier of x against y (Lopez-Paz & Oquab 2017).

    A random half of both sets trains a small network; on the other half, of t samples, the
    accuracy of equal distributions is about N(½, 1/4t). The network sees the coordinates and
    waves of them, sin and cos of (w·x) with random w of several lengths: without the short waves
    it misses fine structure. Sees what the two distances above are blind to, such as a wrong
    noise width; notices wrong weights of far modes less than they do. Half a second.

    Args:
        x: samples, (n, D).
        y: samples, (m, D); of the larger set a random part, as large as the smaller.
        seed: of halves, waves, weights and batches.

    Raises:
        DataError: fewer than 20 samples, unequal widths, or values that are not finite.
    """
    check_pair(x, y)
    size = min(len(x), len(y))
    if size < FEWEST:
        raise DataError(
            f"A classifier test needs at least {FEWEST} samples of each set, not {size}."
        )
    order = seeded(seed, "halves")
    x, y = (z[torch.randperm(len(z), generator=order)[:size]].cpu().double() for z in (x, y))
    half = size // 2
    seen, held = torch.cat([x[:half], y[:half]]), torch.cat([x[half:], y[half:]])
    spread = seen.std(0)
    spread[spread == 0] = 1
    waves = _waves(x.shape[1], seeded(seed, "waves"))
    seen, held = (_with_waves((z - seen.mean(0)) / spread, waves) for z in (seen, held))
    model = _fit(seen, seed)
    right = (model(held).squeeze(1) > 0) == _is_second(held)
    accuracy = float(right.double().mean())
    z = (accuracy - 0.5) * 2 * math.sqrt(len(held))
    return ClassifierTest(accuracy, z, 0.5 * math.erfc(z / math.sqrt(2)), len(held))


@torch.enable_grad()
def _fit(inputs: Tensor, seed: int) -> nn.Module:
    """Fits a classifier to inputs whose second half is the second set: (n, k) -> (n, 1) logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(seed, "classifier test"))
        model = nn.Sequential(
            nn.Linear(inputs.shape[1], _WIDTH),
            nn.SiLU(),
            nn.Linear(_WIDTH, _WIDTH),
            nn.SiLU(),
            nn.Linear(_WIDTH, 1),
        )
    labels, order = _is_second(inputs).to(inputs), seeded(seed, "batches")
    adam = torch.optim.AdamW(model.parameters(), lr=_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, _RATE, _STEPS)
    for _ in range(_STEPS):
        rows = torch.randint(len(inputs), (_BATCH,), generator=order)
        logits = model(inputs[rows]).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(logits, labels[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return model.requires_grad_(False)


def _is_second(inputs: Tensor) -> Tensor:
    return torch.arange(len(inputs)) >= len(inputs) // 2


def _waves(width: int, generator: Generator) -> Tensor:
    """Returns random directions of geometrically growing lengths: (width, waves)."""
    directions = normal((width, _WAVES), torch.empty(0, dtype=torch.float64), generator)
    lengths = torch.logspace(math.log10(_LOWEST), math.log10(_HIGHEST), _WAVES)
    return F.normalize(directions, dim=0) * lengths


def _with_waves(x: Tensor, waves: Tensor) -> Tensor:
    angles = x @ waves
    joined = torch.cat([x, angles.sin(), angles.cos()], dim=1)
    return joined.to(torch.get_default_dtype())


def _quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """Returns the empirical quantiles of each column: (n, k) -> (levels, k)."""
    ordered = values.sort(dim=0).values
    return ordered[(levels * len(ordered)).long().clamp(max=len(ordered) - 1)]


def _mean_distance(x: Tensor, y: Tensor) -> float:
    blocks = ((rows, columns) for rows in x.split(1024) for columns in y.split(_AT_ONCE))
    total = math.fsum(float(torch.cdist(*block).sum()) for block in blocks)
    return total / (len(x) * len(y))


def check_pair(x: Tensor, y: Tensor) -> None:
    """Checks that x and y are two sets of vectors that can be compared, (n, D) and (m, D).

    Raises:
        DataError: fewer than two vectors, unequal widths, or values that are not finite.
    """
    if min(len(x), len(y)) < 2 or x.shape[1:] != y.shape[1:] or x.ndim != 2:
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise DataError(f"Two sets of at least two vectors of one width are needed, not {shapes}.")
    for name, z in (("first", x), ("second", y)):
        bad = int((~z.isfinite()).any(1).sum())
        if bad:
            raise DataError(f"{bad} of the {len(z)} samples of the {name} set are not finite.")
    if math.prod(x.shape[1:]) == 0:
        raise DataError("The vectors have no coordinates.")
