"""Residuals contract at any weights, and log-determinants are what they should be."""

import json
import math
from typing import ClassVar

import pytest
import torch
from smoothctl_rivals.iresnet import (
    IResNet,
    ResidualBlock,
    jacobian,
    operator_norm,
    trace_series,
)
from smoothctl_rivals.testing import FlowContract
from torch import Tensor
from torch.nn.functional import conv2d

from smoothctl.rng import generator
from smoothctl.testing import CommandLine


class TestIResNet(FlowContract):
    density_class = IResNet
    options: ClassVar = {"scales": 2, "blocks": 1, "width": 8, "terms": 4}
    loss_error = math.inf


def _block(shape: tuple[int, ...], spread: float, lipschitz: float = 0.9) -> ResidualBlock:
    """Returns a block with random weights."""
    torch.manual_seed(0)
    block = ResidualBlock(shape, 8, lipschitz).double()
    for parameter in block.parameters():
        parameter.data.normal_(0, spread)
    return block


def _exact(function: object, z: Tensor) -> Tensor:
    """Returns the Jacobian at one image by autograd: (D, D)."""
    found: Tensor = torch.autograd.functional.jacobian(lambda x: function(x[None])[0], z)
    return found.reshape(z.numel(), -1)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3), (9, 9)])
@pytest.mark.parametrize("channels", [(1, 8), (8, 1), (3, 4)])
def test_the_norm_bounds_that_of_the_whole_matrix(
    kernel: int, size: tuple[int, int], channels: tuple[int, int]
) -> None:
    weight = torch.randn(*channels, kernel, kernel).double()
    z = torch.randn(channels[1], *size).double()
    matrix = _exact_linear(weight, z)
    exact, bound = torch.linalg.matrix_norm(matrix, 2), operator_norm(weight, size)
    assert exact <= bound * (1 + 1e-9)
    if kernel == 1:
        assert torch.allclose(exact, bound)
    if size == (9, 9):
        assert bound < 1.2 * exact


def _exact_linear(weight: Tensor, z: Tensor) -> Tensor:
    padding = weight.shape[2] // 2
    rows = torch.autograd.functional.jacobian(lambda x: conv2d(x[None], weight, padding=padding), z)
    return rows.reshape(-1, z.numel())


@pytest.mark.parametrize("lipschitz", [0.5, 0.97])
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 100.0])
def test_residuals_contract_whatever_their_weights(spread: float, lipschitz: float) -> None:
    block = _block((2, 5, 4), spread, lipschitz)
    g = block.residual()
    for seed in range(5):
        z = 3 * torch.randn(2, 5, 4, generator=generator(seed)).double()
        assert torch.linalg.matrix_norm(_exact(g, z), 2) <= lipschitz


def test_the_bound_is_reached() -> None:
    """By kernels of one pixel, where x · sigmoid(x) is steepest."""
    block, steepest = _block((1, 4, 4), 0.0), 2.4
    for layer in (block.first, block.middle, block.last):
        layer.weight.data[0, 0, layer.weight.shape[2] // 2, layer.weight.shape[3] // 2] = 10.0
        layer.bias.data[0] = steepest
    level = 0.9 ** (1 / 3) * steepest * torch.sigmoid(torch.tensor(steepest)).item() / 1.1
    block.middle.bias.data[0] -= level
    jacobian_at_zero = _exact(block.residual(), torch.zeros(1, 4, 4).double())
    assert torch.linalg.matrix_norm(jacobian_at_zero, 2).item() == pytest.approx(0.9, rel=0.01)


def test_a_weight_of_zero_has_a_gradient() -> None:
    block = _block((1, 4, 4), 0.0)
    block(torch.randn(2, 1, 4, 4).double())[0].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())


@pytest.mark.parametrize("shape", [(1, 12, 7), (3, 4, 5), (2, 1, 9), (4, 2, 2)])
def test_the_jacobian_is_that_of_autograd(shape: tuple[int, ...]) -> None:
    block, z = _block(shape, 0.5), torch.randn(2, *shape).double()
    g = block.residual()
    found = jacobian(g, z, 2)
    for row, image in zip(found, z, strict=True):
        assert torch.allclose(row, _exact(g, image))


@pytest.mark.parametrize("terms", [1, 2, 5, 12])
def test_the_series_is_the_determinant_within_what_it_leaves_out(terms: int) -> None:
    """With all probes of a basis the trace is exact; D cⁿ⁺¹/((n + 1)(1 − c)) bounds the rest."""
    block, dims, c = _block((1, 4, 3), 0.5, 0.6), 12, 0.6
    g, z = block.residual(), torch.randn(1, 4, 3).double()
    basis = torch.eye(dims).double().view(dims, 1, 4, 3)
    _, estimates = trace_series(g, z.expand(dims, 1, 4, 3), basis, terms)
    exact = block(z[None])[1].item()
    rest = dims * c ** (terms + 1) / ((terms + 1) * (1 - c))
    assert estimates.sum().item() == pytest.approx(exact, abs=rest)
    if terms == 12:
        assert estimates.sum().item() == pytest.approx(exact, abs=1e-3)


def test_probes_estimate_without_bias() -> None:
    block, z = _block((1, 4, 3), 0.5, 0.6), torch.randn(1, 1, 4, 3).double()
    probes = torch.randn(1000, 1, 4, 3, generator=generator("probes")).double().sign()
    with torch.no_grad():
        _, estimates = block.estimated(z.expand_as(probes), probes, 20)
        exact = block(z)[1]
    error = estimates.std() / len(probes) ** 0.5
    assert (estimates.mean() - exact).abs() < 4 * error + 1e-3


def test_the_loss_estimates_the_bound() -> None:
    """Its mean over many probes is −log p, with as many terms as matter."""
    torch.manual_seed(0)
    config = IResNet.Config(scales=1, blocks=2, width=8, lipschitz=0.5, terms=12)
    model, x = IResNet((1, 4, 4), config=config).double(), torch.randn(1, 1, 4, 4).double()
    with torch.no_grad():
        losses = model.training_loss(x.expand(1000, 1, 4, 4), None, None, generator("probes"))
        exact = -model.log_prob(x)
    error = losses.std() / len(losses) ** 0.5
    assert (losses.mean() - exact).abs() < 4 * error + 1e-3


@pytest.mark.parametrize("lipschitz", [0.1, 0.9, 0.99])
def test_the_inverse_converges_for_any_constant(lipschitz: float) -> None:
    block, z = _block((2, 3, 4), 20.0, lipschitz), 10 * torch.randn(4, 2, 3, 4).double()
    with torch.no_grad():
        assert torch.allclose(block.inverse(block(z)[0]), z, atol=1e-11)


@pytest.mark.slow
def test_a_prior_beneath_another_denoiser_from_the_command_line(cli: CommandLine) -> None:
    """Fitted, sampled by both ways of denoising, scored; a baseline has a bound."""
    fast = ["--steps", "2", "--batch-size", "16"]
    small = [*fast, "--set", "width=4", "--set", "blocks=1"]
    data = ["--arch", "i-resnet", "--dataset", "digits", "--out", "run"]
    cli.output("fit-baseline", *data, *small)
    cli.output("fit-prior", *data, *small)
    denoiser = ["--arch", "pixelcnnpp", "--set", "filters=4", "--set", "blocks=1"]
    cli.output("fit-denoiser", "--out", "run", *denoiser, *fast)
    for method in ("two-step", "single-step", "baseline"):
        cli.output("sample", "run", "-n", "2", "--method", method, "--out", f"{method}.npz")
    few = ["--limit", "8", "--draws", "2", "--samples", "0"]
    likelihood = json.loads(cli.output("score", "run", *few, "--json"))["likelihood"]
    assert {entry["model"] for entry in likelihood} == {"baseline", "two-step"}
    assert all(math.isfinite(entry["nats"]) for entry in likelihood)
