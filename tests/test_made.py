"""Autoregression by Jacobian; masks never touch the stored weights."""

import pytest
import torch
from torch import Tensor

from smoothctl.architectures.made import MADE, MaskedLinear
from smoothctl.config import build
from smoothctl.rng import generator


def _made(dims: int, context: bool, **options: object) -> MADE:
    torch.manual_seed(0)
    config = build(MADE.Config, {"width": 24, "mixtures": 2, **options}, "made")
    model = MADE((dims,), (dims,) if context else None, None, config).double()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5)
    return model


@pytest.mark.parametrize("frequencies", [0, 3])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("order", ["natural", "random"])
@pytest.mark.parametrize("dims", [1, 2, 5])
def test_dimension_i_depends_on_earlier_ones_only(
    dims: int, order: str, context: bool, frequencies: int
) -> None:
    """∂ log p(xᵢ | …) / ∂ xⱼ is zero for every j after i in the order, and not before."""
    model = _made(
        dims, context, order=order, order_seed=1, activation="gelu", frequencies=frequencies
    )
    x = torch.randn(1, dims, dtype=torch.float64)
    c = torch.randn(1, dims, dtype=torch.float64) if context else None
    jacobian = torch.autograd.functional.jacobian(
        lambda z: torch.cat([p.flatten(2) for p in model.conditionals(z, c)], -1)[0].sum(-1), x
    )[:, 0]
    rank = torch.empty(dims, dtype=torch.int64)
    rank[model.order] = torch.arange(dims)
    earlier = rank[:, None] > rank[None, :]
    assert (jacobian[~earlier] == 0).all()
    assert (jacobian[earlier] != 0).all()


def test_every_dimension_sees_the_context() -> None:
    model = _made(3, context=True)
    x, c = torch.randn(2, 1, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: model.log_probs(x, z)[0], c)
    assert (jacobian[:, 0] != 0).all()


def test_masked_weights_are_stored_unmasked() -> None:
    layer = MaskedLinear(torch.tensor([[1.0, 0.0]]))
    before = layer.weight.clone()
    layer(torch.ones(3, 2)).sum().backward()
    assert torch.equal(layer.weight, before)
    assert layer.weight.grad is not None
    assert layer.weight.grad[0, 1] == 0
    assert "mask" not in layer.state_dict()


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_narrow_and_wide_data_both_start_well(scale: float) -> None:
    """After `initialize` the loss is near a Gaussian's of the same scale."""
    torch.manual_seed(0)
    x = scale * (torch.randn(4000, 2) + 5)
    model = MADE((2,))
    model.initialize(x)
    gaussian = 2 * (0.5 + 0.919 + torch.log(torch.tensor(scale)))
    assert (-model.log_prob(x)).mean().item() == pytest.approx(gaussian.item(), abs=1.0)


def test_a_denoiser_starts_at_its_input() -> None:
    """With offsets, means are near x̃ before any training."""
    torch.manual_seed(0)
    x = 3 * torch.randn(2000, 2)
    x_smooth = x + 0.1 * torch.randn_like(x)
    model = MADE((2,), (2,))
    model.initialize(x, x_smooth)
    means = model.conditionals(x, x_smooth).means
    assert (means - x_smooth[..., None]).abs().max() < 0.5


@pytest.mark.parametrize("order", ["natural", "random"])
def test_both_halves_of_a_joint_model_inpaint(order: str) -> None:
    torch.manual_seed(0)
    joint = MADE.joint((3,), build(MADE.Config, {"order": order}, "made")).double()
    joint.initialize(torch.randn(200, 6, dtype=torch.float64))
    x, x_smooth = torch.randn(2, 5, 3, dtype=torch.float64)
    known = torch.rand(5, 3, generator=generator("known")) < 0.5
    for stage, context in ((joint.prior(), None), (joint.denoiser(), x_smooth)):
        filled = stage.inpaint(x, known, context, None, generator("inpaint"))
        assert torch.equal(filled[known], x[known])
        assert (filled != x)[~known].all()
        drawn = stage.sample(5, context, None, generator("draw"))
        none = torch.zeros(1, 3, dtype=torch.bool)
        assert torch.equal(stage.inpaint(x, none, context, None, generator("draw")), drawn)


def test_discretised_mass_sums_to_one() -> None:
    """Σ over the 256² values of two dimensions is one."""
    config = build(MADE.Config, {"width": 8, "mixtures": 2, "layers": 1}, "made")
    model = MADE((2,), None, 256, config).double()
    model.initialize(torch.rand(100, 2, dtype=torch.float64) * 2 - 1)
    grid = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    with torch.no_grad():
        mass = model.log_prob(torch.cartesian_prod(grid, grid)).exp().sum()
    assert mass.item() == pytest.approx(1, abs=1e-9)
    drawn = model.sample(50, generator=generator(0))
    assert torch.allclose((drawn + 1) * 127.5, ((drawn + 1) * 127.5).round(), atol=1e-9)
    assert drawn.abs().max() <= 1


@pytest.mark.parametrize("scale", [1.0, torch.tensor([1e-3, 1e3])], ids=["data", "spreads"])
@pytest.mark.parametrize("sigma", [0.02, 0.5, 4.0])
def test_where_sigma_is_an_input_offsets_are_those_of_gaussian_data(
    sigma: float, scale: float | Tensor
) -> None:
    """(x − origin)/unit is standard and tells nothing of x̃, whatever σ and its units are."""
    x = torch.tensor([1.0, -3.0]) + torch.tensor([0.5, 2.0]) * torch.randn(
        20_000, 2, generator=generator("x")
    )
    x_smooth = x + sigma * torch.randn(x.shape, generator=generator("noise"))
    made = MADE((2,), (2,), config=MADE.Config(lowest_sigma=0.01)).at(sigma)
    made.initialize(x, x_smooth)
    origin, unit = made.frame(x, x_smooth)
    offset = (x - origin) / unit
    assert offset.mean(0).tolist() == pytest.approx([0, 0], abs=0.03)
    assert offset.std(0).tolist() == pytest.approx([1, 1], abs=0.03)
    for each, seen in zip(offset.T, x_smooth.T, strict=True):
        assert torch.corrcoef(torch.stack([each, seen]))[0, 1].item() == pytest.approx(0, abs=0.03)


def test_frequencies_learn_fine_detail_sooner() -> None:
    """Of x = sin 20c + noise a few steps learn more, with about as many parameters."""
    losses = {}
    for frequencies, width in ((0, 40), (5, 36)):
        torch.manual_seed(0)
        config = build(MADE.Config, {"width": width, "frequencies": frequencies}, "made")
        model = MADE((1,), (1,), config=config)
        c = 2 * torch.rand(1000, 1) - 1
        x = torch.sin(20 * c) + 0.1 * torch.randn(1000, 1)
        model.initialize(x, c)
        adam = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(60):
            adam.zero_grad()
            loss = -model.log_prob(x, c).mean()
            loss.backward()
            adam.step()
        losses[frequencies] = loss.item()
    assert losses[5] < losses[0] - 0.5
