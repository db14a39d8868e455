"""The entry-point groups that smoothctl reads, and where the registry of each one is."""

from importlib import import_module
from typing import Any

from smoothctl.registry.registry import Registry

__all__ = ["GROUPS", "registry_of"]

GROUPS = {
    "smoothctl.architectures": "smoothctl.architectures",
    "smoothctl.kernels": "smoothctl.kernels",
    "smoothctl.datasets": "smoothctl.datasets",
    "smoothctl.features": "smoothctl.metrics.features",
    "smoothctl.experiments": "smoothctl.reproduce",
}
"""Entry-point group -> the module that holds its registry, imported only when it is asked for."""


def registry_of(group: str) -> Registry[Any]:
    """Returns the registry of one of the GROUPS."""
    registry: Registry[Any] = import_module(GROUPS[group]).registry
    return registry
