"""Density models, found through the entry-point group `smoothctl.architectures`."""

from typing import TYPE_CHECKING

from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Registry

if TYPE_CHECKING:
    from smoothctl.architectures.base import Density

__all__ = ["load", "names", "registry"]

registry: "Registry[type[Density]]" = REGISTRIES["smoothctl.architectures"]
load = registry.load
names = registry.names
