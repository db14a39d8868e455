"""A layer and its inverse undo each other; its terms are the densities that it claims."""

import pytest
import torch
from smoothctl_cif.blocks import IndexDensity, IndexedBlock
from torch import Tensor
from torch.distributions import Normal


def _block(dims: int, context: int) -> IndexedBlock:
    torch.manual_seed(0)
    block = IndexedBlock(dims, context, 2, 8, 6, 1, 3.0).double()
    for parameter in block.parameters():
        parameter.data.normal_(0, 0.4)
    return block


def _with_context(context: int) -> Tensor | None:
    return torch.randn(6, context).double() if context else None


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("dims", [2, 3, 5])
def test_outwards_undoes_inwards_for_the_same_index(dims: int, context: int) -> None:
    block, given = _block(dims, context), _with_context(context)
    x, noise = torch.randn(6, dims).double(), torch.randn(6, 2).double()
    z, _, _ = block.inwards(x, given, noise)
    joined = [x if given is None else torch.cat([x, given], 1)]
    joined.append(z if given is None else torch.cat([z, given], 1))
    index, _ = block.inference.draw(joined[0], noise)
    mean, log_sd = block.generative(joined[1])
    again = block.outwards(z, given, (index - mean) / log_sd.exp())
    assert torch.allclose(again, x)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_log_terms_are_the_jacobian_and_the_densities(dims: int, context: int) -> None:
    block, given = _block(dims, context), _with_context(context)
    x, noise = torch.randn(6, dims).double(), torch.randn(6, 2).double()
    z, log_joint, log_inference = block.inwards(x, given, noise)
    for row in range(6):
        part = None if given is None else given[row : row + 1]
        seen = x[row : row + 1] if part is None else torch.cat([x[row : row + 1], part], 1)
        made = z[row : row + 1] if part is None else torch.cat([z[row : row + 1], part], 1)
        index, _ = block.inference.draw(seen, noise[row : row + 1])
        mean, log_sd = block.inference(seen)
        expected = Normal(mean, log_sd.exp()).log_prob(index).sum()
        assert torch.allclose(log_inference[row], expected)
        mean, log_sd = block.generative(made)
        generative = Normal(mean, log_sd.exp()).log_prob(index).sum()
        log_determinant = torch.linalg.slogdet(_jacobian(block, x[row], part, index))[1]
        assert torch.allclose(log_joint[row], generative + log_determinant)


def test_a_draw_has_the_log_density_that_it_is_given() -> None:
    density = IndexDensity(3, 2, 8, 1, cap=3.0)
    given, noise = torch.randn(5, 3), torch.randn(5, 2)
    index, log_density = density.draw(given, noise)
    assert torch.allclose(density.log_prob(index, given), log_density, atol=1e-5)


def test_log_deviations_are_capped() -> None:
    density, given = IndexDensity(3, 2, 8, 1, cap=0.5), torch.randn(5, 3)
    for parameter in density.parameters():
        parameter.data.normal_(0, 100)
    assert density(given)[1].abs().max() <= 0.5


def _jacobian(block: IndexedBlock, x: Tensor, context: Tensor | None, index: Tensor) -> Tensor:
    """Returns ∂z/∂x at a fixed index, written out anew: (D, D)."""

    def inwards(row: Tensor) -> Tensor:
        even, odd = row[None].split(block.sizes, dim=1)
        odd, _ = block.first(even, odd, context)
        even, _ = block.second(odd, even, context)
        shift, raw = block.shift_and_scale(index).chunk(2, dim=1)
        z = torch.cat([even, odd], dim=1) + shift
        return (z * (block.cap * torch.tanh(raw / block.cap)).exp())[0]

    jacobian: Tensor = torch.autograd.functional.jacobian(inwards, x)
    return jacobian
