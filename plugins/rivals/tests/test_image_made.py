"""MADE of flattened images."""

from typing import Any, ClassVar

import pytest
import torch
from smoothctl_rivals.made import ImageMADE

from smoothctl.architectures.made import MADE
from smoothctl.config import build
from smoothctl.errors import UsageError
from smoothctl.testing import ImageDensityContract

SMALL: dict[str, Any] = {"width": 16, "layers": 2, "mixtures": 2}


class TestImageMADE(ImageDensityContract):
    density_class = ImageMADE
    options: ClassVar = SMALL


class TestImageMADEOfAnySigma(ImageDensityContract):
    density_class = ImageMADE
    options: ClassVar = {**SMALL, "lowest_sigma": 0.05}


@pytest.mark.slow
class TestImageMADEInColour(TestImageMADE):
    shape: ClassVar = (3, 3, 2)


@pytest.mark.parametrize("levels", [None, 5])
def test_it_is_made_of_all_values(levels: int | None) -> None:
    """The density of an image is that of the vector of its values."""
    image = ImageMADE((2, 2, 3), (2, 2, 3), levels, build(ImageMADE.Config, SMALL, "options"))
    vector = MADE((12,), (12,), levels, build(MADE.Config, SMALL, "options"))
    vector.load_state_dict(image.made.state_dict())
    x = torch.randint(5, (4, 2, 2, 3)) / 2.0 - 1
    x_smooth = x + 0.3 * torch.randn(4, 2, 2, 3)
    expected = vector.log_prob(x.flatten(1), x_smooth.flatten(1))
    assert torch.allclose(image.log_prob(x, x_smooth), expected)


def test_a_context_of_another_shape_is_refused() -> None:
    """It is stacked in front of x, value for value."""
    with pytest.raises(UsageError, match="context"):
        ImageMADE((1, 4, 4), (1, 8, 8), 5)
