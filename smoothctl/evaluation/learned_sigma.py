"""σ learned by the bound (ARDS section 3.3), of a run whose stages take it as an input."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from smoothctl.errors import NotAvailable
from smoothctl.rng import generator
from smoothctl.runs.run import Run

__all__ = ["LearnedSigma", "learned_sigma"]

_EXAMPLES = {"image": 256, "vector": 2048}
_GRIDS, _POINTS = 4, 7
"""Grids, each between the neighbours of the best of the one before, and their points."""


@dataclass(frozen=True)
class LearnedSigma:
    """The σ whose bound is the best, among those that a run knows.

    Args:
        sigma: the standard deviation, as the run's σ is meant.
        nats: the bound of −log p(x) there, mean over the examples.
        lowest: the least σ that the run knows.
        highest: the largest one.
        examples: how many training examples it was found on.
    """

    sigma: float
    nats: float
    lowest: float
    highest: float
    examples: int

    @property
    def at_an_end(self) -> bool:
        """Whether the best of all σ may lie outside of those that the run knows."""
        return self.sigma in (self.lowest, self.highest)


def learned_sigma(run: Run, seed: int = 0) -> LearnedSigma:
    """Returns the σ with the best bound of eq. 3 on training examples, to about 2 %.

    It is what gradients of the bound lead σ to (ARDS section 3.3), with networks that suit every
    σ. It is looked for in logarithms, by finer and finer grids, with the same noise in units of σ.

    Args:
        run: of both stages, fitted with `lowest_sigma`.
        seed: of examples and noise.

    Raises:
        NotAvailable: the run has no denoiser, or its stages know one σ alone.
        DataError: its data cannot be reached.
    """
    found = run.two_step()
    if found is None or not (found.prior.lowest_sigma and found.checked_denoiser().lowest_sigma):
        raise NotAvailable(
            f"The stages of {run.path} know one sigma alone: fit both with lowest_sigma."
        )
    stages = (found.prior, found.checked_denoiser())
    lowest, highest = max(stage.lowest_sigma for stage in stages), _highest(run)
    view, count = run.dataset().train, _EXAMPLES[found.prior.domain]
    x = view.batch(seed, 0, 0, min(count, len(view))).to(run.device)
    labels = None
    if found.classes is not None:
        labels = view.labels(seed, 0, 0, len(x)).to(run.device)

    def loss(log_sigma: float) -> float:
        """Returns −log p(x) by one draw at a σ, in nats."""
        sigma = min(max(math.exp(log_sigma), lowest), highest)
        method = replace(run, sampler={**run.sampler, "sigma": sigma}).two_step()
        assert method is not None
        return -float(method.bound(x, labels, generator(seed, "learned")).total.double().mean())

    best, nats = _least(loss, math.log(lowest), math.log(highest))
    sigma = min(max(float(f"{math.exp(best):.3g}"), lowest), highest)
    return LearnedSigma(sigma, nats, lowest, highest, len(x))


def _highest(run: Run) -> float:
    """Returns the σ that the stages were fitted up to."""
    return min(config.sigma for config in run.configs().values() if config.sigma is not None)


def _least(of: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Returns where a function is least between two ends, and its value there."""
    for _ in range(_GRIDS):
        grid = [low + (high - low) * i / (_POINTS - 1) for i in range(_POINTS)]
        values = [of(at) for at in grid]
        best = values.index(min(values))
        low, high = grid[max(0, best - 1)], grid[min(_POINTS - 1, best + 1)]
    return grid[best], values[best]
