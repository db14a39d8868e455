"""Smoothing kernels q(x̃|x), found through the entry-point group `smoothctl.kernels`."""

from typing import TYPE_CHECKING

from smoothctl.registry import Registry

if TYPE_CHECKING:
    from smoothctl.kernels.base import Kernel

__all__ = ["load", "names", "registry"]


def _contract() -> "type[Kernel]":
    from smoothctl.kernels.base import Kernel

    return Kernel


registry: "Registry[Kernel]" = Registry("smoothctl.kernels", "kernel", _contract)
load = registry.load
names = registry.names
