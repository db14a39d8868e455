"""The conditional RefineNet and its parts."""

import pytest
import torch
import torch.nn.functional as F
from smoothctl_ncsn.refinenet import CondInstanceNorm, RefineNet


@pytest.fixture
def network() -> RefineNet:
    torch.manual_seed(0)
    network = RefineNet(1, 4, 5).double()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def test_normalisation_is_the_formula() -> None:
    """NCSN eq. 11, written out with torch's own moments."""
    torch.manual_seed(0)
    norm = CondInstanceNorm(6, 3).double()
    norm.weight.data = torch.randn_like(norm.weight)
    x, level = 3 + torch.randn(4, 6, 5, 7).double(), torch.tensor([2, 0, 1, 2])
    gamma, alpha, beta = (norm.weight[level, k][:, :, None, None] for k in range(3))
    mean = x.mean((2, 3), keepdim=True)
    sd = x.std((2, 3), correction=0, keepdim=True)
    middle = mean.mean(1, keepdim=True)
    spread = mean.std(1, correction=0, keepdim=True)
    expected = gamma * (x - mean) / sd + beta + alpha * (mean - middle) / spread
    assert torch.allclose(norm(x, level), expected, rtol=1e-3, atol=1e-3)


def test_normalisation_keeps_the_mean_colours() -> None:
    """Two constant images of different channels stay different, unlike under instance norm."""
    norm = CondInstanceNorm(3, 1).double()
    x = (
        torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
        .double()[:, :, None, None]
        .expand(2, 3, 4, 4)
    )
    a, b = norm(x, torch.zeros(2, dtype=torch.int64))
    assert not torch.allclose(a, b)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (1, 4, 3), (2, 2, 2), (1, 28, 28)])
def test_maps_have_the_shape_of_images(shape: tuple[int, int, int]) -> None:
    network = RefineNet(shape[0], 4, 2)
    x = torch.randn(2, *shape)
    assert network(x, torch.tensor([0, 1])).shape == x.shape


def test_every_level_gives_another_map(network: RefineNet) -> None:
    x = torch.randn(1, 1, 8, 8).double().expand(5, 1, 8, 8)
    maps = network(x, torch.arange(5)).flatten(1)
    assert (torch.pdist(maps) > 1e-3).all()


def test_rows_do_not_mix(network: RefineNet) -> None:
    """An image's map depends on no other image of the batch."""
    x, level = torch.randn(3, 1, 6, 6).double(), torch.tensor([4, 0, 2])
    assert torch.allclose(network(x, level)[1:2], network(x[1:2], level[1:2]))


def test_every_pixel_sees_the_whole_image(network: RefineNet) -> None:
    """Dilation and chained pooling reach across 8×8 pixels."""
    x = torch.randn(1, 1, 8, 8).double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(x, torch.tensor([1]))[0, 0, 0, 0], x)
    assert (gradient != 0).all()


def test_resizing_gives_every_normalisation_its_rows(network: RefineNet) -> None:
    network.resize(9)
    sizes = {len(m.weight) for m in network.modules() if isinstance(m, CondInstanceNorm)}
    assert sizes == {9}
    assert network(torch.zeros(1, 1, 4, 4).double(), torch.tensor([8])).dtype == torch.float64


def test_gradients_are_those_of_torch_elu() -> None:
    """First and second derivatives of the faster ELU, through a whole normalised unit."""
    from smoothctl_ncsn import refinenet

    x = torch.randn(50).double().requires_grad_(True)
    found = refinenet._elu(x)
    assert torch.allclose(found, F.elu(x))
    assert torch.autograd.gradcheck(refinenet._elu, x)
    assert torch.autograd.gradgradcheck(refinenet._elu, x)
