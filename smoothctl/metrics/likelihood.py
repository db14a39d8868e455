"""Likelihoods and their bounds on test data, with standard errors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.randomness import generator
from smoothctl.smoothing import TwoStep

__all__ = ["Estimate", "bounds", "exact_by_quadrature", "plain_likelihood"]


@dataclass(frozen=True)
class Estimate:
    """A negative log-likelihood, or a bound or term of it: mean over the test examples.

    Args:
        model: which model.
        quantity: which figure.
        nats: the mean, in nats per example; lower is better.
        standard_error: of that mean, in nats.
        examples: how many test examples.
    """

    model: str
    quantity: str
    nats: float
    standard_error: float
    examples: int


def _estimate(model: str, quantity: str, nats: Tensor) -> Estimate:
    n = len(nats)
    error = float(nats.double().std()) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(model, quantity, float(nats.double().mean()), error, n)


@torch.no_grad()
def plain_likelihood(model: str, density: Density, x: Tensor) -> Estimate:
    """Returns the exact negative log-likelihood of a density of clean data, (batch, *event)."""
    parts = [density.log_prob(rows) for rows in x.split(2**16)]
    return _estimate(model, "exact", -torch.cat(parts))


@torch.no_grad()
def bounds(
    model: str,
    method: TwoStep,
    x: Tensor,
    draws: int,
    seed: int,
    progress: Progress | None = None,
) -> tuple[list[Estimate], Tensor]:
    """Returns the bound of ARDS eq. 3, its three terms, and the importance-weighted bound.

    Args:
        model: name for the results.
        method: kernel, prior and denoiser.
        x: test examples, (batch, *event).
        draws: K of the importance-weighted bound.
        seed: seed of the noise.
        progress: told (examples done, examples) of the importance-weighted bound.

    Returns:
        The estimates of −log p(x), and the importance-weighted bound of each example, (batch,).
    """
    terms = method.bound(x, generator(seed, "bound"))
    tighter = method.importance_weighted_bound(x, draws, generator(seed, "weights"), progress)
    return [
        _estimate(model, "bound, 1 draw", -terms.total),
        _estimate(model, "  prior term", -terms.prior),
        _estimate(model, "  kernel entropy", -terms.entropy),
        _estimate(model, "  denoiser term", -terms.denoiser),
        _estimate(model, f"bound, {draws} draws", -tighter),
    ], tighter


@torch.no_grad()
def exact_by_quadrature(
    model: str,
    method: TwoStep,
    x: Tensor,
    bound: Tensor,
    limit: int,
    progress: Progress | None = None,
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
        progress: told (examples done, examples).

    Raises:
        NotAvailable: more than two dimensions.
    """
    gap = method.log_prob_by_quadrature(x[:limit], progress=progress) - bound[:limit]
    whole, paired = _estimate("", "", -bound), _estimate("", "", -gap)
    error = math.hypot(whole.standard_error, paired.standard_error)
    return Estimate(model, "exact, by quadrature", whole.nats + paired.nats, error, len(gap))
