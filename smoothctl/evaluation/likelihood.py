"""Likelihoods and their bounds on test data, with standard errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.metrics.gain import GAIN_EXAMPLES, gain_from_context
from smoothctl.rng import generator
from smoothctl.smoothing.annealing import (
    AnnealedBounds,
    Annealing,
    Schedule,
    annealed_bounds,
    tuned_schedule,
)
from smoothctl.smoothing.batching import AT_ONCE, Execution, evaluate, evaluate_long, rows_that_fit
from smoothctl.smoothing.bounds import check_draws, latent_bound
from smoothctl.smoothing.latent import Latent
from smoothctl.smoothing.two_step import TwoStep

__all__ = [
    "AnnealingFigures",
    "Estimate",
    "annealed",
    "bounds",
    "exact_by_quadrature",
    "gain_estimate",
    "latent_bounds",
    "plain_likelihood",
]


_ANNEALED_BOUND = "bound, annealed"
_OWN_SAMPLES = "two-step, its own samples"
"""The row of what annealing says of data that the model drew."""

_LATENT_ROWS = 2**14
"""Rows times draws of latent variables at once: a constant, so that memory changes no result."""


@dataclass(frozen=True)
class Estimate:
    """A negative log-likelihood, or a bound or term of it: mean over the test examples.

    Args:
        model: which model.
        quantity: which figure.
        nats: the mean, in nats per example; lower is better.
        standard_error: of that mean, in nats.
        examples: how many test examples.
        bits_per_dim: the mean over D ln 2, for 8-bit images and the like; None for real numbers.
        bits_per_dim_error: the standard error of that.
    """

    model: str
    quantity: str
    nats: float
    standard_error: float
    examples: int
    bits_per_dim: float | None = None
    bits_per_dim_error: float | None = None


@dataclass(frozen=True)
class AnnealingFigures:
    """How well the chains of annealing went: means over the examples.

    Args:
        settings: how much work.
        acceptance: share of moves that were accepted.
        effective_chains: effective number of an example's chains, by the spread of their weights.
        spread: standard deviation of log w between an example's chains, nats; None of one chain.
    """

    settings: Annealing
    acceptance: float
    effective_chains: float
    spread: float | None


def _estimate(model: str, quantity: str, nats: Tensor, dims: int | None = None) -> Estimate:
    """Returns mean and error of values in nats, (batch,), and in bits/dim where dims are given."""
    n = len(nats)
    mean = float(nats.double().mean())
    error = float(nats.double().std()) / math.sqrt(n) if n > 1 else math.nan
    if dims is None:
        return Estimate(model, quantity, mean, error, n)
    unit = dims * math.log(2)
    return Estimate(model, quantity, mean, error, n, mean / unit, error / unit)


def _bit_dims(density: Density) -> int | None:
    """Returns D where the density gives the mass of images' values, so that bits/dim has a meaning.

    The density of real numbers depends on their unit; its bits a dimension would too.
    """
    discrete = density.levels is not None and density.domain == "image"
    return math.prod(density.event_shape) if discrete else None


@torch.no_grad()
def plain_likelihood(
    model: str,
    density: Density,
    x: Tensor,
    labels: Tensor | None = None,
    execution: Execution = AT_ONCE,
) -> Estimate:
    """Returns the exact negative log-likelihood of a density of clean data.

    Args:
        model: name for the result, and of what is kept of the work.
        density: of clean data.
        x: test examples, (batch, *event).
        labels: their classes, int64 (batch,), for a class-conditional model.
        execution: how the density is evaluated.
    """
    rows = rows_that_fit(density)
    log_prob = evaluate_long(model, density.log_prob, rows, x, None, labels, execution=execution)
    return _estimate(model, "exact", -log_prob, _bit_dims(density))


@torch.no_grad()
def latent_bounds(
    model: str,
    density: Density,
    x: Tensor,
    draws: int | Sequence[int],
    seed: int,
    progress: Progress | None = None,
) -> list[Estimate]:
    """Returns the bounds of a density with latent variables, the loosest first.

    Args:
        model: name for the results.
        density: of clean data, and `bounded`.
        x: test examples, (batch, *event).
        draws: K of the importance-weighted bound, or several; the one-draw bound comes first.
        seed: seed of the latent variables.
        progress: told (bounds done, bounds).
    """
    counts = sorted({1, *([draws] if isinstance(draws, int) else draws)})
    check_draws(counts)
    estimates = []
    for done, count in enumerate(counts, start=1):
        stream = generator(seed, "latent", count)
        bound = partial(latent_bound, density, draws=count, generator=stream)
        values = evaluate(bound, max(1, _LATENT_ROWS // count), x)
        name = "bound, 1 draw" if count == 1 else _tighter(count)
        estimates.append(_estimate(model, name, -values, _bit_dims(density)))
        if progress is not None:
            progress(done, len(counts))
    return estimates


@torch.no_grad()
def bounds(
    model: str,
    method: TwoStep,
    x: Tensor,
    draws: int | Sequence[int],
    seed: int,
    labels: Tensor | None = None,
    execution: Execution = AT_ONCE,
) -> tuple[list[Estimate], Tensor]:
    """Returns the bound of ARDS eq. 3, its three terms, and the importance-weighted bounds.

    In bits/dim the terms are differential entropies over D ln 2; only their sum is a code length.

    Args:
        model: name for the results.
        method: kernel, prior and denoiser.
        x: test examples, (batch, *event).
        draws: K of the importance-weighted bound, or several, which share their draws.
        seed: seed of the noise.
        labels: classes of the examples, int64 (batch,), for class-conditional models.
        execution: how the stages are evaluated; progress is that of the importance-weighted ones.

    Returns:
        The estimates of −log p(x), and the importance-weighted bound of each example for the
        largest K, (batch,).
    """
    terms = method.bound(x, labels, generator(seed, "bound"), execution)
    counts = [draws] if isinstance(draws, int) else sorted(set(draws))
    stream = generator(seed, "weights")
    tighter = method.importance_weighted_bounds(x, counts, labels, stream, execution)
    dims = None if method.denoiser is None else _bit_dims(method.denoiser)
    named: Sequence[tuple[str, Tensor]] = [
        ("bound, 1 draw", terms.total),
        ("  prior term", terms.prior),
        ("  kernel entropy", terms.entropy),
        ("  denoiser term", terms.denoiser),
        *((_tighter(k), each) for k, each in zip(counts, tighter, strict=True)),
    ]
    return [_estimate(model, name, -values, dims) for name, values in named], tighter[-1]


@torch.no_grad()
def gain_estimate(
    model: str, method: TwoStep, x: Tensor, seed: int, labels: Tensor | None = None
) -> Estimate | None:
    """Returns the gain from x̃ on the first examples, in nats and bits/dim; higher is better.

    Args:
        model: name for the result.
        method: kernel, prior and denoiser.
        x: test examples, (batch, *event).
        seed: seed of the noise.
        labels: classes of the examples, int64 (batch,), for class-conditional models.

    Returns:
        None without a denoiser whose density is known, and of a single example.
    """
    denoiser = method.denoiser
    if denoiser is None or not denoiser.tractable or len(x) < 2:
        return None
    x = x[: GAIN_EXAMPLES[denoiser.domain]]
    classes = method.labels_for(denoiser, None if labels is None else labels[: len(x)])
    x_smooth, rows = method.kernel.sample(x, generator(seed, "gain")), rows_that_fit(denoiser)

    def log_prob(context: Tensor) -> Tensor:
        return evaluate(denoiser.log_prob, rows, x, context, classes)

    gain = gain_from_context(log_prob, x_smooth)
    return _estimate(model, "gain from x̃", gain, _bit_dims(denoiser))


def annealed(
    method: TwoStep,
    x: Tensor,
    others: Tensor,
    settings: Annealing,
    seed: int,
    sandwich: bool = False,
    labels: Tensor | None = None,
    other_labels: Tensor | None = None,
    execution: Execution = AT_ONCE,
) -> tuple[list[Estimate], AnnealingFigures]:
    """Returns the annealed bound and, if asked for, both sides of it on the model's own samples.

    Of as many samples of the model as there are examples, −log p lies between "at most" and "at
    least": their gap is more than what the bound leaves to be gained (Grosse et al. 2015).

    Args:
        method: kernel, prior and denoiser.
        x: test examples, (batch, *event).
        others: examples for which temperatures and steps are tuned, (n, *event).
        settings: how much work.
        seed: seed of the noise.
        sandwich: also bound the model's own samples from both sides.
        labels: classes of the examples, int64 (batch,), for class-conditional models.
        other_labels: those of the others.
        execution: who does it, who is told, and what keeps it.

    Raises:
        NotAvailable: a stage's density is not known, or there is no bound from above.
    """
    schedule = _schedule(method, others, settings, seed, other_labels, execution)
    bounds = partial(annealed_bounds, method, settings=settings, schedule=schedule, seed=seed)
    parts = 3 if sandwich else 1
    found = bounds(x, labels=labels, execution=execution.part(0, parts))
    named = [("two-step", _ANNEALED_BOUND, -found.below)]
    if sandwich:
        sources = generator(seed, "own-smooth"), generator(seed, "own")
        own, latent = Latent(method).sample(len(x), labels, *sources)
        given = partial(bounds, own, labels=labels)
        below = given(name="own-below", execution=execution.part(1, parts)).below
        start = {"name": "own-above", "latent": latent}
        above = given(**start, execution=execution.part(2, parts)).above
        rows = {"at most, annealed": -below, "at least, annealed": -above, "  gap": above - below}
        named += [(_OWN_SAMPLES, quantity, values) for quantity, values in rows.items()]
    dims = None if method.denoiser is None else _bit_dims(method.denoiser)
    return [_estimate(*each, dims) for each in named], _figures(settings, found)


def _schedule(
    method: TwoStep,
    others: Tensor,
    settings: Annealing,
    seed: int,
    labels: Tensor | None,
    execution: Execution,
) -> Schedule:
    """Returns the schedule that is kept, or else the first process's."""
    kept = execution.kept("schedule")
    if kept is not None:
        return Schedule(*(tuple(kept[key].tolist()) for key in ("betas", "steps")))
    tuned = execution.processes.first(tuned_schedule(method, others, settings, seed, labels))
    double = torch.float64
    values = {"betas": torch.tensor(tuned.betas, dtype=double)}
    execution.keep("schedule", {**values, "steps": torch.tensor(tuned.steps, dtype=double)})
    return tuned


def _figures(settings: Annealing, found: AnnealedBounds) -> AnnealingFigures:
    several = settings.chains > 1
    return AnnealingFigures(
        settings,
        float(found.acceptance.mean()),
        float(found.effective_chains.mean()),
        float(found.log_weights.std(1).mean()) if several else None,
    )


def _tighter(draws: int) -> str:
    return "bound, 1 draw, sampled entropy" if draws == 1 else f"bound, {draws} draws"


@torch.no_grad()
def exact_by_quadrature(
    model: str,
    method: TwoStep,
    x: Tensor,
    bound: Tensor,
    limit: int,
    execution: Execution = AT_ONCE,
) -> Estimate:
    """Returns −log p(x) by quadrature over x̃, for one and two dimensions.

    Quadrature is dear, so it runs on the first `limit` examples; the mean gap to the
    importance-weighted bound there is subtracted from the bound's mean over all examples.

    Args:
        model: name for the result.
        method: kernel, prior and denoiser.
        x: test examples, (batch, D) with D ≤ 2.
        bound: importance-weighted bound of each, (batch,).
        limit: examples to integrate for.
        execution: how the stages are evaluated.

    Raises:
        NotAvailable: more than two dimensions.
    """
    gap = method.log_prob_by_quadrature(x[:limit], execution=execution) - bound[:limit]
    whole, paired = _estimate("", "", -bound), _estimate("", "", -gap)
    error = math.hypot(whole.standard_error, paired.standard_error)
    return Estimate(model, "exact, by quadrature", whole.nats + paired.nats, error, len(gap))
