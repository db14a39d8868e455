"""bf16: what stays in float32, and a resume to the bit."""

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smoothctl.architectures.pixelcnnpp.activations import PADDINGS, concat_elu, gate
from smoothctl.distributed.devices import accelerator_for
from smoothctl.errors import TrainingError
from smoothctl.training.fit import fit_prior
from tests.test_pixelcnnpp import images, model
from tests.training_child import die_at, results, settings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_keep_their_dtype(dtype: torch.dtype, device: str) -> None:
    x, both = (torch.randn(2, c, 4, 3).to(device, dtype).requires_grad_() for c in (3, 6))
    with torch.autocast(device, torch.bfloat16):
        found = concat_elu(x, padding=PADDINGS["vertical"]), gate(x, both)
    for each in found:
        assert each.dtype == dtype
        gradients = torch.autograd.grad(each.sum(), [x, both], allow_unused=True)
        assert {g.dtype for g in gradients if g is not None} == {dtype}


def test_concat_elu_of_bf16_is_elu_rounded() -> None:
    x = torch.linspace(-6, 6, 4001).to(torch.bfloat16).view(1, 1, 1, -1)
    exact = torch.nn.functional.elu(torch.cat([x, -x], 1).double())
    off = (concat_elu(x).double() - exact).abs()
    assert (off <= exact.abs() * 2**-8 + 2**-8).all()


@pytest.mark.parametrize(
    ("denoiser", "options"),
    [
        (False, {"dropout": 0.5}),
        (False, {"classes": 3}),
        (True, {"offset": True}),
        (True, {"conditioning": "stacked"}),
    ],
)
@pytest.mark.parametrize("levels", [None, 256])
def test_weights_mixture_and_loss_are_float32(
    denoiser: bool, options: dict[str, Any], levels: int | None, device: str
) -> None:
    density = model((1, 6, 5), denoiser, levels, torch.float32, **options).to(device)
    density.train().requires_grad_(True)
    x = ((images(3, (1, 6, 5)) * 127.5).round() / 127.5).to(device, torch.float32)
    context = x + 0.3 if denoiser else None
    labels = torch.tensor([0, 2, 1], device=device) if density.classes else None
    inside: list[torch.dtype] = []
    block = density.network.down[0].vertical[0]
    block.register_forward_hook(lambda module, given, out: inside.append(out.dtype))
    with torch.autocast(device, torch.bfloat16):
        mixture = density._mixture(density._outputs(x, context, labels), context)
        loss = density.training_loss(x, context, labels).mean()
    loss.backward()
    assert set(inside) == {torch.bfloat16}
    assert {part.dtype for part in mixture[:-1]} == {loss.dtype} == {torch.float32}
    gradients = [p.grad for p in density.parameters() if p.grad is not None]
    assert {each.dtype for each in (*density.parameters(), *gradients)} == {torch.float32}


def test_a_mixture_has_more_digits_than_bf16() -> None:
    """Means that were rounded to bf16 would lie up to half a grey level apart."""
    density = model((1, 6, 5), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        means = density._mixture(density._outputs(images(3, (1, 6, 5)).float(), None, None), None)[
            1
        ]
    assert (means != means.bfloat16().float()).float().mean() > 0.9


def fit(out: Path, point: int) -> None:
    """Fits a prior in bf16; dies at a change of the folder unless `point` is 0."""
    torch.set_num_threads(1)
    if point:
        die_at(point, out)
    fit_prior(out=out, precision="bf16", **settings("pixelcnnpp"))


def in_a_process(out: Path, point: int) -> int | None:
    child = multiprocessing.get_context("spawn").Process(target=fit, args=(out, point))
    child.start()
    try:
        child.join()
    finally:
        child.kill()  # where the test ran out of time
    return child.exitcode


@pytest.mark.slow  # minutes on a processor without instructions for bf16
def test_a_resume_is_the_undisturbed_fit_to_the_bit(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert in_a_process(whole, 0) == 0
    assert in_a_process(cut, 140) == -signal.SIGKILL
    kept = [load_file(path) for path in cut.rglob("*.safetensors")]
    assert kept
    numbers = [each.dtype for tensors in kept for each in tensors.values()]
    assert {dtype for dtype in numbers if dtype.is_floating_point} <= {torch.float32, torch.float64}
    assert in_a_process(cut, 0) == 0
    assert results(cut) == results(whole)


def test_another_precision_in_one_process_is_refused() -> None:
    accelerator = accelerator_for("cpu", "float32")
    assert accelerator.mixed_precision == "no"
    with pytest.raises(TrainingError, match="precision=bf16 in a new one"):
        accelerator_for("cpu", "bf16")
