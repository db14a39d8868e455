"""Small networks that several architectures share."""

from itertools import pairwise
from typing import Any

from pydantic import Field
from torch import nn

__all__ = ["lowest_sigma", "mlp", "sigma_network"]


def lowest_sigma() -> Any:
    """Returns the setting of an architecture that can take σ as an input."""
    said = "with it sigma is an input: one fit of all from this to the run's; 0: the run's alone"
    return Field(0.0, ge=0, description=said)


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


def mlp(inputs: int, width: int, layers: int, outputs: int, bias: bool = True) -> nn.Sequential:
    """Returns a ReLU network with equal hidden layers.

    Args:
        inputs: input coordinates.
        width: units in each hidden layer.
        layers: hidden layers.
        outputs: output coordinates.
        bias: whether the last layer has one.
    """
    widths = [inputs] + [width] * layers
    hidden = [module for a, b in pairwise(widths) for module in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], outputs, bias=bias))
