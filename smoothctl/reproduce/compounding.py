"""A plain model likes its own bad samples; a smoothed one sees what is wrong (ARDS section 1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from smoothctl.architectures.base import to_grid
from smoothctl.evaluation.likelihood import bounds, plain_likelihood
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    collect,
)
from smoothctl.reproduce.fitted import OF_WHICH, fitted_runs
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_IMAGES, _DRAWS = 357, 8
_MOVED = 0.1
"""Share of the pixels that a corruption moves to a value drawn at random."""

_PLAIN, _SMOOTHED = "plain, bits/dim", "two-step bound, bits/dim"
_TEST, _OWN, _SPOILT = "test images", "samples of the plain model", "test images, corrupted"


def _corrupted(x: Tensor, levels: int, seed: int) -> Tensor:
    """Returns images, (n, C, H, W), of which a share of the pixels has another value at random."""
    chance = generator(seed, "corrupt")
    chosen = torch.rand(x.shape, generator=chance) < _MOVED
    values = torch.randint(levels, x.shape, generator=chance).to(x) * 2 / (levels - 1) - 1
    return torch.where(chosen, values, x)


def _bits(run: Run, x: Tensor, budget: Budget) -> dict[str, float]:
    """Returns bits/dim of images by the plain model, exact, and by the two-step one, a bound."""
    method = run.two_step()
    assert method is not None
    plain = plain_likelihood("plain", run.density("baseline"), x).bits_per_dim
    smoothed = bounds("two-step", method, x, budget.draws or _DRAWS, seed=0)[0][-1].bits_per_dim
    assert plain is not None
    assert smoothed is not None
    return {_PLAIN: plain, _SMOOTHED: smoothed}


def _measure(run: Run, seed: int, budget: Budget) -> dict[str, dict[str, float]]:
    """Returns the bits/dim of each set of images."""
    dataset = run.dataset()
    levels = dataset.levels or 256
    test = dataset.test.head(min(_IMAGES, budget.examples))
    own = to_grid(draw(run, "baseline", len(test), seed).samples, levels)
    sets = {_TEST: test, _OWN: own, _SPOILT: _corrupted(test, levels, seed)}
    return {name: _bits(run, images, budget) for name, images in sets.items()}


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    runs = fitted_runs(folder, seeds, budget, reporter)
    found = [_measure(run, seed, budget) for run, seed in zip(runs, seeds, strict=True)]
    rows = [Row(name, 0, collect([each[name] for each in found])) for name in found[0]]
    return Result("compounding", list(seeds), {}, rows, _claims(found))


def _claims(found: Sequence[Mapping[str, Mapping[str, float]]]) -> list[Claim]:
    above = {
        model: [each[_OWN][model] - each[_TEST][model] for each in found]
        for model in (_PLAIN, _SMOOTHED)
    }
    plain, smoothed = above[_PLAIN], above[_SMOOTHED]
    spoilt = [each[_SPOILT][_PLAIN] - each[_TEST][_PLAIN] for each in found]
    return [
        Claim(
            "the plain model's samples are as likely as test images by the plain model",
            f"{mean(plain):+.3f} bits/dim beside test images, most {max(plain):+.3f}",
            max(plain) <= 0,
            "section 1",
        ),
        Claim(
            "they are further from test images by the smoothed model than by the plain one",
            f"{mean(smoothed):+.3f} against {mean(plain):+.3f} bits/dim",
            all(s > p for s, p in zip(smoothed, plain, strict=True)),
        ),
        Claim(
            "corrupted test images are less likely by the plain model than its own samples",
            f"{mean(spoilt):+.3f} against {mean(plain):+.3f} bits/dim",
            all(s > p for s, p in zip(spoilt, plain, strict=True)),
        ),
    ]


experiment = Experiment(
    "compounding",
    "what a plain and a smoothed model make of the plain one's samples, on digits or MNIST",
    "ARDS (Meng et al. 2021), section 1",
    _run,
    takes_dataset=True,
    paper="ARDS",
    section=1.0,
    equal="parameters, and seconds of one thread, of the plain model and of both stages together",
    minutes=5,
    note=f"{OF_WHICH} "
    f"Higher bits/dim are less likely. A corruption gives {_MOVED:.0%} of the pixels a value "
    f"at random; the bound is that of {_DRAWS} draws.",
)
