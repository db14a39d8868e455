"""What the bound is, and that without an index the model is RealNVP."""

import math
from itertools import pairwise

import pytest
import torch
from smoothctl_cif import CIFRealNVP

from smoothctl.architectures.realnvp import RealNVP
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.rng import generator, normal

COUNTS = (1, 4, 16, 64, 512)


def _model(dims: int = 2, context: bool = False, **options: int) -> CIFRealNVP:
    """Returns a model with random weights."""
    torch.manual_seed(0)
    config = CIFRealNVP.Config(**{"blocks": 2, "width": 8, "layers": 1, "index_width": 6} | options)
    model = CIFRealNVP((dims,), (dims,) if context else None, None, config).double()
    x = torch.randn(200, dims).double() * 2 + 1
    model.initialize(x, x + 0.3 if context else None)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("dims", [2, 3, 5])
def test_without_an_index_it_is_realnvp(dims: int, context: bool) -> None:
    """S = t = 0 and p(u|z) = q(u|x): one draw is exact, and the flow that of its couplings."""
    model = _model(dims, context)
    for block in model.blocks:
        for network in (block.shift_and_scale, block.generative.network, block.inference.network):
            for parameter in network[-1].parameters():
                parameter.data.zero_()
    config = RealNVP.Config(couplings=4, width=8, layers=1)
    flow = RealNVP((dims,), (dims,) if context else None, None, config).double()
    for name in ("loc", "scale", "context_loc", "context_scale"):
        setattr(flow, name, getattr(model, name))
    pairs = [coupling for block in model.blocks for coupling in (block.first, block.second)]
    for theirs, ours in zip(flow.couplings, pairs, strict=True):
        theirs.load_state_dict(ours.state_dict())
    x = 3 * torch.randn(7, dims).double()
    given = torch.randn(7, dims).double() if context else None
    assert torch.allclose(
        model.bound(x, given, None, 1, generator("noise")), flow.log_prob(x, given)
    )


def test_more_draws_approach_one_value_from_below() -> None:
    model, x = _model(), torch.randn(400, 2).double() + 1
    with torch.no_grad():
        means = [
            model.bound(x, None, None, k, generator("draws", k)).mean() for k in (1, 4, 16, 64, 512)
        ]
    gaps = [b - a for a, b in pairwise(means)]
    assert all(gap > 0 for gap in gaps[:3])
    assert gaps[-1].abs() < gaps[0] / 4


def test_the_weights_are_unbiased_however_many_draws() -> None:
    """The mean of 4000 weights of one draw is that of 250 means of sixteen."""
    model, x = _model(), torch.tensor([[0.4, 1.3]]).double()
    with torch.no_grad():
        few, many = (
            model.bound(x.expand(rows, 2), None, None, k, generator("weights", k)).exp()
            for rows, k in ((4000, 1), (250, 16))
        )
    error = math.hypot(few.std() / 4000**0.5, many.std() / 250**0.5)
    assert (few.mean() - many.mean()).abs() < 4 * error


def test_the_noise_of_a_call_is_one_block() -> None:
    """Rows times draws, by the coordinates of all indices: nothing else is drawn."""
    model, x = _model(latents=3), torch.randn(5, 2).double()
    used, expected = generator("block"), generator("block")
    model.bound(x, None, None, 4, used)
    normal((20, 6), x, expected)
    assert torch.equal(used.get_state(), expected.get_state())


def test_an_index_helps_couplings_that_are_too_few() -> None:
    """Two far clusters: the same two couplings fit them worse without it."""
    torch.manual_seed(0)
    x = 0.1 * torch.randn(512, 2) + 2 * torch.tensor([-1.0, 1.0]).repeat(256)[:, None]
    indexed = CIFRealNVP((2,), config=CIFRealNVP.Config(blocks=1, width=4, layers=1))
    plain = RealNVP((2,), config=RealNVP.Config(couplings=2, width=4, layers=1))
    bounds = []
    for model in (indexed, plain):
        model.initialize(x)
        adam = torch.optim.Adam(model.parameters(), lr=1e-2)
        for step in range(500):
            loss = model.training_loss(x, None, None, generator("noise", step)).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            bounds.append(model.bound(x, None, None, 16, generator("bound")).mean())
    assert bounds[0] > bounds[1] + 0.1


def test_what_it_does_not_have_is_said() -> None:
    model, x = _model(), torch.zeros(1, 2).double()
    with pytest.raises(NotAvailable, match="`bound`"):
        model.log_prob(x)
    with pytest.raises(NotAvailable, match="no score"):
        model.score_function(x)
    with pytest.raises(UsageError, match="one dimension"):
        CIFRealNVP((1,))
