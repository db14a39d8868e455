"""Score matching on images with and without a little noise (NCSN figure 1)."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from smoothctl.datasets import open_dataset
from smoothctl.datasets.base import Dataset
from smoothctl.reporting.figures import lines, save
from smoothctl.reproduce.base import Budget, Experiment, Result, Row, at_most, better, collect
from smoothctl.rng import generator, normal, seed_from
from smoothctl.training.reporter import Reporter
from smoothctl_ncsn.losses import sliced_loss

__all__ = ["experiment"]

_NOISE = {"no noise": 0.0, "noise": 0.02}
"""Variance 0.0001 on [0, 1], as published, is a standard deviation of 0.02 on [−1, 1]."""

_FILTERS, _HALVED = (8, 16, 16, 32, 32), (1, 3)
"""A quarter of the published ones; the second and the fourth block halve the sides."""

_UNIT = 50.0
"""The networks give the score in units of 1/0.02, which is what it comes to with the noise."""

_STEPS, _BATCH, _RATE, _POINTS = 3000, 64, 1e-3, 100
_CONVERGED = 0.1
"""The largest fluctuation of a loss that counts as converged."""

_FEWEST = 4
"""Steps in whose last half the loss changes once."""


class _Block(nn.Module):
    """A pre-activation residual block that scales the sides by a factor, ½, 1 or 2.

    Args:
        inputs: channels.
        outputs: channels.
        factor: of the sides.
    """

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, inputs, H, W) to (batch, outputs, factor · H, factor · W)."""
        x = self.shortcut(x) + self.second(F.elu(self.first(F.elu(x))))
        return x if self.factor == 1 else F.interpolate(x, scale_factor=self.factor, mode="area")


def _network(channels: int) -> nn.Module:
    """Returns the residual auto-encoder of NCSN's appendix B.1, with a mirrored decoder."""
    sizes = list(zip((_FILTERS[0], *_FILTERS), _FILTERS, strict=False))
    factors = [0.5 if i in _HALVED else 1.0 for i in range(len(sizes))]
    encoder = [_Block(a, b, factor) for (a, b), factor in zip(sizes, factors, strict=True)]
    decoder = [_Block(b, a, 1 / factor) for (a, b), factor in zip(sizes, factors, strict=True)]
    ends = [(channels, _FILTERS[0]), (_FILTERS[0], channels)]
    first, last = (nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in ends)
    return nn.Sequential(first, *encoder, *reversed(decoder), nn.ELU(), last)


def _fit(dataset: Dataset, noise: float, seed: int, steps: int) -> tuple[int, dict[int, float]]:
    """Fits a network to images with so much noise.

    Returns:
        Its parameters, and the loss of the validation view by step, with the same noise and
        projections every time.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(seed, "weights"))
        network = _network(dataset.event_shape[0])
    adam = torch.optim.Adam(network.parameters(), lr=_RATE)
    draws, view, held_out = generator(seed, "loss"), dataset.train, dataset.validation.head()
    batches, every, losses = len(view) // _BATCH, max(1, steps // _POINTS), {}

    def loss(x: Tensor, source: Generator) -> Tensor:
        noisy = x + noise * normal(x.shape, x, source)
        return sliced_loss(lambda x: _UNIT * network(x), noisy, source).mean()

    for step in range(steps):
        epoch, batch = divmod(step, batches)
        adam.zero_grad()
        loss(view.batch(seed, epoch, batch * _BATCH, (batch + 1) * _BATCH), draws).backward()
        adam.step()
        if (step + 1) % every == 0:
            losses[step + 1] = loss(held_out, generator(seed, "validation")).item()
    return sum(p.numel() for p in network.parameters()), losses


def _fluctuation(losses: Sequence[float]) -> float:
    """Returns the mean change from one loss to the next over their mean size, in the last half."""
    last = losses[len(losses) // 2 :]
    return mean(abs(b - a) for a, b in pairwise(last)) / mean(map(abs, last))


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    dataset, steps = open_dataset("digits"), max(_FEWEST, budget.of(_STEPS))
    curves: list[dict[str, dict[int, float]]] = []
    for seed in seeds:
        reporter.note(f"Fits two networks for {steps:,} steps each, seed {seed}.")
        fits = {name: _fit(dataset, noise, seed, steps) for name, noise in _NOISE.items()}
        curves.append({name: losses for name, (_, losses) in fits.items()})
        size, _ = next(iter(fits.values()))
    values = [{name: list(curve.values()) for name, curve in each.items()} for each in curves]
    changes = collect([{k: _fluctuation(v) for k, v in each.items()} for each in values])
    last = collect([{k: v[-1] for k, v in each.items()} for each in values])
    rows = [
        Row(name, size, {"fluctuation": changes[name], "last loss": last[name]}) for name in _NOISE
    ]
    picture = folder / "ncsn-manifold.png"
    save(
        lines({k: {"held-out loss": (list(v), list(v.values()))} for k, v in curves[0].items()}),
        picture,
    )
    clean, noisy = _NOISE
    claims = [
        better(noisy, changes[noisy], clean, changes[clean], "fluctuation", "figure 1"),
        at_most("the fluctuation with noise, which converges,", changes[noisy], _CONVERGED),
    ]
    return Result("ncsn-manifold", list(seeds), {}, rows, claims, [str(picture)])


experiment = Experiment(
    "ncsn-manifold",
    "the loss of score matching on images with and without a little noise, on 8×8 digits",
    "NCSN (Song & Ermon 2019), figure 1, on embedded 8×8 digits",
    _run,
    paper="NCSN",
    section=3.1,
    equal="the network, and steps",
    note="The fluctuation is the mean change of the held-out loss from one evaluation to the next "
    "over its mean size, in the last half of the steps.",
)
