"""Mixtures of logistics: densities on the reals, masses of 8-bit values, closed-form draws."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from smoothctl.rng import uniform

__all__ = [
    "LARGEST_LOG_SCALE",
    "Mixture",
    "bin_log_mass",
    "log_scale_of",
    "logistic_log_density",
    "normal_log_density",
    "ordered_log_scales",
    "spread",
]


LARGEST_LOG_SCALE = 30.0
"""Of a setting, either way: float32 can take its exponential, and multiply by that."""

_TINY = 1e-5
"""A bin's width, in units of the scale, under which an expansion is exact."""


class Mixture(NamedTuple):
    """Parameters of mixtures of logistics, each of shape (*batch, K)."""

    logits: Tensor
    means: Tensor
    log_scales: Tensor

    def log_parts(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Returns each component's log-density, or log-mass given levels: (*batch, K)."""
        values = x.unsqueeze(-1)
        if levels is None:
            return logistic_log_density(values, self.means, self.log_scales)
        return bin_log_mass(values, self.means, self.log_scales, levels)

    def log_prob(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Returns log Σₖ πₖ f(x; μₖ, sₖ) in nats: (*batch,) -> (*batch,)."""
        parts = self.log_parts(x, levels) + F.log_softmax(self.logits, dim=-1)
        return torch.logsumexp(parts, dim=-1)

    def sample(self, generator: Generator | None = None) -> Tensor:
        """Draws the component, then the value by its inverse distribution function: (*batch,)."""
        shape = self.logits.shape[:-1]
        u = uniform((*shape, 2), self.logits, generator)
        return self.quantile(u[..., 0], u[..., 1])

    def quantile(self, u_component: Tensor, u_value: Tensor) -> Tensor:
        """Maps two uniforms to a draw: μₖ + sₖ logit(u) with k from the cumulated weights."""
        cumulated = self.logits.softmax(-1).cumsum(-1)[..., :-1]
        k = (u_component.unsqueeze(-1) > cumulated).sum(-1, keepdim=True)
        mean, log_scale = (p.gather(-1, k).squeeze(-1) for p in (self.means, self.log_scales))
        return mean + log_scale.exp() * torch.logit(u_value)


def logistic_log_density(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Returns log of e^(−z) / s(1 + e^(−z))² with z = (x − μ)/s, in nats; stable in both tails."""
    z = (x - mean) * torch.exp(-log_scale)
    return -(z + log_scale + 2 * F.softplus(-z))


def normal_log_density(x: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    """Returns log N(x; μ, sd²) in nats, elementwise."""
    z = (x - mean) * torch.exp(-log_sd)
    return -(0.5 * z**2 + log_sd + 0.5 * math.log(2 * math.pi))


def bin_log_mass(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Returns the log-mass of the bin around x, the edge bins reaching to infinity, in nats.

    With σ the logistic distribution function and bin edges a < b in units of the scale,
    log[σ(b) − σ(a)] = −softplus(−b) − softplus(a) + log(1 − e^(a−b)), which loses no digits
    (discretised mixture of logistics, Salimans et al. 2017, section 2.1).

    Args:
        x: values on the grid v · 2/(levels − 1) − 1, broadcastable to the parameters.
        mean: means, in the same units.
        log_scale: logarithms of the scales.
        levels: number of grid values.
    """
    half = 1 / (levels - 1)
    inverse = torch.exp(-log_scale)
    above, below = (x - mean + half) * inverse, (x - mean - half) * inverse
    lower_tail, upper_tail = -F.softplus(-above), -F.softplus(below)
    width = _log_width(math.log(2 * half) - log_scale)
    middle = lower_tail + upper_tail + width
    inner = torch.where(x > 1 - half, upper_tail, middle)
    return torch.where(x < half - 1, lower_tail, inner)


def _log_width(log_u: Tensor) -> Tensor:
    """Returns log(1 − e^(−u)) of log u, with a finite gradient for any scale.

    Of a u so small that 1 − e^(−u) would underflow it is log u − u/2, to the last digit.
    """
    u = torch.exp(log_u)
    exact = torch.log(-torch.expm1(-u.clamp(min=_TINY)))  # clamped where it is not taken
    return torch.where(u < _TINY, log_u - u / 2, exact)


def log_scale_of(sd: float) -> float:
    """Returns the log-scale of the logistic with this standard deviation: sd = s π/√3."""
    return math.log(sd * math.sqrt(3) / math.pi)


def ordered_log_scales(settings: Any) -> Any:
    """Checks, for a `Config`, that the floor of log-scales is not above their ceiling."""
    if settings.min_log_scale > settings.max_log_scale:
        raise ValueError(
            f"min_log_scale={settings.min_log_scale:g} is above "
            f"max_log_scale={settings.max_log_scale:g}"
        )
    return settings


def spread(components: int) -> Tensor:
    """Returns first means that cover standardised data evenly: (components,)."""
    return torch.linspace(-1.2, 1.2, components) if components > 1 else torch.zeros(1)
