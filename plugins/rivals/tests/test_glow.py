"""Glow is a bijection whose layers do what they say, at any size of image."""

import json
import math
from typing import ClassVar

import pytest
import torch
from smoothctl_rivals.glow import Glow, InvertibleConvolution
from smoothctl_rivals.invertible import ActNorm, squeeze, unsqueeze
from smoothctl_rivals.testing import FlowContract

from smoothctl.errors import UsageError
from smoothctl.testing import CommandLine

FAST = ["--steps", "4", "--batch-size", "16", "--set", "width=8", "--set", "steps=2"]


class TestGlow(FlowContract):
    density_class = Glow
    options: ClassVar = {"scales": 2, "steps": 2, "width": 8, "scale_cap": 1.0}


@pytest.mark.parametrize("factors", [(2, 2), (1, 3), (4, 1), (1, 1)])
def test_squeezing_gathers_neighbours(factors: tuple[int, int]) -> None:
    z, (down, across) = torch.randn(2, 3, 8, 6), factors
    squeezed = squeeze(z, factors)
    assert torch.equal(unsqueeze(squeezed, factors), z)
    cell = z[:, :, down : 2 * down, across : 2 * across]
    assert torch.equal(squeezed[:, :, 1, 1], cell.flatten(1))


def test_initialisation_standardises_what_every_actnorm_gives() -> None:
    torch.manual_seed(0)
    model = Glow((2, 8, 4), config=Glow.Config(scales=2, steps=3, width=8)).double()
    x = 5 + torch.randn(300, 2, 8, 4).double() * torch.tensor([0.01, 30.0])[:, None, None]
    outputs = []
    for module in model.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda layer, given, made: outputs.append(made[0]))
    model.initialize(x)
    outputs.clear()
    model.to_noise(x, None)
    assert len(outputs) == 6
    for z in outputs:
        flat = z.transpose(0, 1).flatten(1)
        assert torch.allclose(flat.mean(1), torch.zeros_like(flat[:, 0]), atol=1e-9)
        assert torch.allclose(flat.std(1, correction=0), torch.ones_like(flat[:, 0]))


@pytest.mark.parametrize("channels", [1, 2, 12])
def test_a_1x1_convolution_starts_as_a_rotation(channels: int) -> None:
    layer, z = InvertibleConvolution(channels).double(), torch.randn(3, channels, 4, 5).double()
    rotated, log_determinant = layer(z)
    assert torch.allclose(rotated.norm(dim=1), z.norm(dim=1), atol=1e-5)
    assert log_determinant.item() == pytest.approx(0, abs=1e-4)


def test_weights_that_run_away_leave_all_finite() -> None:
    model = Glow((1, 4, 4), config=Glow.Config(scales=1, steps=1, width=8)).double()
    for parameter in model.parameters():
        parameter.data.fill_(1e3)
    z, log_determinant = model.to_noise(torch.randn(2, 1, 4, 4).double(), None)
    assert z.isfinite().all()
    assert log_determinant.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "scales"),
    [((1, 28, 28), 2), ((3, 32, 32), 3), ((1, 8, 8), 3), ((1, 1, 2), 1), ((1, 4, 3), 2)],
)
def test_there_are_as_many_scales_as_sides_allow(shape: tuple[int, ...], scales: int) -> None:
    scale, count = Glow(shape, config=Glow.Config(scales=3, steps=1, width=1)).flow, 1
    while scale.rest is not None:
        scale, count = scale.rest, count + 1
    assert count == scales


def test_what_it_cannot_model_is_said() -> None:
    with pytest.raises(UsageError, match="single number"):
        Glow((1, 1, 1))
    with pytest.raises(UsageError, match="in place"):
        Glow((1, 4, 4), (1, 2, 2))


@pytest.mark.slow
def test_all_stages_from_the_command_line(cli: CommandLine) -> None:
    """Glow as baseline, prior and denoiser: what is fitted is read back, drawn and scored."""
    data = ["--arch", "glow", "--dataset", "digits", "--out", "run"]
    cli.output("fit-baseline", *data, *FAST)
    cli.output("fit-prior", *data, *FAST)
    cli.output("fit-denoiser", "--out", "run", *FAST)
    few = ["--limit", "8", "--draws", "2", "--samples", "8"]
    likelihood = json.loads(cli.output("score", "run", *few, "--json"))["likelihood"]
    quantities = {entry["quantity"] for entry in likelihood}
    assert quantities >= {"bound, 1 draw", "bound, 2 draws"}
    assert all(math.isfinite(entry["nats"]) for entry in likelihood)
