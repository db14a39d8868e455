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
from smoothctl.smoothing.batching import AT_ONCE, Execution, evaluate, evaluate_long, rows_that_fit
from smoothctl.smoothing.bounds import check_draws, latent_bound
from smoothctl.smoothing.two_step import TwoStep

__all__ = [
    "Estimate",
    "bounds",
    "exact_by_quadrature",
    "gain_estimate",
    "latent_bounds",
    "plain_likelihood",
]


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
