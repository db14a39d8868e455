"""Smoothing kernels q(x̃|x), found through the entry-point group `smoothctl.kernels`."""

from typing import TYPE_CHECKING

from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothctl.kernels.base import Kernel

__all__ = ["build", "load", "names", "registry"]

registry: "Registry[type[Kernel]]" = REGISTRIES["smoothctl.kernels"]
load = registry.load
names = registry.names


def build(name: str, sigma: float, scale: "Sequence[float] | None" = None) -> "Kernel":
    """Returns a kernel by its registered name.

    Args:
        name: of the kernel.
        sigma: standard deviation of its noise, in data units or, given scales, in theirs.
        scale: of each coordinate, for data whose coordinates have different spreads.

    Raises:
        UsageError: an unknown name, or a σ or scale that is not positive and finite.
    """
    kernel = load(name)(sigma)
    if scale is None:
        return kernel
    from smoothctl.kernels.scaled import Scaled

    return Scaled(kernel, scale)
