"""The contract suites of smoothctl."""

from typing import ClassVar

import pytest
from smoothctl_ncsn.density import ImageNCSN, VectorNCSN
from smoothctl_ncsn.experiments.two_modes import TwoModes

from smoothctl.testing import DatasetContract, ImageScoreModelContract, ScoreModelContract


class TestImageNCSN(ImageScoreModelContract):
    density_class = ImageNCSN
    options: ClassVar = {"filters": 2, "noise_levels": 3, "steps": 2}


@pytest.mark.slow
class TestSmallImages(TestImageNCSN):
    """Odd sides, and as many levels as the data ask for."""

    shape: ClassVar = (2, 4, 3)
    options: ClassVar = {"filters": 2, "steps": 1, "sigma_end": 0.3}


class TestVectorNCSN(ScoreModelContract):
    density_class = VectorNCSN
    options: ClassVar = {"width": 16, "layers": 2}


class TestSlicedVectorNCSN(ScoreModelContract):
    """Sliced score matching, as NCSN puts it: the network gives the score itself."""

    density_class = VectorNCSN
    options: ClassVar = {
        "width": 16,
        "loss": "sliced",
        "output": "raw",
        "noise_levels": 1,
        "activation": "silu",
    }


class TestTwoModes(DatasetContract):
    dataset_class = TwoModes
