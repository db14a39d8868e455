"""The continuous flow."""

from pydantic import Field
from torch import nn
from zuko.flows import continuous

from smoothctl.config import config
from smoothctl_zuko.base import ZukoFlow

__all__ = ["CNF"]


class CNF(ZukoFlow):
    """The flow of an ordinary differential equation dz/dt = f(t, z, c) (Grathwohl et al. 2019).

    One adaptive integration serves the whole batch, so that an example's log p depends on its
    neighbours in the batch, within the tolerances. The trace of the Jacobian is exact. The
    network is smooth, where zuko's default is not (ELU): that takes the integrator fewer steps.
    """

    @config
    class Config(ZukoFlow.Config):
        """Settings of `zuko-cnf`."""

        transforms: int = Field(1, ge=1, le=1, description="one: the equation is the only one")
        frequencies: int = Field(3, ge=1, le=64, description="sines and cosines that tell the time")
        absolute: float = Field(
            1e-6, ge=1e-12, le=1, description="absolute tolerance of the integration"
        )
        relative: float = Field(
            1e-5, ge=1e-12, le=1, description="relative tolerance of the integration"
        )

    summary = "zuko's continuous flow; slow, as an integration is a hundred evaluations"

    def build(self, features: int, context: int) -> continuous.CNF:
        """Returns zuko's CNF."""
        c = self.config
        return continuous.CNF(
            features,
            context,
            freqs=c.frequencies,
            atol=c.absolute,
            rtol=c.relative,
            hidden_features=self.hidden,
            activation=nn.SiLU,
        )
