"""Density models, found through the entry-point group `smoothctl.architectures`."""

from typing import TYPE_CHECKING

from smoothctl.registry.registry import Registry

if TYPE_CHECKING:
    from smoothctl.architectures.base import Density

__all__ = ["load", "names", "registry"]


def _contract() -> "type[Density]":
    from smoothctl.architectures.base import Density

    return Density


registry: "Registry[Density]" = Registry("smoothctl.architectures", "architecture", _contract)
load = registry.load
names = registry.names
