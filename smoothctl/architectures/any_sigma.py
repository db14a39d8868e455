"""σ as an input of a model: the settings of an architecture that can take it, and its network."""

from itertools import pairwise

from pydantic import Field, field_validator
from torch import nn

from smoothctl.config import config

__all__ = ["AnySigma", "sigma_network"]


@config
class AnySigma:
    """Settings of an architecture that can take σ as an input."""

    lowest_sigma: float = Field(
        0.0,
        ge=0,
        description="with it sigma is an input: one fit of all from this to the run's; 0: the "
        "run's alone",
    )
    sigmas: tuple[float, ...] = Field(
        (),
        max_length=64,
        description="of a denoiser: smaller sigmas, ascending, through which it goes step by step "
        "(a cascade)",
    )

    @field_validator("sigmas")
    @classmethod
    def _ascending(cls, sigmas: tuple[float, ...]) -> tuple[float, ...]:
        if any(high <= low for low, high in pairwise((0.0, *sigmas))):
            raise ValueError("sigmas are positive and ascend")
        return sigmas


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
