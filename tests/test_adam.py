"""Adam moves to the bit as torch's own does, however it is stopped and started."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smoothctl.training.adam import Adam

BETAS = (0.8, 0.95)
RATES = [0.1, 0.03, 0.0, 1e-4, 0.02]


def parameters(dtype: torch.dtype) -> list[Tensor]:
    """A scalar, a vector, a matrix, a channels-last filter, and one that gets no gradient."""
    noise = torch.Generator().manual_seed(0)
    shapes = [(), (7,), (5, 3), (4, 3, 3, 3), (2,)]
    made = [torch.randn(shape, generator=noise, dtype=dtype) for shape in shapes]
    made[3] = made[3].contiguous(memory_format=torch.channels_last)
    return [nn.Parameter(tensor) for tensor in made]


def give_gradients(given: list[Tensor], step: int) -> None:
    """Gives all but the last one a gradient; the first one from the third step on."""
    noise = torch.Generator().manual_seed(step)
    for i, parameter in enumerate(given[:-1]):
        drawn = torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype)
        parameter.grad = None if i == 0 and step < 2 else torch.empty_like(parameter).copy_(drawn)


def theirs(given: list[Tensor]) -> torch.optim.Adam:
    return torch.optim.Adam(given, lr=0.0, betas=BETAS, fused=True)


def step_of_theirs(adam: torch.optim.Adam, rate: float) -> None:
    adam.param_groups[0]["lr"] = rate
    adam.step()


def flat(adam: torch.optim.Adam) -> dict[str, Tensor]:
    """The state of torch's Adam under our names."""
    states = adam.state_dict()["state"].items()
    return {f"{i}.{name}": value for i, state in states for name, value in state.items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_bits_as_torchs(dtype: torch.dtype) -> None:
    own, other = parameters(dtype), parameters(dtype)
    adam, oracle = Adam(own, BETAS), theirs(other)
    for step, rate in enumerate(RATES):
        give_gradients(own, step)
        give_gradients(other, step)
        adam.step(rate)
        step_of_theirs(oracle, rate)
        assert all(map(torch.equal, own, other))
        assert equal(adam.state(), flat(oracle))


@pytest.mark.parametrize("stop", [1, 3])
def test_it_goes_on_from_a_state_of_torchs(stop: int) -> None:
    own = parameters(torch.float32)
    oracle = theirs(own)
    for step, rate in enumerate(RATES):
        give_gradients(own, step)
        step_of_theirs(oracle, rate)
        if step == stop:
            kept = {
                k: v.clone(memory_format=torch.contiguous_format) for k, v in flat(oracle).items()
            }
            again = [nn.Parameter(p.detach().clone()) for p in own]
            adam = Adam(again, BETAS)
            adam.load(kept)
        elif step > stop:
            give_gradients(again, step)
            adam.step(rate)
            assert all(map(torch.equal, own, again))
    assert equal(adam.state(), flat(oracle))


def test_zero_grad_forgets() -> None:
    own = parameters(torch.float32)
    give_gradients(own, 3)
    Adam(own, BETAS).zero_grad()
    assert all(parameter.grad is None for parameter in own)


@pytest.mark.slow
def test_a_fit_imports_neither_a_compiler_nor_sharded_tensors(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom smoothctl.cli import main\n"
        "sys.argv = 'smoothctl fit-prior --steps 1 --out run --device cpu'.split()\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "slow = {'torch._dynamo', 'torch.distributed.tensor', 'sympy', 'datasets', 'matplotlib'}\n"
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/prior/model.safetensors").is_file()
