"""The compiled sampler draws what the others draw, on every kind of processor that this one is."""

import os
import subprocess
import sys
import weakref
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.architectures.pixelcnnpp.compiled import CompiledSampler
from smoothctl.architectures.pixelcnnpp.head import PixelNoise
from smoothctl.architectures.pixelcnnpp.native.build import (
    LIBRARY,
    CompilerError,
    build,
    fingerprint,
)
from smoothctl.architectures.pixelcnnpp.native.library import load, processors
from smoothctl.architectures.pixelcnnpp.network import Condition
from smoothctl.architectures.pixelcnnpp.samplers import CachedSampler, Canvas, NaiveSampler, Sampler
from smoothctl.errors import NotAvailable
from tests.test_pixelcnnpp import model

try:
    KINDS = list(processors())
except NotAvailable as reason:
    pytest.skip(str(reason), allow_module_level=True)


def network(shape: tuple[int, ...], **options: Any) -> PixelCNNpp:
    return model(shape, dtype=torch.float32, **options)


def all_but_one(height: int, width: int) -> Tensor:
    """A mask of as many images as pixels, each of which lacks one of them."""
    return ~torch.eye(height * width, dtype=torch.bool).view(-1, 1, height, width)


def canvas_of(density: PixelCNNpp, n: int, known: Tensor | None = None) -> Canvas:
    """Images of a fixed seed and their noise; nothing is known without a mask."""
    own = Generator().manual_seed(1)
    given = torch.rand(n, *density.event_shape, generator=own) * 2 - 1
    context = None if density.context_shape is None else given.flip(0) * 0.9
    labels = None if density.classes is None else torch.arange(n) % density.classes
    known = torch.zeros(1, 1, *given.shape[2:], dtype=torch.bool) if known is None else known
    return density._canvas(given, known, context, labels, own)


def exact(density: PixelCNNpp, canvas: Canvas) -> Tensor:
    """What a canvas is filled with in twice the precision."""
    centre = None if canvas.centre is None else canvas.centre.double()
    double = replace(
        canvas,
        images=canvas.images.double(),
        noise=PixelNoise(canvas.noise.gumbel.double(), canvas.noise.standard.double()),
        features=[each.double() for each in canvas.features],
        centre=centre,
        condition=Condition(*(_double(each) for each in canvas.condition)),
    )
    return CachedSampler()(deepcopy(density.network).double(), double)


def _double(condition: Tensor | None) -> Tensor | None:
    """Classes stay whole numbers."""
    real = condition is not None and condition.is_floating_point()
    return condition.double() if real else condition


def assert_same_values(images: Tensor, expected: Tensor, levels: int) -> None:
    """Equal, but that the first pixel that differs was halfway between two values."""
    for image, other in zip(images.flatten(2).mT, expected.flatten(2).mT, strict=True):
        differs = (image - other).abs().gt(1e-5).any(1)
        if differs.any():
            first = int(differs.int().argmax())
            assert (image - other)[first].abs().max() <= 2 / (levels - 1) + 1e-5


def assert_agree(density: PixelCNNpp, sampler: Sampler, n: int, mask: Tensor | None = None) -> None:
    """Compares with the cached sampler: whole draws on a grid, else each pixel given all others.

    Draws on the reals may be as far from those in double precision as the cached sampler's; random
    weights can magnify rounding.
    """
    known = all_but_one(density.height, density.width) if density.levels is None else mask
    canvas = canvas_of(density, n if known is None or density.levels else len(known), known)
    ours, theirs = (each(density.network, canvas) for each in (sampler, CachedSampler()))
    assert torch.equal(*(torch.where(canvas.known, each, 0.0) for each in (ours, canvas.images)))
    if density.levels is not None:
        assert_same_values(ours, theirs, density.levels)
        return
    truth = exact(density, canvas)
    scale = 1e-5 * truth.nan_to_num(0.0, 0.0, 0.0).abs().amax((1, 2, 3)).clamp(min=1)
    errors = ((each - truth).abs().nan_to_num(0.0, 0.0) for each in (ours, theirs))
    error, other = (each.amax((1, 2, 3)) for each in errors)
    assert (error <= scale + 20 * other.max()).all()


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    """Returns arguments of `network`."""
    kind = draw(st.sampled_from([None, "aligned", "stacked"]))
    return {
        "shape": draw(st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))),
        "denoiser": kind is not None,
        "levels": draw(st.sampled_from([None, 16])),
        "blocks": draw(st.integers(1, 3)),
        "filters": draw(st.integers(1, 20)),
        "mixtures": draw(st.integers(1, 4)),
        "scales": draw(st.integers(1, 4)),
        "classes": draw(st.integers(0, 3)),
        "conditioning": kind or "aligned",
        "offset": draw(st.booleans()),
        "lowest_sigma": draw(st.sampled_from([0.0, 0.1])),
    }


class TestImages:
    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=20, deadline=None)
    @given(options=choices(), n=st.integers(1, 18))
    def test_are_those_of_the_cached_sampler(
        self, kind: str, options: dict[str, Any], n: int
    ) -> None:
        assert_agree(network(**options), CompiledSampler(kind), n)

    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=20, deadline=None)
    @given(options=choices(), n=st.integers(1, 18), share=st.floats(0, 1), top=st.integers(0, 7))
    def test_keep_what_is_known(
        self, kind: str, options: dict[str, Any], n: int, share: float, top: int
    ) -> None:
        density = network(**{**options, "levels": 16})
        size = (n if n % 2 else 1, 1, density.height, density.width)
        known = torch.rand(size, generator=Generator().manual_seed(n)) < share
        known[:, :, :top] = True
        assert_agree(density, CompiledSampler(kind), n, known)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("filters", [8, 12, 40])
    def test_are_those_of_the_naive_sampler(self, kind: str, filters: int) -> None:
        density = network((3, 7, 5), filters=filters)
        canvas = canvas_of(density, 3)
        ours = CompiledSampler(kind)(density.network, canvas)
        assert (ours - NaiveSampler()(density.network, canvas)).abs().max() < 1e-5

    def test_do_not_depend_on_batch_or_threads(self) -> None:
        density = network((1, 8, 8), filters=20)
        density.sampler = CompiledSampler()
        threads, whole = torch.get_num_threads(), {}
        try:
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                whole[count] = density.sample(35, generator=Generator().manual_seed(5))
        finally:
            torch.set_num_threads(threads)
        source = Generator().manual_seed(5)
        parts = torch.cat([density.sample(n, generator=source) for n in (1, 2, 5, 27)])
        assert all(torch.equal(parts, each) for each in whole.values())

    def test_of_weights_that_are_no_numbers(self) -> None:
        density = network((1, 5, 5))
        density.network.out.bias.fill_(torch.nan)
        assert CompiledSampler()(density.network, canvas_of(density, 2)).isnan().all()

    def test_weights_that_change_are_seen(self) -> None:
        density, sampler = network((1, 5, 5)), CompiledSampler()
        canvas = canvas_of(density, 2)
        before = sampler(density.network, canvas)
        assert torch.equal(sampler(density.network, canvas), before)
        density.network.out.bias.data += 0.1  # by the one way that no version counter tells
        after = sampler(density.network, canvas)
        assert (after - CachedSampler()(density.network, canvas)).abs().max() < 1e-5
        assert not torch.equal(after, before)

    def test_progress_counts_the_rows_that_are_drawn(self) -> None:
        density, told = network((1, 6, 4)), []
        density.sampler = CompiledSampler()
        known = torch.zeros((1, 1, 6, 4), dtype=torch.bool)
        known[:, :, [0, 1, 5]] = True
        density.inpaint(
            torch.zeros(2, 1, 6, 4), known, progress=lambda done, total: told.append((done, total))
        )
        assert told == [(1, 3), (2, 3), (3, 3)]

    def test_a_model_can_be_copied(self) -> None:
        density = model((1, 5, 5), dtype=torch.float32, sampler="compiled")
        canvas = canvas_of(density, 2)
        images = density.sampler(density.network, canvas)
        other = deepcopy(density)
        del density
        assert torch.equal(other.sampler(other.network, canvas), images)

    def test_a_network_can_be_freed(self) -> None:
        density, sampler = network((1, 4, 4)), CompiledSampler()
        sampler(density.network, canvas_of(density, 1))
        gone = weakref.ref(density.network)
        del density
        assert gone() is None


class TestAvailability:
    def test_other_numbers_are_refused(self) -> None:
        double = model((1, 4, 4))
        with pytest.raises(NotAvailable, match=r"not float64 on cpu\..*sampler=cached"):
            CompiledSampler()(double.network, canvas_of(double, 1))
        assert CompiledSampler().why_not(network((1, 4, 4)).network) is None

    def test_auto_takes_it_where_it_can(self) -> None:
        for dtype in (torch.float32, torch.float64):
            auto, native = (
                model((1, 6, 6), dtype=dtype, sampler=name)
                for name in ("auto", "compiled" if dtype == torch.float32 else "cached")
            )
            drawn = (
                each.sample(2, generator=Generator().manual_seed(1)) for each in (auto, native)
            )
            assert torch.equal(*drawn)

    def test_unknown_processor(self) -> None:
        with pytest.raises(NotAvailable, match="not abacus"):
            load("abacus")

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(NotAvailable, match="was not compiled"):
            load(library=tmp_path / "sampler.so")
        (tmp_path / "text.so").write_text("not a library")
        with pytest.raises(NotAvailable, match="cannot be loaded"):
            load(library=tmp_path / "text.so")

    def test_other_sources(self, tmp_path: Path) -> None:
        other = LIBRARY.read_bytes().replace(fingerprint().encode(), b"0" * 16)
        (tmp_path / "other.so").write_bytes(other)
        with pytest.raises(NotAvailable, match="from other sources"):
            load(library=tmp_path / "other.so")

    def test_no_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(CompilerError, match="no C\\+\\+ compiler \\(no-such-compiler\\)"):
            build(tmp_path / "sampler.so")
        monkeypatch.setenv("CXX", "false")
        with pytest.raises(CompilerError, match="failed"):
            build(tmp_path / "sampler.so")
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """The shapes of above under address and undefined-behaviour sanitizers."""
    checked = "-fsanitize=address,undefined"
    build(tmp_path / "sampler.so", [checked, "-fno-sanitize-recover=all", "-O1", "-g"])
    found = [
        subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True).stdout
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    environment["LD_PRELOAD"] = ":".join(map(str.strip, found))
    done = subprocess.run(
        [sys.executable, "-m", "tests.compiled_child", str(tmp_path / "sampler.so")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
