"""The score network of NCSN for vectors: a perceptron that sees the noise level."""

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["LevelMLP"]

_WAVES = 8


class LevelMLP(nn.Module):
    """A perceptron of x and of waves of log σ.

    Args:
        dims: D, coordinates of x.
        width: units in each hidden layer.
        layers: hidden layers.
    """

    frequencies: Tensor

    def __init__(self, dims: int, width: int, layers: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.linspace(-3, 1, _WAVES), persistent=False)
        sizes = [dims + 2 * _WAVES, *[width] * layers]
        hidden = [
            nn.Sequential(nn.Linear(inputs, outputs), nn.SiLU())
            for inputs, outputs in pairwise(sizes)
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dims))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns a vector for each x: (batch, D), σ (batch, 1) -> (batch, D)."""
        phase = sigma.log() * self.frequencies
        out: Tensor = self.layers(torch.cat([x, phase.sin(), phase.cos()], dim=1))
        return out
