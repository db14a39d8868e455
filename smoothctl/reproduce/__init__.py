"""Figures and tables of papers, found through the entry-point group `smoothctl.experiments`."""

from typing import TYPE_CHECKING

from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Registry

if TYPE_CHECKING:
    from smoothctl.reproduce.base import Experiment

__all__ = ["load", "names", "registry"]

registry: "Registry[Experiment]" = REGISTRIES["smoothctl.experiments"]
load = registry.load
names = registry.names
