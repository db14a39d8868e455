"""σ as an input of a model: the settings of an architecture that can take it, and its network."""

from itertools import pairwise
from typing import Any

from pydantic import Field, field_validator
from torch import nn

from smoothctl.config import config

__all__ = ["AnySigma", "sigma_network"]


_MOST = 64
_RATIO = 3.0
"""Of neighbouring σ, where only their number is chosen."""


@config
class AnySigma:
    """Settings of an architecture that can take σ as an input."""

    lowest_sigma: float = Field(
        0.0,
        ge=0,
        description="with it sigma is an input: one fit of all from this to the run's; 0: the "
        "run's alone",
    )
    sigmas: tuple[float, ...] | int = Field(
        (),
        description="of a denoiser: smaller sigmas, ascending, through which it goes step by step "
        "(a cascade); or how many, each a third of the one above",
    )

    @field_validator("sigmas", mode="before")
    @classmethod
    def _several(cls, sigmas: Any) -> Any:
        if not isinstance(sigmas, int | list | tuple) or not all(
            isinstance(one, int | float) and not isinstance(one, bool)
            for one in ([sigmas] if isinstance(sigmas, int) else sigmas)
        ):
            raise ValueError("sigmas is a list, such as [0.1,0.3], or how many")
        if not 0 <= (sigmas if isinstance(sigmas, int) else len(sigmas)) <= _MOST:
            raise ValueError(f"sigmas are at most {_MOST}")
        return sigmas or ()

    @field_validator("sigmas")
    @classmethod
    def _ascending(cls, sigmas: tuple[float, ...] | int) -> tuple[float, ...] | int:
        if not isinstance(sigmas, int) and any(
            high <= low for low, high in pairwise((0.0, *sigmas))
        ):
            raise ValueError("sigmas are positive and ascend")
        return sigmas

    def sigmas_below(self, sigma: float) -> tuple[float, ...]:
        """Returns the smaller σ that a denoiser from σ goes through, ascending."""
        if not isinstance(self.sigmas, int):
            return self.sigmas
        return tuple(float(f"{sigma / _RATIO**k:.6g}") for k in range(self.sigmas, 0, -1))


def sigma_network(width: int, outputs: int) -> nn.Sequential:
    """Returns a network of log σ, (batch, 1) -> (batch, outputs), that starts as zero.

    Args:
        width: units of its hidden layer.
        outputs: what is added to the hidden units of another network.
    """
    network = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, outputs))
    for parameter in network[-1].parameters():
        nn.init.zeros_(parameter)
    return network
