"""The flow and its inverse undo each other; its log-determinant is the Jacobian's."""

import pytest
import torch

from smoothctl.architectures.realnvp import Coupling, RealNVP
from smoothctl.config import build
from smoothctl.errors import UsageError
from smoothctl.rng import generator


def _flow(dims: int, context: bool, couplings: int) -> RealNVP:
    torch.manual_seed(0)
    config = build(RealNVP.Config, {"couplings": couplings, "width": 12}, "realnvp")
    flow = RealNVP((dims,), (dims,) if context else None, None, config).double()
    for parameter in flow.parameters():
        parameter.data.normal_(0, 0.3)
    return flow


def _forward(flow: RealNVP, x: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
    """Returns both halves of the latent code side by side."""
    given = flow.standard_context(context)
    z = x if context is None else x - context
    kept, moved = z[:, ::2], z[:, 1::2]
    for coupling in flow.couplings:
        kept, moved = coupling(kept, moved, given)[0], kept
    return torch.cat([kept, moved], dim=1)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("couplings", [2, 3, 8])
@pytest.mark.parametrize("dims", [2, 3, 5])
def test_log_prob_is_change_of_variables(dims: int, couplings: int, context: bool) -> None:
    flow = _flow(dims, context, couplings)
    x = torch.randn(1, dims, dtype=torch.float64)
    c = torch.randn(1, dims, dtype=torch.float64) if context else None
    jacobian = torch.autograd.functional.jacobian(lambda y: _forward(flow, y, c)[0], x)[:, 0]
    base = torch.distributions.Normal(0.0, 1.0).log_prob(_forward(flow, x, c)).sum()
    expected = base + torch.linalg.slogdet(jacobian)[1]
    assert torch.allclose(flow.log_prob(x, c)[0], expected)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("couplings", [2, 3, 8])
@pytest.mark.parametrize("dims", [2, 3, 5])
def test_samples_are_the_inverse_of_the_noise(dims: int, couplings: int, context: bool) -> None:
    """Pushing samples forward gives back the standard normals that they were made from."""
    flow = _flow(dims, context, couplings)
    c = torch.randn(6, dims, dtype=torch.float64) if context else None
    x = flow.sample(6, c, None, generator("noise"))
    z = torch.randn(6, dims, generator=generator("noise"), dtype=torch.float64)
    code = _forward(flow, x, c)
    halves = [z[:, ::2], z[:, 1::2]]
    if couplings % 2 == 1:
        halves.reverse()
    assert torch.allclose(code, torch.cat(halves, dim=1), atol=1e-9)


def test_a_coupling_starts_as_the_identity_and_is_capped() -> None:
    coupling = Coupling(2, 1, 8, 1, cap=0.5)
    given, moved = torch.randn(4, 2), torch.randn(4, 1)
    changed, log_determinant = coupling(given, moved)
    assert torch.equal(changed, moved)
    assert torch.equal(log_determinant, torch.zeros(4))
    for parameter in coupling.parameters():
        parameter.data.normal_(0, 100)
    assert coupling(given, moved)[1].abs().max() <= 0.5


def test_one_dimension_and_8_bit_data_are_refused() -> None:
    with pytest.raises(UsageError, match="one dimension"):
        RealNVP((1,))
    with pytest.raises(UsageError, match="8-bit"):
        RealNVP((2,), levels=256)
