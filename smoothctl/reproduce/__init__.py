"""One module for each figure or table of the papers: its configuration and its claim."""

from importlib import import_module
from typing import TYPE_CHECKING

from smoothctl.errors import UsageError, near_misses

if TYPE_CHECKING:
    from smoothctl.reproduce.base import Experiment

__all__ = ["EXPERIMENTS", "load"]

EXPERIMENTS = {
    "rings": "MADE on rings, smoothed against plain (ARDS section 4.1, table 1)",
    "olympics": "MADE on olympics, smoothed against plain (ARDS section 4.1)",
    "realnvp": "RealNVP on checkerboard and olympics, smoothed against plain (ARDS table 1)",
    "digits": "PixelCNN++ on 8×8 digits, smoothed against plain (ARDS section 5, small)",
    "inverse-u": "the bound over sigma for three kernels on six-modes (ARDS appendix B)",
}
"""Name -> what it reproduces."""


def load(name: str) -> "Experiment":
    """Returns the experiment of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in EXPERIMENTS:
        raise UsageError(f"There is no experiment '{name}'{near_misses(name, EXPERIMENTS)}")
    module = import_module(f"smoothctl.reproduce.{name.replace('-', '_')}")
    experiment: Experiment = module.experiment
    return experiment
