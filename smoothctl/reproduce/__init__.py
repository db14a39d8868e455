"""Figures and tables of papers, found through the entry-point group `smoothctl.experiments`."""

from typing import TYPE_CHECKING

from smoothctl.registry.registry import Registry

if TYPE_CHECKING:
    from smoothctl.reproduce.base import Experiment

__all__ = ["load", "names", "registry"]


def _contract() -> "type[Experiment]":
    from smoothctl.reproduce.base import Experiment

    return Experiment


registry: "Registry[Experiment]" = Registry(
    "smoothctl.experiments", "experiment", _contract, instances=True
)
names = registry.names


def load(name: str) -> "Experiment":
    """Returns the experiment called `name` or `package:name`.

    Raises:
        UsageError: there is none, or it cannot be used.
    """
    experiment: Experiment = registry.load_entry(registry.find(name))
    return experiment
