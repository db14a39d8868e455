"""PixelCNN and Gated PixelCNN: what each value depends on, and how images are drawn."""

import json
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from smoothctl_rivals.autoregressive import MaskedConv2d, RasterDensity, row_uniforms
from smoothctl_rivals.pixelcnn import GatedPixelCNN, PixelCNN
from smoothctl_rivals.pixeliqn import PixelIQN
from torch import Tensor

from smoothctl.architectures.base import to_grid
from smoothctl.config import build
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.rng import generator
from smoothctl.testing import ImageDensityContract

FAST = ["--steps", "10", "--batch-size", "16", "--device", "cpu"]
SMALL: dict[str, Any] = {"filters": 6, "layers": 2, "first_reach": 1, "context_layers": 2}
COLOUR = (3, 3, 4)
EVERY = [PixelCNN, GatedPixelCNN, PixelIQN]


class TestPixelCNN(ImageDensityContract):
    density_class = PixelCNN
    options: ClassVar = {**SMALL, "mixtures": 2}


@pytest.mark.slow
class TestPixelCNNInColour(TestPixelCNN):
    shape: ClassVar = (3, 3, 2)


class TestGatedPixelCNN(ImageDensityContract):
    density_class = GatedPixelCNN
    options: ClassVar = {**SMALL, "mixtures": 2}


@pytest.mark.slow
class TestGatedPixelCNNInColour(TestGatedPixelCNN):
    shape: ClassVar = (3, 3, 2)


def made(cls: type[RasterDensity], levels: int | None = None, **changes: Any) -> RasterDensity:
    """Returns a conditional model of small images in colour, of random weights."""
    torch.manual_seed(0)
    config = build(cls.Config, {**SMALL, **changes}, "options")
    density = cls(COLOUR, COLOUR, levels, config).double().eval()
    for parameter in density.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return density


def colours(seed: str, n: int = 2) -> Tensor:
    return torch.randn(n, *COLOUR, dtype=torch.float64, generator=generator(seed))


def dependence(density: RasterDensity) -> Tensor:
    """Returns which value's outputs depend on which value of x, both in the order of drawing."""

    def outputs(x: Tensor) -> Tensor:
        every: Tensor = density.head(density.features(x, x.detach(), None))  # type: ignore[operator]
        return every.sum(-1).permute(0, 2, 3, 1).flatten()

    jacobian = torch.autograd.functional.jacobian(outputs, colours("x", 1))
    assert isinstance(jacobian, Tensor)
    return jacobian.squeeze(1).permute(0, 2, 3, 1).flatten(1) != 0


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("levels", [None, 5])
def test_no_value_sees_itself_or_a_later_one(cls: type[RasterDensity], levels: int | None) -> None:
    """The red of a pixel comes before its green, and all of it before the next pixel."""
    assert not dependence(made(cls, levels)).triu().any()


@pytest.mark.parametrize("cls", [GatedPixelCNN, PixelIQN])
def test_two_stacks_see_every_value_before(cls: type[RasterDensity]) -> None:
    """There is no blind spot."""
    seen = dependence(made(cls, layers=4, filters=24))  # with few, a ReLU may be silent
    assert torch.equal(seen, torch.ones_like(seen).tril(-1))


def test_pixelcnn_has_a_blind_spot() -> None:
    """However many layers there are, a pixel does not see two to its right in the row above."""
    seen = dependence(made(PixelCNN, layers=6)).view(3, 4, 3, 3, 4, 3)
    assert seen[1, 0, :, 0, :2].all()
    assert not seen[1, 0, :, 0, 2:].any()


def test_masks_leave_the_stored_weight() -> None:
    """A gradient step on it, and a file, see all of it."""
    layer = MaskedConv2d(torch.arange(3), torch.arange(3), 1, 1, own=False)
    before = layer.weight.clone()
    layer(torch.randn(1, 3, 4, 4))
    assert torch.equal(layer.weight, before)
    assert (before != 0).all()
    centre = layer.kernel[:, :, 1, 1] != 0
    assert torch.equal(centre, torch.ones(3, 3).tril(-1).bool())
    assert not layer.kernel[:, :, 1, 2].any()


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("levels", [None, 5])
def test_a_sample_is_the_fixed_point_of_whole_passes(
    cls: type[RasterDensity], levels: int | None
) -> None:
    """What is drawn a pixel at a time is what a pass over the drawn image gives each pixel."""
    density, context = made(cls, levels), colours("context")
    x = density.sample(2, context, None, generator("samples"))
    u = row_uniforms(2, (density.uniforms, *COLOUR), x, generator("samples"))
    with torch.no_grad():
        again = density.draw(density.features(x, context, None), u)
    assert torch.allclose(x, again, atol=1e-9)


@pytest.mark.parametrize("cls", EVERY)
def test_draws_are_values(cls: type[RasterDensity]) -> None:
    """With levels every value is on their grid, and not always the same."""
    x = made(cls, 256).sample(4, colours("context", 4), None, generator("samples"))
    assert torch.allclose(x, to_grid(x, 256), atol=1e-9)
    assert len(x.unique()) > 1


@pytest.mark.parametrize("cls", EVERY)
def test_a_context_of_another_shape_is_refused(cls: type[RasterDensity]) -> None:
    """It enters in place."""
    with pytest.raises(UsageError, match="context"):
        cls((1, 4, 4), (1, 8, 8), 5)


def test_a_softmax_has_no_score() -> None:
    """Its levels have no order, so that no derivative means anything."""
    density, x = made(PixelCNN, 5), torch.zeros(1, *COLOUR, dtype=torch.float64)
    with pytest.raises(NotAvailable, match="classes"):
        density.score_function(x, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pixelcnn", "gated-pixelcnn"])
def test_both_stages_from_the_command_line(cli, name: str) -> None:
    """A mixture of logistics of x̃, a softmax of x given it, samples and bounds."""
    small = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    cli.output("fit-prior", "--arch", name, "--dataset", "digits", "--out", "r", *small, *FAST)
    cli.output("fit-denoiser", "--out", "r", *FAST)
    cli.output("sample", "r", "-n", "3", "--method", "all", "--out", "all.npz")
    drawn = np.load("all.npz")
    assert {"two_step", "single_step", "smoothed"} <= set(drawn)
    scored = json.loads(cli.output("score", "r", "--limit", "20", "--samples", "0", "--json"))
    bound = next(each for each in scored["likelihood"] if each["quantity"] == "bound, 1 draw")
    assert 0 < bound["bits_per_dim"] < 20
