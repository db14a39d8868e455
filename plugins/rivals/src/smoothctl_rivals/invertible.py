"""Invertible layers that flows of images share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from smoothctl.architectures.base import standardise

__all__ = ["LARGEST_LOG_SCALE", "ActNorm", "halvings", "initialise", "squeeze", "unsqueeze"]

LARGEST_LOG_SCALE = 12.0
"""Of what a layer multiplies by: nothing overflows, whatever the weights become."""

Factors = tuple[int, int]


class ActNorm(nn.Module):
    """(z − m)/s in each channel, m and s those of the first batch (Kingma and Dhariwal 2018, 3.1).

    Args:
        channels: of z.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Takes mean and standard deviation of each channel: (batch, C, H, W)."""
        loc, scale = standardise(z.transpose(0, 1).flatten(1).T)
        self.loc.copy_(loc[:, None, None])
        self.log_scale.copy_(scale.log()[:, None, None])

    @property
    def _log_scale(self) -> Tensor:
        return self.log_scale.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the transformed z, (batch, C, H, W), and the log-determinant, ()."""
        log_scale = self._log_scale
        return (z - self.loc) * (-log_scale).exp(), -log_scale.sum() * z[0, 0].numel()

    def inverse(self, z: Tensor) -> Tensor:
        """Undoes `forward`."""
        return z * self._log_scale.exp() + self.loc


def initialise(flow: nn.Module, run: Callable[[], object]) -> None:
    """Has each `ActNorm` of a flow standardise what first reaches it.

    Args:
        flow: has them among its modules.
        run: passes data through the flow, once.
    """

    def standardised(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(layer, ActNorm)
        layer.initialise(*inputs)

    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    hooks = [norm.register_forward_pre_hook(standardised) for norm in norms]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()


def halvings(height: int, width: int) -> Factors:
    """Returns what each side can be divided by: 2 where it is even, otherwise 1."""
    return 2 - height % 2, 2 - width % 2


def squeeze(z: Tensor, factors: Factors) -> Tensor:
    """Makes channels of neighbouring pixels: (batch, C, H, W) -> (batch, C·h·w, H/h, W/w)."""
    h, w = factors
    cells: Tensor = z.unflatten(3, (-1, w)).unflatten(2, (-1, h))  # (batch, C, H/h, h, W/w, w)
    return cells.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def unsqueeze(z: Tensor, factors: Factors) -> Tensor:
    """Undoes `squeeze`."""
    cells: Tensor = z.unflatten(1, (-1, *factors))  # (batch, C, h, w, H/h, W/w)
    return cells.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
