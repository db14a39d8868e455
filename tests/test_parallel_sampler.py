"""The parallel sampler: the naive one's draws, in at most as many passes as pixels."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.architectures.pixelcnnpp.head import Components, PixelNoise
from smoothctl.architectures.pixelcnnpp.parallel import fill
from smoothctl.architectures.pixelcnnpp.samplers import Canvas
from smoothctl.rng import generator
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling.draw import draw_all
from smoothctl.smoothing.batching import Execution
from smoothctl.training.fit import fit_denoiser
from tests.test_pixelcnnpp import images, model

FIXTURES = Path(__file__).parent / "fixtures"


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int, int], dict[str, Any], Tensor]:
    """A shape, settings of a model, and what is known of some images."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    options: dict[str, Any] = {
        "denoiser": draw(st.booleans()),
        "conditioning": draw(st.sampled_from(["aligned", "stacked"])),
        "levels": draw(st.sampled_from([None, 5, 256])),
        "scales": draw(st.integers(1, 4)),
        "classes": draw(st.sampled_from([0, 3])),
        "offset": draw(st.booleans()),
    }
    if options["levels"] is None:
        options["noise"] = draw(st.sampled_from([0.0, 0.3]))
    n, seed = draw(st.integers(1, 4)), draw(st.integers(0, 99))
    share = draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    known = torch.rand(n, 1, *shape[1:], generator=generator("known", seed)) < share
    return shape, options, known


def inpaint(density: PixelCNNpp, known: Tensor, only: int | None = None) -> Tensor:
    """Completes images of which something is known: all, or the one of a number alone."""
    n, shape, noise = len(known), density.event_shape, generator("noise")
    x, context, labels = images(n, shape), 1.5 * images(n, shape, "x̃"), torch.arange(n) % 3
    if only is not None:
        PixelNoise.of_images(x[:only], 2, Components(-7.0), noise)  # that of the images before it
        one = slice(only, only + 1)
        x, known, context, labels = x[one], known[one], context[one], labels[one]
    x_smooth = context if density.context_shape else None
    return density.inpaint(x, known, x_smooth, labels if density.classes else None, noise)


class Chain(nn.Module):
    """Draws 1 more than the pixel to the left, or above the row's start: the longest chain."""

    def __init__(self, jitter: float = 0.0) -> None:
        super().__init__()
        self.jitter = jitter

    def forward(self, x: Tensor, labels: Any, first_row: int, features: Any) -> Tensor:
        before = nn.functional.pad(x.flatten(2), (1, 0))[:, 0, :-1].view(len(x), *x.shape[2:])
        mean = before + 1 + self.jitter * torch.rand_like(before)
        parameters = torch.stack([torch.zeros_like(mean), mean, torch.full_like(mean, -50)], -1)
        return parameters[:, first_row:]


def blank(n: int, height: int, width: int) -> Canvas:
    """Grey images of which nothing is known."""
    x = torch.zeros(n, 1, height, width, dtype=torch.float64)
    noise = PixelNoise.of_images(x, 1, Components(-7.0), generator("blank"))
    return Canvas(x, torch.zeros(1, 1, height, width, dtype=torch.bool), noise, Components(-50.0))


class TestFixedPoint:
    @settings(max_examples=12, deadline=None)
    @given(cases())
    def test_it_is_the_naive_draw_after_at_most_as_many_passes_as_pixels(
        self, case: tuple[tuple[int, int, int], dict[str, Any], Tensor]
    ) -> None:
        shape, options, known = case
        naive = inpaint(model(shape, **options, sampler="naive"), known)
        assume(naive.abs().max() < 1e3)  # few pixels of a coarse scale leave weights ill-scaled
        density = model(shape, **options, sampler="parallel")
        drawn = inpaint(density, known)
        assert (naive - drawn).abs().max() < 1e-9
        unknown = (~known).flatten(1).sum(1).tolist()
        assert all(a <= b for a, b in zip(density.passes, unknown, strict=True))
        assert sum(density.passes) >= sum(pixels > 0 for pixels in unknown)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 4), (1, 9), (9, 1)])
    def test_the_longest_chain_takes_a_pass_a_pixel(self, shape: tuple[int, int]) -> None:
        height, width = shape
        filled = fill(Chain(), blank(2, height, width))  # type: ignore[arg-type]
        expected = torch.arange(1.0, height * width + 1).double().view(height, width)
        assert torch.allclose(filled.images, expected.expand(2, 1, -1, -1), atol=1e-12)
        assert filled.passes.tolist() == [height * width] * 2

    def test_a_network_that_never_gives_the_same_twice_ends(self) -> None:
        filled = fill(Chain(jitter=1e-3), blank(3, 4, 5))  # type: ignore[arg-type]
        assert filled.passes.tolist() == [20] * 3

    def test_what_is_known_takes_no_pass(self) -> None:
        canvas = blank(2, 3, 4)
        known = torch.ones(2, 1, 3, 4, dtype=torch.bool)
        assert fill(Chain(), replace(canvas, known=known)).passes.tolist() == [0, 0]  # type: ignore[arg-type]
        known[1, 0, 1, 2] = False
        filled = fill(Chain(), replace(canvas, known=known))  # type: ignore[arg-type]
        assert filled.passes.tolist() == [0, 1]
        assert torch.equal(filled.images[0], canvas.images[0])
        assert filled.images[1].sum() == pytest.approx(1)

    @pytest.mark.parametrize("levels", [None, 16])
    def test_weights_that_are_no_numbers_end(self, levels: int | None) -> None:
        density = model((1, 5, 6), levels=levels, sampler="parallel")
        density.network.out.bias.fill_(torch.nan)
        assert density.sample(3, generator=generator("nan")).isnan().all()
        assert max(density.passes) <= 30


class TestBatches:
    @pytest.mark.parametrize("denoiser", [False, True])
    def test_images_and_passes_do_not_depend_on_the_batch(self, denoiser: bool) -> None:
        shape, known = (1, 8, 7), torch.zeros(6, 1, 8, 7, dtype=torch.bool)
        known[2:4, :, :5] = True
        density = model(shape, denoiser, 256, sampler="parallel")
        together = inpaint(density, known)
        passes = list(density.passes)
        assert len(set(passes)) > 1  # some left the batch before others
        for i in range(len(known)):
            alone = model(shape, denoiser, 256, sampler="parallel")
            assert torch.equal(inpaint(alone, known, only=i)[0], together[i])
            assert alone.passes == [passes[i]]

    def test_rows_that_are_settled_are_told(self) -> None:
        seen: list[tuple[int, int]] = []
        density = model((1, 5, 4), denoiser=True, sampler="parallel")
        x, known = images(2, (1, 5, 4)), torch.zeros(1, 1, 5, 4, dtype=torch.bool)
        known[:, :, 0] = True
        density.inpaint(x, known, x, None, generator("p"), lambda a, b: seen.append((a, b)))
        assert seen == sorted(seen)
        assert seen[-1] == (4, 4)
        assert len(seen) == max(density.passes)


@pytest.fixture
def aligned(tmp_path: Path) -> Path:
    """A run that was fitted before there was a setting."""
    return Path(shutil.copytree(FIXTURES / "aligned-run", tmp_path / "run"))


def drawn_by(run: Run) -> tuple[dict[str, Tensor], list[str]]:
    said: list[str] = []
    drawn = draw_all(run, ["two-step"], 3, execution=Execution(note=said.append))
    return {"x": drawn["two-step"].samples, "x̃": drawn["two-step"].smoothed}, said


class TestSetting:
    def test_a_run_without_it_draws_the_same_in_passes_that_are_told(self, aligned: Path) -> None:
        before, nothing = drawn_by(load_run(aligned))
        after, said = drawn_by(load_run(aligned, sampler={"sampler": "parallel"}))
        assert not nothing
        assert torch.equal(before["x"], after["x"])
        assert torch.allclose(before["x̃"], after["x̃"], atol=1e-5)
        assert [sentence.split(" drew ")[0] for sentence in said] == ["The prior", "The denoiser"]
        assert all("images of 64 pixels in" in sentence for sentence in said)

    def test_a_denoiser_takes_its_priors(self, aligned: Path, tmp_path: Path) -> None:
        from smoothctl.runs.commands import fit_command
        from smoothctl.training.fit import fit_prior

        few = {"steps": 1, "batch_size": 4, "validation_limit": 4}
        small = {"filters": 2, "blocks": 1, "mixtures": 1, "scales": 1}
        out = tmp_path / "new"
        common = {"out": out, "training": few, "device": "cpu"}
        fit_prior(dataset="digits", sigma=0.3, options={**small, "sampler": "naive"}, **common)
        fit_denoiser(**common)
        configs = load_run(out).configs()
        assert [config.options["sampler"] for config in configs.values()] == ["naive"] * 2
        prior, denoiser = configs["prior"], configs["denoiser"]
        assert "sampler=naive" in fit_command(prior, out)
        assert not any("sampler" in word for word in fit_command(denoiser, out, prior))

        fit_denoiser(out=aligned, training=few, device="cpu", overwrite=True)
        configs = load_run(aligned).configs()
        assert "sampler" not in configs["prior"].options
        assert configs["denoiser"].options["sampler"] == "auto"
        command = fit_command(configs["denoiser"], out, configs["prior"])
        assert not any("sampler" in word for word in command)
