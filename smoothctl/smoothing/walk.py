"""Walk-jump sampling of images: x̃ by a walk along the prior's own score, x by the second step."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.rng import normal, row_generators, uniform
from smoothctl.smoothing import batching

__all__ = ["WalkedPrior"]

_STEP, _FRICTION = 0.5, 1.0
"""Step in units of σ, and friction in units of 1/σ (Frey et al. 2024, with unit mass)."""


class WalkedPrior(Density):
    """A prior of images whose x̃ come from underdamped Langevin dynamics instead of its sampler.

    The walk of walk-jump sampling (Saremi & Hyvärinen 2019; Frey et al. 2024): it needs nothing
    but ∇ log p(x̃) at one σ, starts from uniform noise smoothed by σ, and has forgotten its start
    only after steps enough; the jump is either second step of ARDS.

    Args:
        prior: of x̃.
        sigma: standard deviation of its smoothing, in data units.
        steps: of the walk.
    """

    domain = "image"

    def __init__(self, prior: Density, sigma: float, steps: int) -> None:
        super().__init__(prior.event_shape, None, prior.levels, prior.config)
        self.prior, self.sigma, self.steps = prior, sigma, steps
        self.classes = prior.classes

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x̃) of the prior itself, in nats: (batch,)."""
        return self.prior.log_prob(x, context, labels)

    def bytes_per_example(self) -> int:
        """Returns what the prior takes for an image and for its score."""
        return self.prior.bytes_per_example()

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Returns where n walks end: (n, C, H, W)."""
        *_, last = self._walk(n, labels, generator, progress)
        return last

    def trajectory(
        self,
        n: int,
        frames: int,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Returns so many states of n walks, evenly spaced; see `Density.trajectory`."""
        wanted = torch.linspace(0, self.steps, frames + 1).round().long().tolist()[1:]
        states = dict(enumerate(self._walk(n, None, generator, progress)))
        return torch.stack([states[at] for at in wanted])

    def _walk(
        self,
        n: int,
        labels: Tensor | None,
        generator: Generator | None,
        progress: Progress | None,
    ) -> Iterator[Tensor]:
        """Yields the start of the walks, and where they are after each step.

        A step is half a drift, half a kick, friction with noise, half a kick and half a drift.
        """
        sources, like = row_generators(n, generator), next(self.prior.parameters())
        length, forgetting = _STEP * self.sigma, math.exp(-_STEP * _FRICTION)
        shape = (1, *self.event_shape)

        def noise() -> Tensor:
            return torch.cat([normal(shape, like, source) for source in sources])

        start = torch.cat([uniform(shape, like, source) for source in sources])
        x = 2 * start - 1 + self.sigma * noise()
        velocity = noise()
        yield x
        for done in range(1, self.steps + 1):
            x = x + length / 2 * velocity
            kick = length / 2 * self._score(x, labels)
            velocity = forgetting * (velocity + kick) + kick
            velocity = velocity + math.sqrt(1 - forgetting**2) * noise()
            x = x + length / 2 * velocity
            if progress is not None:
                progress(done, self.steps)
            yield x

    def _score(self, x: Tensor, labels: Tensor | None) -> Tensor:
        rows = batching.rows_that_fit(self.prior, gradient=True)
        return batching.evaluate(self.prior.score_function, rows, x, None, labels)
