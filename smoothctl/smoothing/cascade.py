"""A denoiser of several steps: from x̃ at the widest σ through narrower ones to x."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.errors import NotAvailable
from smoothctl.rng import forked, normal, row_generators

__all__ = ["Cascade", "ImageCascade"]


class _Bridge(NamedTuple):
    """q(x_k | x, x_{k+1}) of Gaussian smoothing: where x_k lies between them, and how surely."""

    share: float
    deviation: float

    @classmethod
    def between(cls, low: float, high: float) -> "_Bridge":
        """Returns that of σ_k below σ_{k+1}."""
        share = (low / high) ** 2
        return cls(share, low * math.sqrt(1 - share))

    def mean(self, x: Tensor, above: Tensor) -> Tensor:
        """Returns E[x_k | x, x_{k+1}]; shape of x."""
        return x + self.share * (above - x)


class Cascade(Density):
    r"""p(x | x_K) = ∫ Π_k p(x_{k−1} | x_k) dx_1 … dx_{K−1}, x_0 = x, with x_k = x + σ_k ε.

    One network that takes σ as an input does every step. The levels between are known by a bound:
    they are drawn by q(x_k | x, x_{k+1}), which is Gaussian, so that the bound of both stages
    together is ARDS eq. 3 applied K times.

    Args:
        network: p(x_{k−1} | x_k), at any σ of the levels.
        sigmas: σ_1 < … < σ_K, the widest that of the prior.
        scale: what σ is in units of, (D,) or ().
    """

    tractable = False
    bounded = True

    def __init__(
        self, network: Density, sigmas: Sequence[float], scale: Tensor | None = None
    ) -> None:
        super().__init__(network.event_shape, network.context_shape, network.levels, network.config)
        self.network, self.sigmas = network, tuple(sigmas)
        self.classes = network.classes
        self.scale = torch.ones(()) if scale is None else scale
        self.bridges = [_Bridge.between(low, high) for low, high in pairwise(self.sigmas)]

    def at(self, sigma: float | Tensor) -> Self:
        """Returns the cascade itself: σ is no input of it."""
        return self

    def step(self, k: int) -> Density:
        """Returns p(x_{k−1} | x_k), k from 1: of the data's values, or above them of numbers."""
        view = self.network.at(self.sigmas[k - 1])
        if k > 1:
            view.levels = None
        return view

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fits the network's scales to what the steps see, one step for each example in turn."""
        path = self._path(x, _needed(context), None)
        level = torch.arange(len(x), device=x.device) % len(self.sigmas)
        target, given = _chosen(path[:-1], level), _chosen(path[1:], level)
        self.network.at(self._sigmas(level)).initialize(target, given)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Says that there is a bound instead.

        Raises:
            NotAvailable: always.
        """
        raise NotAvailable("A cascade integrates over the levels between: use `bound`.")

    def log_weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        draws: int = 1,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns log Π p(x_{k−1}|x_k) − log Π q(x_k | x, x_{k+1}) of paths, nats: (batch, draws).

        Args:
            x: clean samples, (batch, *event).
            context: x̃ at the widest σ, shape of x.
            labels: classes, where the network has any.
            draws: paths of each.
            generator: draws them.
        """
        rows = x.repeat_interleave(draws, 0)
        widest = _needed(context).repeat_interleave(draws, 0)
        classes = None if labels is None else labels.repeat_interleave(draws, 0)
        levels = self.draw_between(rows, widest, generator)
        log_weights = self.log_steps(rows, levels, classes) - self.log_between(rows, levels)
        return log_weights.view(len(x), draws)

    def training_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns minus the bound of one path, of which each row has one step: (batch,).

        Its expectation over the steps is that of the bound.
        """
        count = len(self.sigmas)
        level = torch.randint(count, (len(x),), generator=generator).to(x.device)
        path = self._path(x, _needed(context), generator)
        target, given = _chosen(path[:-1], level), _chosen(path[1:], level)
        losses = self._step_losses(target, given, level, labels)
        return count * losses - self._entropies(x)

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws x_{K−1}, …, x_1 and x given x̃: (n, *event)."""
        return self.path(n, _needed(context), labels, generator)[-1]

    def inpaint(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Completes x̃ at each σ from the widest on, and x: what is known is smoothed by q.

        What is known of x_k is drawn by q(x_k | x, x_{k+1}), and the step completes the rest.
        """
        self.check_known(known, len(x))
        state, count = _needed(context), len(self.sigmas)
        sources = forked(len(x), generator, 2 * count - 1)
        for k, source in zip(range(count, 0, -1), sources, strict=False):
            target = x
            if k > 1:
                bridge, rows = self.bridges[k - 2], row_generators(len(x), sources[-k + 1])
                noise = torch.stack([normal(x.shape[1:], x, own) for own in rows])
                target = bridge.mean(x, state) + bridge.deviation * self.scale.to(x) * noise
            state = self.step(k).inpaint(target, known, state, labels, source)
        return state

    def path(
        self,
        n: int,
        context: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> list[Tensor]:
        """Returns x̃ at each σ from the widest on, and x: K + 1 tensors (n, *event)."""
        states = [context]
        levels = range(len(self.sigmas), 0, -1)
        for k, source in zip(levels, forked(n, generator, len(levels)), strict=True):
            states.append(self.step(k).sample(n, states[-1], labels, source))
        return states

    def draw_between(self, x: Tensor, widest: Tensor, generator: Generator | None) -> Tensor:
        """Draws x_1 … x_K given both ends, the last of which is given: (batch, K, *event)."""
        return torch.stack(self._path(x, widest, generator)[1:], dim=1)

    def log_between(self, x: Tensor, levels: Tensor) -> Tensor:
        """Returns Σ log q(x_k | x, x_{k+1}) of x_1 … x_K, (batch, K, *event): (batch,)."""
        return self._log_bridges([x, *levels.unbind(1)])

    def log_steps(self, x: Tensor, levels: Tensor, labels: Tensor | None) -> Tensor:
        """Returns Σ log p(x_{k−1} | x_k) of x and x_1 … x_K: (batch,)."""
        total = x.new_zeros(len(x))
        for k, (target, given) in enumerate(pairwise([x, *levels.unbind(1)]), start=1):
            total = total + self.step(k).log_prob(target, given, labels)
        return total

    def deviations(self, like: Tensor) -> Tensor:
        """Returns those of x_k given its neighbours, of x_K given x: (K, *(1 …) or (D,))."""
        each = [*(bridge.deviation for bridge in self.bridges), self.sigmas[-1]]
        scale = self.scale.to(like)
        return like.new_tensor(each).view(-1, *[1] * (like.ndim - 1)) * scale

    def bytes_per_example(self) -> int:
        """Returns what one step takes."""
        return self.network.bytes_per_example()

    def sampling_note(self) -> str | None:
        """Returns what the network says."""
        return self.network.sampling_note()

    def _sigmas(self, level: Tensor) -> Tensor:
        """Returns σ of the steps that rows take, numbered from 0: (batch,)."""
        return torch.tensor(self.sigmas, dtype=torch.float64)[level.cpu()]

    def _path(self, x: Tensor, widest: Tensor, generator: Generator | None) -> list[Tensor]:
        """Draws [x, x_1, …, x_K] given both ends."""
        path = [widest]
        for bridge in reversed(self.bridges):
            spread = bridge.deviation * self.scale.to(x)
            path.append(bridge.mean(x, path[-1]) + spread * normal(x.shape, x, generator))
        return [x, *reversed(path)]

    def _log_bridges(self, path: Sequence[Tensor]) -> Tensor:
        """Returns Σ log q(x_k | x, x_{k+1}) of a path: (batch,)."""
        x, total = path[0], path[0].new_zeros(len(path[0]))
        for k, bridge in enumerate(self.bridges, start=1):
            spread = bridge.deviation * self.scale.to(x)
            z = (path[k] - bridge.mean(x, path[k + 1])) / spread
            log_density = -0.5 * (z**2 + math.log(2 * math.pi)) - spread.log()
            total = total + log_density.flatten(1).sum(1)
        return total

    def _entropies(self, x: Tensor) -> Tensor:
        """Returns Σ H(q(x_k | x, x_{k+1})), a scalar."""
        scale = self.scale.to(x).expand(x.shape[1:])
        each = 0.5 * math.log(2 * math.pi * math.e)
        logs = [each + math.log(bridge.deviation) + scale.log() for bridge in self.bridges]
        return torch.stack([log.sum() for log in logs]).sum()

    def _step_losses(
        self, target: Tensor, given: Tensor, level: Tensor, labels: Tensor | None
    ) -> Tensor:
        """Returns −log p of each row's step; the first one is of the data's values."""
        if self.levels is None:
            network = self.network.at(self._sigmas(level))
            return -network.log_prob(target, given, labels)
        losses = target.new_zeros(len(target))
        for chosen, first in ((level == 0, True), (level > 0, False)):
            if chosen.any():
                view = self.network.at(self._sigmas(level[chosen]))
                view.levels = self.levels if first else None
                classes = None if labels is None else labels[chosen]
                losses[chosen] = -view.log_prob(target[chosen], given[chosen], classes)
        return losses


class ImageCascade(Cascade):
    """The same of images, whose values have a mass where they are on a grid."""

    domain = "image"


def _chosen(states: Sequence[Tensor], level: Tensor) -> Tensor:
    """Returns row i of states[level[i]]."""
    return torch.stack([*states])[level, torch.arange(len(level), device=level.device)]


def _needed(context: Tensor | None) -> Tensor:
    if context is None:
        raise NotAvailable("A cascade denoises: it needs x̃ as its context.")
    return context
