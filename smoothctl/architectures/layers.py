"""Small networks that several architectures share."""

from itertools import pairwise

from torch import nn

__all__ = ["mlp"]


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
