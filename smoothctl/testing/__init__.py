"""The contract suites: properties that every registered kernel, architecture, … must have.

A plugin's tests subclass them:

    from smoothctl.testing import DensityContract

    class TestMine(DensityContract):
        density_class = Mine
        options = {"width": 8}

and the fixture `cli` runs command lines, where a conftest.py imports it. They compute on the device
of `pytest --device`, where a conftest.py has that option, and on the CPU otherwise.
"""

from smoothctl.testing.bounded import BoundedDensityContract
from smoothctl.testing.command_line import CommandLine, cli
from smoothctl.testing.datasets import DatasetContract
from smoothctl.testing.densities import DensityContract, ImageDensityContract
from smoothctl.testing.devices import device
from smoothctl.testing.features import FeaturesContract
from smoothctl.testing.kernels import KernelContract
from smoothctl.testing.score_models import ImageScoreModelContract, ScoreModelContract

__all__ = [
    "BoundedDensityContract",
    "CommandLine",
    "DatasetContract",
    "DensityContract",
    "FeaturesContract",
    "ImageDensityContract",
    "ImageScoreModelContract",
    "KernelContract",
    "ScoreModelContract",
    "cli",
    "device",
]
