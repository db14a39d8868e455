"""The Gaussianization flow, in log-space."""

import math
from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn
from zuko.flows import gaussianization
from zuko.transforms import GaussianizationTransform

from smoothctl.config import config
from smoothctl_zuko.base import ZukoFlow, use_univariate

__all__ = ["GF", "LogGaussianization", "normal_quantile"]

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class LogGaussianization(GaussianizationTransform):
    """f(x) = Φ⁻¹(1/K Σₖ Φ(exp(aₖ) x + bₖ)), finite however far x is (Meng et al. 2020, eq. 5).

    zuko's own goes through Φ itself and stops at ±4.9: further transformations then miss a part
    of the normal distribution, and log |f'| is −∞ from a few tens of standard deviations on.
    """

    def f(self, x: Tensor) -> Tensor:
        """Transforms x alone: shape of x."""
        return self.call_and_ladj(x)[0]

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns f(x) and log f'(x): shape of x."""
        parts = x[..., None] * self.scale + self.shift
        below, above = (_log_mean(torch.special.log_ndtr(side)) for side in (parts, -parts))
        quantile = normal_quantile(torch.minimum(below, above))
        y = torch.where(below < above, quantile, -quantile)
        return y, _log_mean(self.scale.log() - 0.5 * parts**2) + 0.5 * y**2


def normal_quantile(log_p: Tensor) -> Tensor:
    """Returns Φ⁻¹(p) given log p ≤ log ½, by Newton's method in log p; once differentiable."""
    with torch.no_grad():
        y = -(-2 * log_p - torch.log1p(-2 * log_p)).clamp_min(0).sqrt()
        for _ in range(6):
            y = y + (log_p - torch.special.log_ndtr(y)) / _hazard(y)
    quantile: Tensor = y + (log_p - torch.special.log_ndtr(y)) / _hazard(y)
    return quantile


def _hazard(y: Tensor) -> Tensor:
    """Returns d log Φ(y) / dy = φ(y) / Φ(y)."""
    return torch.exp(-0.5 * y**2 - _HALF_LOG_TAU - torch.special.log_ndtr(y))


def _log_mean(values: Tensor) -> Tensor:
    return torch.logsumexp(values, dim=-1) - math.log(values.shape[-1])


class GF(ZukoFlow):
    """Rotations between transformations of each coordinate by itself (Meng et al. 2020).

    The transformations start near the identity, where zuko's start with very heavy tails.
    """

    @config
    class Config(ZukoFlow.Config):
        """Settings of `zuko-gf`."""

        components: int = Field(
            8, ge=1, le=4096, description="normals in each transformation's mixture"
        )

    summary = "zuko's Gaussianization flow"

    def build(self, features: int, context: int) -> gaussianization.GF:
        """Returns zuko's GF."""
        c = self.config
        flow = gaussianization.GF(
            features,
            context,
            transforms=c.transforms,
            components=c.components,
            hidden_features=self.hidden,
        )
        use_univariate(flow, partial(LogGaussianization, bound=1e3))
        for name, parameter in flow.named_parameters():
            if ".phi." in name:
                nn.init.normal_(parameter, std=0.1)
        return flow
