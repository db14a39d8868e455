"""Annealed importance sampling of x̃: the tightest bound of log p(x), and one from above."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Generator, Tensor

from smoothctl.config import config
from smoothctl.errors import NotAvailable
from smoothctl.rng import generator, normal, uniform
from smoothctl.smoothing.batching import (
    AT_ONCE,
    Execution,
    evaluate_parts,
    rows_that_fit,
    spans,
)
from smoothctl.smoothing.latent import Latent
from smoothctl.smoothing.two_step import TwoStep

__all__ = [
    "AnnealedBounds",
    "Annealing",
    "Schedule",
    "annealed_bounds",
    "tuned_schedule",
]

_ROWS = {"image": 32, "vector": 4096}
"""Chains at once: constants, so that free memory doesn't change what they draw."""

_ACCEPTED = 0.9
"""Share of moves that step sizes are tuned to: what a chain gains from a longer step, it loses
again where it is refused."""

_LONGEST = math.pi / 2
"""Path of a move: a quarter of a period of the kernel's own distribution, where it forgets most."""

_JITTER = 0.2
"""Share by which a step is longer or shorter at random, so that no path comes back to its start."""

_RATE = 0.3
"""How fast the logarithm of a step follows its acceptance while it is tuned."""

_SIGMOID = 4.0
"""Where the sigmoid of the first schedule is cut off (Grosse et al. 2015, section 4.2)."""

_WARM_UP = 20
"""Moves at the widest temperature before steps are tuned along the schedule."""


@config
class Annealing:
    """How much work annealing is. Its time is temperatures × moves × leapfrogs × chains."""

    temperatures: int = Field(
        60, ge=2, le=100_000, description="distributions from q(x̃|x) to p(x̃|x)"
    )
    moves: int = Field(1, ge=1, le=1000, description="moves at each temperature")
    leapfrogs: int = Field(
        3, ge=1, le=1000, description="gradients of a move; 1: a Langevin step, more: Hamiltonian"
    )
    chains: int = Field(1, ge=1, le=1024, description="for each example; weights are averaged")


@dataclass(frozen=True)
class Schedule:
    """What chains follow; fixed before they see an example, so that their weights are unbiased.

    Args:
        betas: inverse temperatures, from 0 (the kernel) to 1 (the posterior), ascending.
        steps: step size at each of betas[1:-1], in units of the kernel's deviation.
    """

    betas: tuple[float, ...]
    steps: tuple[float, ...]


class AnnealedBounds(NamedTuple):
    """What chains say of log p(x) of each example, in nats."""

    log_weights: Tensor
    """(batch, chains); of chains that start at the posterior, of their reciprocal."""

    acceptance: Tensor
    """Share of moves that were accepted, (batch,)."""

    @property
    def below(self) -> Tensor:
        """The logarithm of 1/C Σ w, whose expectation is at most log p(x): (batch,)."""
        return self.log_weights.logsumexp(1) - math.log(self.log_weights.shape[1])

    @property
    def above(self) -> Tensor:
        """The same of chains from the posterior, at least log p(x) in expectation: (batch,)."""
        return -self.below

    @property
    def effective_chains(self) -> Tensor:
        """(Σ w)² / Σ w² of the chains of each example, 1 to C: (batch,)."""
        weights = self.log_weights.softmax(1)
        return 1 / weights.square().sum(1)


@dataclass(frozen=True)
class _State:
    """Chains at x̃, with the two log-densities between which they are annealed."""

    latent: Tensor
    log_kernel: Tensor
    log_joint: Tensor
    kernel_gradient: Tensor
    joint_gradient: Tensor

    def log_density(self, beta: float) -> Tensor:
        """Returns (1 − β) log q(x̃|x) + β log p(x̃) p(x|x̃): (rows,)."""
        return (1 - beta) * self.log_kernel + beta * self.log_joint

    def gradient(self, beta: float) -> Tensor:
        """Returns the gradient of `log_density` by x̃."""
        return (1 - beta) * self.kernel_gradient + beta * self.joint_gradient

    @property
    def log_ratio(self) -> Tensor:
        """The logarithm of p(x̃) p(x|x̃) / q(x̃|x), what a step of the temperature weighs: (rows,)."""
        return self.log_joint - self.log_kernel

    def where(self, chosen: Tensor, other: "_State") -> "_State":
        """Returns these rows where chosen, and those of another state elsewhere."""
        wide = chosen.view(-1, *[1] * (self.latent.ndim - 1))
        return _State(
            torch.where(wide, self.latent, other.latent),
            torch.where(chosen, self.log_kernel, other.log_kernel),
            torch.where(chosen, self.log_joint, other.log_joint),
            torch.where(wide, self.kernel_gradient, other.kernel_gradient),
            torch.where(wide, self.joint_gradient, other.joint_gradient),
        )


class _Chains:
    """Hamiltonian moves of x̃ for given x (Neal 2011), some of them for each example.

    Args:
        method: both stages, whose densities are known.
        x: clean samples, (batch, *event).
        labels: their classes, where a stage has any.
        settings: how much work.
        noise: what the moves draw.
    """

    def __init__(
        self,
        method: TwoStep,
        x: Tensor,
        labels: Tensor | None,
        settings: Annealing,
        noise: Generator,
    ) -> None:
        self.latent, self.settings, self.noise = Latent(method), settings, noise
        self.x = x.repeat_interleave(settings.chains, 0)
        self.labels = None if labels is None else labels.repeat_interleave(settings.chains, 0)
        self.scale = self.latent.deviations(x)
        stages = (method.prior, method.checked_denoiser())
        self.rows = max(1, min(rows_that_fit(stage, gradient=True) for stage in stages) // 2)

    def draw(self) -> _State:
        """Returns chains at x̃ ~ q(x̃|x)."""
        return self.at(self.latent.draw(self.x, self.noise))

    def at(self, latent: Tensor) -> _State:
        """Returns chains at given x̃, one for each row."""
        parts = [self._at(latent, start, stop) for start, stop in spans(len(self.x), self.rows)]
        return _State(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def _at(self, latent: Tensor, start: int, stop: int) -> tuple[Tensor, ...]:
        x, labels = self.x[start:stop], None if self.labels is None else self.labels[start:stop]
        with torch.enable_grad():
            leaf = latent[start:stop].detach().requires_grad_(True)
            log_kernel = self.latent.log_kernel(leaf, x)
            log_joint = self.latent.log_joint(leaf, x, labels)
            gradients = _gradient(log_kernel, leaf), _gradient(log_joint, leaf)
        return leaf.detach(), log_kernel.detach(), log_joint.detach(), *gradients

    def move(self, state: _State, beta: float, step: float) -> tuple[_State, Tensor]:
        """Does the moves of one temperature, which leave its distribution as it is.

        Returns:
            The chains afterwards, and the mean probability that a move was accepted, (rows,).
        """
        accepted = torch.zeros_like(state.log_joint)
        for _ in range(self.settings.moves):
            state, probability = self._move(state, beta, step)
            accepted += probability / self.settings.moves
        return state, accepted

    def _move(self, state: _State, beta: float, step: float) -> tuple[_State, Tensor]:
        """Does one move; momenta are those of x̃ in units of the kernel's deviation."""
        first = normal(state.latent.shape, state.latent, self.noise)
        wobble = 1 - _JITTER + 2 * _JITTER * uniform(state.log_joint.shape, first, self.noise)
        length = step * self.scale * wobble.view(-1, *[1] * (first.ndim - 1))
        momentum, proposed = first, state
        for _ in range(self.settings.leapfrogs):
            momentum = momentum + length / 2 * proposed.gradient(beta)
            proposed = self.at(proposed.latent + length * momentum)
            momentum = momentum + length / 2 * proposed.gradient(beta)
        gain = proposed.log_density(beta) - state.log_density(beta)
        gain = gain + (first.square() - momentum.square()).flatten(1).sum(1) / 2
        probability = gain.clamp(max=0).exp().nan_to_num(0)  # what is not finite is refused
        chance = uniform(probability.shape, probability, self.noise)
        return proposed.where(chance < probability, state), probability


def _gradient(of: Tensor, by: Tensor) -> Tensor:
    """Returns the gradient; zero where there is none, or none that is finite."""
    if not of.requires_grad:  # a uniform kernel is flat
        return torch.zeros_like(by)
    (gradient,) = torch.autograd.grad(of.sum(), by)
    return gradient.nan_to_num(0, 0, 0)


def annealed_bounds(
    method: TwoStep,
    x: Tensor,
    settings: Annealing,
    schedule: Schedule,
    seed: int,
    labels: Tensor | None = None,
    latent: Tensor | None = None,
    name: str = "annealed",
    execution: Execution = AT_ONCE,
) -> AnnealedBounds:
    r"""Returns what annealing says of log p(x) = log ∫ p(x̃) p(x|x̃) dx̃ (Neal 2001, eqs. 3 to 6).

    A chain starts at x̃ ~ q(x̃|x) and moves, at each temperature, by steps that keep
    q(x̃|x)^(1−β) (p(x̃) p(x|x̃))^β; its weight Π (p(x̃) p(x|x̃) / q(x̃|x))^Δβ is p(x) on average.
    From an exact draw of p(x̃|x), back to the kernel, it is 1/p(x), which bounds log p(x) from
    above (Grosse et al. 2015, section 3.1); of data that the model itself drew, that draw is the
    x̃ that x was drawn from.

    Args:
        method: kernel, prior and denoiser.
        x: clean samples, (batch, *event).
        settings: how much work.
        schedule: temperatures and steps, from `tuned_schedule` of other examples.
        seed: of the chains' noise.
        labels: classes, int64 (batch,), where a stage is conditioned on them.
        latent: a draw of p(x̃|x) for each x, as `Latent.sample` has it, from which the chains go
            back; None: from q(x̃|x).
        name: of this evaluation among those that are kept, and of its noise.
        execution: whose processes share the examples, and what keeps them.

    Raises:
        NotAvailable: a stage's density is not known, or a draw of the posterior lies where the
            kernel never draws, so that there is no bound from above.
    """
    chains_at_once = _ROWS[method.prior.domain]
    cuts = list(spans(len(x), max(1, chains_at_once // settings.chains)))

    def part(start: int, stop: int) -> dict[str, Tensor]:
        given = None if labels is None else labels[start:stop]
        noise = generator(seed, name, start)
        chains = _Chains(method, x[start:stop], given, settings, noise)
        begin = None if latent is None else latent[start:stop]
        weights, acceptance = _annealed(chains, schedule, begin)
        return {"weights": weights, "acceptance": acceptance}

    parts = evaluate_parts(name, part, cuts, execution)
    keys = ("weights", "acceptance")
    return AnnealedBounds(*(torch.cat([each[key] for each in parts]).to(x.device) for key in keys))


def _annealed(chains: _Chains, schedule: Schedule, latent: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns log-weights (batch, chains) and acceptance (batch,)."""
    count, rises = chains.settings.chains, [b - a for a, b in pairwise(schedule.betas)]
    stops = [*zip(schedule.betas[1:-1], schedule.steps, strict=True)]
    if latent is None:
        state, sign = chains.draw(), 1
    else:
        state, sign = chains.at(latent.repeat_interleave(count, 0)), -1
        if not state.log_kernel.isfinite().all():
            raise NotAvailable(
                "There is no bound from above with a kernel of bounded noise: the model's own "
                "samples lie outside it."
            )
    log_weights, accepted = sign * rises[::sign][0] * state.log_ratio, torch.zeros(())
    for (beta, step), rise in zip(stops[::sign], rises[::sign][1:], strict=True):
        state, probability = chains.move(state, beta, step)
        log_weights = log_weights + sign * rise * state.log_ratio
        accepted = accepted + probability / len(stops)
    return log_weights.view(-1, count), accepted.view(-1, count).mean(1)


def tuned_schedule(
    method: TwoStep,
    x: Tensor,
    settings: Annealing,
    seed: int,
    labels: Tensor | None = None,
) -> Schedule:
    """Returns temperatures and step sizes that suit a model, found on examples of their own.

    Temperatures are equally far apart by what the log-ratio changes along them: the variance of
    log p(x̃) p(x|x̃)/q(x̃|x) at β is the slope of its mean, and the distance of two neighbours is
    √(Δmean Δβ). Steps follow the share of moves that are accepted.

    Args:
        method: kernel, prior and denoiser.
        x: examples that no bound is asked of, (batch, *event).
        settings: how much work.
        seed: of their noise.
        labels: their classes, int64 (batch,), where a stage is conditioned on them.
    """
    one = replace(settings, chains=1)
    chains = _Chains(method, x, labels, one, generator(seed, "annealing", "tuning"))
    betas = _sigmoid(settings.temperatures)
    step, _ = _tuned_step(chains, chains.draw(), betas[1], 0.5, _WARM_UP)
    _, means = _tune(chains, betas, step)
    betas = _equally_far(betas, means)
    steps, _ = _tune(chains, betas, step)
    return Schedule(betas, steps)


def _tuned_step(
    chains: _Chains, state: _State, beta: float, step: float, times: int
) -> tuple[float, _State]:
    for _ in range(times):
        state, accepted = chains.move(state, beta, step)
        step *= math.exp(_RATE * (float(accepted.mean()) - _ACCEPTED))
        step = min(step, _LONGEST / chains.settings.leapfrogs)
    return step, state


def _tune(
    chains: _Chains, betas: Sequence[float], step: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns a step for each of betas[1:-1], and the mean log-ratio at each of betas."""
    state, steps = chains.draw(), []
    means = [float(state.log_ratio.mean())]
    for beta in betas[1:-1]:
        step, state = _tuned_step(chains, state, beta, step, 1)
        steps.append(step)
        means.append(float(state.log_ratio.mean()))
    return tuple(steps), (*means, means[-1])


def _sigmoid(temperatures: int) -> tuple[float, ...]:
    """Returns inverse temperatures from 0 to 1, closer together at both ends."""
    at = torch.sigmoid(torch.linspace(-_SIGMOID, _SIGMOID, temperatures + 1, dtype=torch.float64))
    betas = ((at - at[0]) / (at[-1] - at[0])).tolist()
    return (0.0, *betas[1:-1], 1.0)


def _equally_far(betas: Sequence[float], means: Sequence[float]) -> tuple[float, ...]:
    """Returns as many inverse temperatures, equally far apart by √(Δmean Δβ)."""
    length = [0.0]
    for (a, b), (low, high) in zip(pairwise(betas), pairwise(means), strict=True):
        length.append(length[-1] + math.sqrt(max(high - low, 0.0) * (b - a)) + 1e-3 * (b - a))
    wanted = torch.linspace(0, length[-1], len(betas), dtype=torch.float64)
    known, values = torch.tensor(length, dtype=torch.float64), torch.tensor(betas).double()
    right = torch.searchsorted(known, wanted).clamp(1, len(betas) - 1)
    share = (wanted - known[right - 1]) / (known[right] - known[right - 1])
    placed = torch.lerp(values[right - 1], values[right], share).tolist()
    return (0.0, *placed[1:-1], 1.0)
