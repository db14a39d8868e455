"""Rows of the cached sampler that are recorded and replayed: on the CPU by a recorder of ours."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.architectures.pixelcnnpp.graphs import GraphedSampler, Recorded, Work
from smoothctl.architectures.pixelcnnpp.samplers import CachedSampler, RowClass, Runner
from smoothctl.errors import UsageError
from smoothctl.rng import generator
from tests.test_pixelcnnpp import CASES, images, model


class Tape(TorchDispatchMode):
    """Keeps every operation with the very tensors that it read and wrote, as a graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """Does the operations again; what they give goes where it went."""
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class TapedSampler(CachedSampler):
    """Records rows as `GraphedSampler` does, on tapes; counts the rows that were replayed."""

    def __init__(self) -> None:
        self.replayed = 0

    def runner(self) -> Runner:
        return Recorded(self.record)

    def record(self, work: Work) -> Work:
        """Returns the replay, whose first call finds the work done."""
        done = [True]
        with Tape() as tape:
            work()

        def replay() -> None:
            self.replayed += 1
            if not done:
                tape.replay()
            done.clear()

        return replay


def check_equal(density: PixelCNNpp, run: Callable[[PixelCNNpp], Tensor]) -> Tensor:
    """Checks that recorded rows draw what the cached sampler does: to the bit on the CPU."""
    on_cuda = density.network.out.bias.device.type == "cuda"
    density.sampler = CachedSampler()
    cached = run(density)
    density.sampler = GraphedSampler() if on_cuda else TapedSampler()
    recorded = run(density)
    atol = 1e-6 if on_cuda else 0  # and random weights may leave all numbers
    assert torch.allclose(cached, recorded, rtol=0, atol=atol, equal_nan=True)
    return recorded


@pytest.mark.parametrize(("shape", "denoiser", "options"), CASES)
@pytest.mark.parametrize(("levels", "dtype"), [(None, torch.float64), (256, torch.float32)])
def test_replayed_rows_are_the_cached_ones(
    shape: tuple[int, ...],
    denoiser: bool,
    options: dict[str, Any],
    levels: int | None,
    dtype: torch.dtype,
    device: str,
) -> None:
    density = model(shape, denoiser, levels, dtype, **options).to(device)
    labels = torch.tensor([0, 3, 1], device=device) if density.classes else None
    context = 1.5 * images(3, shape).to(device, dtype) if denoiser else None
    check_equal(density, lambda d: d.sample(3, context, labels, generator("draw")))


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_any_mask_of_any_image(data: st.DataObject) -> None:
    n, channels, scales = (data.draw(st.integers(1, top)) for top in (2, 2, 4))
    height, width = data.draw(st.integers(1, 17)), data.draw(st.integers(1, 4))
    kind = data.draw(st.sampled_from([None, "aligned", "stacked"]))
    options = {"scales": scales, **({} if kind is None else {"conditioning": kind})}
    options["noise"] = data.draw(st.sampled_from([0.0, 0.3]))
    shape = (channels, height, width)
    density = model(shape, kind is not None, dtype=torch.float32, **options)
    x, x_smooth = images(n, shape).float(), images(n, shape, "context").float()
    rows = st.lists(st.booleans(), min_size=width, max_size=width)
    patterns = [data.draw(rows) for _ in range(2)]
    chosen = [[data.draw(st.sampled_from(patterns)) for _ in range(height)] for _ in range(n)]
    known = torch.tensor(chosen).unsqueeze(1)
    x_smooth = None if kind is None else x_smooth
    found = check_equal(density, lambda d: d.inpaint(x, known, x_smooth, None, generator("c")))
    assert torch.equal(found.where(known, 0), x.where(known, 0))


@pytest.mark.parametrize(("height", "scales"), [(28, 3), (32, 4), (9, 1), (1, 2)])
def test_all_rows_but_two_of_each_class_are_replayed(height: int, scales: int) -> None:
    density = model((1, height, 2), scales=scales)
    density.sampler = sampler = TapedSampler()
    density.sample(1, generator=generator("draw"))
    assert height - sampler.replayed <= scales + 2


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
def test_rows_of_a_class_are_active_at_the_same_scales_with_the_same_parities(scales: int) -> None:
    def active(row: int) -> list[int]:
        return [(row >> s) % 2 for s in range(scales) if row % 2**s == 0]

    for row in range(1, 70):
        like = RowClass.of(row, (), scales).like
        assert active(like) == active(row)
        assert like > 0
    assert RowClass.of(0, (), scales).like == 0


def test_on_a_processor_graphs_are_refused() -> None:
    density = model((1, 2, 2))
    density.sampler = GraphedSampler()
    with pytest.raises(UsageError, match="CUDA device, and the images are on cpu"):
        density.sample(1)
