"""The mixture of Gaussians."""

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from zuko import mixtures

from smoothctl.architectures.base import Progress
from smoothctl.config import config
from smoothctl_zuko.base import ZukoDensity

__all__ = ["GMM"]


class GMM(ZukoDensity):
    """Σₖ wₖ(c) N(z; μₖ(c), Σₖ(c)), whose parameters a network gives where there is a context."""

    @config
    class Config(ZukoDensity.Config):
        """Settings of `zuko-gmm`."""

        components: int = Field(16, ge=1, le=4096, description="Gaussians in the mixture")
        covariance: Literal["full", "diagonal", "spherical"] = Field(
            "full", description="shape of the covariances"
        )
        width: int = Field(
            64, ge=1, le=65_536, description="units in each hidden layer, given a context"
        )
        layers: int = Field(
            2, ge=1, le=1000, description="hidden layers of the network, given a context"
        )

    summary = "zuko's mixture of Gaussians, by a network where there is a context"

    def build(self, features: int, context: int) -> mixtures.GMM:
        """Returns zuko's GMM."""
        c = self.config
        network = {"hidden_features": (c.width,) * c.layers} if context else {}
        return mixtures.GMM(
            features, context, components=c.components, covariance_type=c.covariance, **network
        )

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples: (n, D).

        zuko draws from the global generator, so that is seeded from the given one and put back.
        """
        self.check_labels(labels, n)
        device = self.loc.device
        source = "cpu" if generator is None else generator.device
        seed = torch.randint(2**62, (), generator=generator, device=source)
        distribution = self.zuko(self.standard_context(context))
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(seed))
            z = distribution.sample((n,) if context is None else ())
        return self.from_standard(z, context)
