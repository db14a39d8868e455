"""TarFlow is an exact flow, sees earlier tokens alone, and draws by its caches what it is."""

import json
from typing import ClassVar

import pytest
import torch
from smoothctl_rivals.testing import FlowContract
from smoothctl_tarflow import TarFlow, VectorTarFlow
from smoothctl_tarflow.flow import AutoregressiveMap, TokenFlow
from smoothctl_tarflow.transformer import CausalTransformer

from smoothctl.errors import UsageError
from smoothctl.testing import CommandLine, DensityContract

SMALL: dict[str, int] = {"flows": 2, "layers": 1, "width": 16, "heads": 2}
FAST = ["--steps", "4", "--batch-size", "16", "--set", "width=8", "--set", "layers=1"]


class TestTarFlow(FlowContract):
    density_class = TarFlow
    options: ClassVar = {**SMALL, "scale_cap": 1.0}


class TestVectorTarFlow(DensityContract):
    density_class = VectorTarFlow
    options: ClassVar = SMALL


@pytest.mark.slow
class TestTarFlowOfAnySigma(FlowContract):
    density_class = TarFlow
    options: ClassVar = {**SMALL, "scale_cap": 1.0, "lowest_sigma": 0.05}
    perturbation = 0.1


class TestVectorTarFlowOfAnySigma(DensityContract):
    density_class = VectorTarFlow
    options: ClassVar = {**SMALL, "lowest_sigma": 0.05}


def random_map(tokens: int = 5, dims: int = 3, context: int = 0) -> AutoregressiveMap:
    torch.manual_seed(0)
    step = AutoregressiveMap(tokens, dims, context, False, 16, 2, 4, 1.5).double()
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return step


def test_a_token_sees_those_before_it() -> None:
    """The Jacobian of one map is triangular by blocks, and each block diagonal."""
    step, z = random_map(), torch.randn(1, 5, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: step(x, None)[0], z)[0, :, :, 0]
    for i in range(5):
        for j in range(5):
            block = jacobian[i, :, j]
            if j > i:
                assert (block == 0).all()
            elif j < i:
                assert (block != 0).all()
            else:
                assert (block - block.diagonal().diag() == 0).all()
                assert (block.diagonal() > 0).all()


def test_a_context_is_seen_in_place_and_before() -> None:
    step, z = random_map(context=2), torch.randn(1, 5, 3, dtype=torch.float64)
    c = torch.randn(1, 5, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda given: step(z, given)[0], c)[0, :, :, 0]
    for i in range(5):
        for j in range(5):
            assert (jacobian[i, :, j] == 0).all() == (j > i)


@pytest.mark.parametrize("flows", [1, 2, 3])
def test_alternating_order_is_undone(flows: int) -> None:
    torch.manual_seed(1)
    flow = TokenFlow(6, 2, 3, False, flows, 8, 1, 2, 1.0).double()
    for step in flow.maps:
        for parameter in step.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    x, c = torch.randn(4, 6, 2).double(), torch.randn(4, 6, 3).double()
    with torch.no_grad():
        z, _ = flow(x, c)
        assert torch.allclose(flow.inverse(z, c), x, atol=1e-9)
        assert not torch.allclose(flow(x, c + 1)[0], z)


def test_a_last_token_moves_the_first_with_two_maps() -> None:
    torch.manual_seed(0)
    flow = TokenFlow(6, 1, 0, False, 2, 8, 1, 2, 1.0).double()
    for step in flow.maps:
        torch.nn.init.normal_(step.out.weight)
    x = torch.randn(1, 6, 1).double()
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v)[0], x).view(6, 6)
    assert (jacobian.flip(0).abs() > 0).tril(0).any()
    assert jacobian.count_nonzero() > 21  # more than a triangle


def test_caches_give_what_the_whole_pass_gives() -> None:
    torch.manual_seed(0)
    transformer = CausalTransformer(7, 12, 3, 2).double()
    h = torch.randn(3, 7, 12).double()
    with torch.no_grad():
        whole, cache = transformer(h), transformer.cache(3)
        one = torch.stack([transformer.next(h[:, i], cache) for i in range(7)], dim=1)
    assert torch.allclose(whole, one, atol=1e-12)


def test_weights_that_run_away_leave_all_finite() -> None:
    model = TarFlow((1, 4, 4), config=TarFlow.Config(**SMALL)).double()
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter.mul_(1e4).add_(1e3)
    x = torch.randn(3, 1, 4, 4).double()
    assert model.log_prob(x).isfinite().all()
    assert model.sample(3).isfinite().all()


@pytest.mark.parametrize(("side", "patch", "size"), [(8, 2, 2), (7, 4, 1), (6, 4, 3), (1, 2, 1)])
def test_patches_divide_the_sides(side: int, patch: int, size: int) -> None:
    model = TarFlow((1, side, side), config=TarFlow.Config(**SMALL, patch=patch))
    assert model.patch == (size, size)
    assert model.tokens == (side // size) ** 2


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="image of the size"):
        TarFlow((1, 4, 4), (1, 2, 2))
    with pytest.raises(UsageError, match="of levels"):
        VectorTarFlow((3,), levels=8)
    with pytest.raises(ValueError, match="heads must divide width"):
        TarFlow.Config(width=10, heads=4)


def test_a_prior_with_our_denoiser(cli: CommandLine) -> None:
    """Two stages and a bound: what TarFlow alone has not."""
    words = ["--arch", "tarflow", "--dataset", "digits", "--out", "run"]
    code, _, err = cli("fit-prior", *words, *FAST)
    assert code == 0, err
    small = ["--set", "filters=4", "--steps", "4", "--batch-size", "16"]
    code, _, err = cli("fit-denoiser", "--arch", "pixelcnnpp", "--out", "run", *small)
    assert code == 0, err
    words = ["--limit", "4", "--samples", "0", "--draws", "2", "--bound", "ais"]
    code, out, err = cli("score", "run", *words, "--temperatures", "3", "--json")
    assert code == 0, err
    names = {e["quantity"].strip() for e in json.loads(out)["likelihood"]}
    assert {"bound, 2 draws", "bound, annealed"} <= names
    code, _, err = cli("sample", "run", "-n", "4", "--method", "single-step")
    assert code == 0, err
