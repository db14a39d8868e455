"""Data-dependent initialisation of weight-normalised layers."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

__all__ = ["normalise_layers"]


@torch.no_grad()
def normalise_layers(
    layers: Iterable[tuple[nn.Module, float]], forward: Callable[[], object]
) -> None:
    """Sets gains and biases so that every output has mean 0 and a given spread on a first batch.

    g = s/sd(t) and b = −s·mean(t)/sd(t) for the pre-activation t with unit gain and no bias
    (Salimans & Kingma 2016, eq. 8), one layer after another as the pass reaches them.

    Args:
        layers: modules with the parametrization `weight_norm` and a bias, and the wanted
            standard deviation s of each.
        forward: runs the network on the first batch.
    """
    hooks = [layer.register_forward_hook(partial(_normalise, spread)) for layer, spread in layers]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()


def _normalise(
    spread: float, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    del inputs
    channel = output.ndim - 1 if isinstance(layer, nn.Linear) else 1
    others = [dim for dim in range(output.ndim) if dim != channel]
    mean = output.mean(others, keepdim=True)
    sd = output.std(others, keepdim=True, correction=0)
    sd = torch.where(sd > 1e-6, sd, torch.ones_like(sd)) / spread
    gain = layer.parametrizations.weight.original0  # type: ignore[union-attr]
    assert isinstance(gain, Tensor)
    assert isinstance(layer.bias, Tensor)
    gain.div_(sd.view_as(gain))
    layer.bias.sub_(mean.flatten()).div_(sd.flatten())
    return (output - mean) / sd
