"""The score network of NCSN for vectors: a perceptron that sees waves of x and the noise level."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Activation", "LevelMLP"]

Activation = Literal["relu", "silu", "softplus"]

_ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus}
_LEVEL_WAVES = 8


class LevelMLP(nn.Module):
    """A perceptron of x, of waves of x, and of waves of log σ.

    Without the waves of x, sin 2ᵏx and cos 2ᵏx, it is slow to learn structure much finer than the
    whole (Tancik et al. 2020): on `rings`, 2,000 steps leave 26 % of the samples off the support
    instead of 1.4 %.

    Args:
        dims: D, coordinates of x, which should be of about unit scale.
        width: units in each hidden layer.
        layers: hidden layers.
        octaves: how many waves of each coordinate, k = 0, 1, …
        activation: between layers; smooth for sliced score matching, which differentiates twice.
    """

    octaves: Tensor
    frequencies: Tensor

    def __init__(
        self, dims: int, width: int, layers: int, octaves: int = 5, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        frequencies = torch.linspace(-3, 1, _LEVEL_WAVES)
        self.register_buffer("octaves", 2.0 ** torch.arange(octaves), persistent=False)
        self.register_buffer("frequencies", 2.0**frequencies, persistent=False)
        sizes = [dims * (1 + 2 * octaves) + 2 * _LEVEL_WAVES, *[width] * layers]
        hidden = [
            nn.Sequential(nn.Linear(inputs, outputs), _ACTIVATIONS[activation]())
            for inputs, outputs in pairwise(sizes)
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dims))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns a vector for each x: (batch, D), σ (batch, 1) -> (batch, D)."""
        waves = (x[:, :, None] * self.octaves).flatten(1)
        phase = sigma.log() * self.frequencies
        seen = [x, waves.sin(), waves.cos(), phase.sin(), phase.cos()]
        out: Tensor = self.layers(torch.cat(seen, dim=1))
        return out
