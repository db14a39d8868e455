"""Autoregressive flows whose transformations are monotonic neural networks."""

from typing import Any

from pydantic import Field
from torch import Tensor, nn
from zuko.flows import neural
from zuko.lazy import LazyComposedTransform
from zuko.transforms import MonotonicTransform

from smoothctl.config import config
from smoothctl_zuko.autoregressive import AutoregressiveFlow

__all__ = ["NAF", "UNAF"]


class _NeuralFlow(AutoregressiveFlow):
    """A network gives each coordinate a signal, and a monotonic one transforms it given that."""

    @config
    class Config(AutoregressiveFlow.Config):
        """Settings of `zuko-naf` and `zuko-unaf`."""

        transforms: int = Field(2, ge=1, le=64, description="transformations, one after another")
        signal: int = Field(16, ge=1, le=4096, description="coordinates of the signal")
        monotonic_width: int = Field(
            32,
            ge=2,
            le=4096,
            multiple_of=2,
            description="units in a monotonic network's hidden layers",
        )
        monotonic_layers: int = Field(
            2, ge=1, le=20, description="hidden layers of a monotonic network"
        )

    @property
    def neural(self) -> dict[str, Any]:
        """The arguments that both flows share."""
        c = self.config
        network = {"hidden_features": (c.monotonic_width,) * c.monotonic_layers}
        return {"signal": c.signal, "network": network, **self.masked}


class _Wide(nn.Module):
    """A monotonic network that is inverted within ±1000 rather than ±10.

    Args:
        network: zuko's.
    """

    def __init__(self, network: neural.MNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, signal: Tensor) -> MonotonicTransform:
        """Returns the transformation that the signal gives: (*batch, S)."""
        transform: MonotonicTransform = self.network(signal)
        transform.bound = 1e3
        return transform


class NAF(_NeuralFlow):
    """Networks with positive weights (Huang et al. 2018).

    Between its transformations zuko's own NAF squeezes the reals into ±11, whose image may miss a
    part of the normal distribution: the density then integrates to less than one. The networks
    have linear tails, which make them bijections of the reals without that.
    """

    summary = "zuko's neural autoregressive flow"

    def build(self, features: int, context: int) -> neural.NAF:
        """Returns zuko's NAF without the squeezing."""
        flow = neural.NAF(features, context, **self.neural)
        parts: Any = flow.transform.transforms
        layers = [part for part in parts if hasattr(part, "univariate")]
        for layer in layers:
            layer.univariate = _Wide(layer.univariate)
        flow.transform = LazyComposedTransform(*layers)
        return flow


class UNAF(_NeuralFlow):
    """Integrals of positive networks by 32-point quadrature (Wehenkel and Louppe 2019)."""

    summary = "zuko's unconstrained neural autoregressive flow"

    def build(self, features: int, context: int) -> neural.UNAF:
        """Returns zuko's UNAF."""
        return neural.UNAF(features, context, **self.neural)

    def bytes_per_example(self) -> int:
        """Returns about how much memory one example takes in `log_prob` without gradients."""
        return 2**10 * self.event_shape[0] * int(self.config.monotonic_width)
