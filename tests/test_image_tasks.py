"""Sampling, denoising, inpainting and scoring of images, in Python and as a person types it."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from smoothctl import kernels
from smoothctl.architectures.base import Density
from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.config import build
from smoothctl.datasets.pictures import read_events, read_mask, snap
from smoothctl.errors import NotAvailable, RunError, UsageError
from smoothctl.evaluation.likelihood import bounds, plain_likelihood
from smoothctl.evaluation.scores import effort_for, score_run
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw, draw_all, unsmoothed_single_steps
from smoothctl.sampling.inpainting import denoise, inpaint, smooth
from smoothctl.smoothing import batching
from smoothctl.smoothing.batching import Execution, evaluate, part_of, rows_that_fit
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.testing import CommandLine

SHAPE, LEVELS, SIGMA = (1, 6, 5), 16, 0.3
TINY = {"blocks": 1, "filters": 4, "mixtures": 2, "scales": 2}
DTYPE = torch.float64


def model(kind: str = "prior", classes: int = 0) -> Density:
    """A small PixelCNN++ with random weights, in float64."""
    config = build(PixelCNNpp.Config, {**TINY, "classes": classes}, "options")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(kind))
        context, levels = {"prior": (None, None), "denoiser": (SHAPE, LEVELS)}.get(
            kind, (None, LEVELS)
        )
        density = PixelCNNpp(SHAPE, context, levels, config).to(DTYPE)
        x = clean(16)
        density.initialize(x, x + 0.1 if context else None)
        for parameter in density.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return density.eval().requires_grad_(False)


def clean(n: int) -> Tensor:
    """Random images on the grid of values."""
    x = 2 * torch.rand(n, *SHAPE, generator=generator("clean"), dtype=DTYPE) - 1
    return snap(x, LEVELS)


def two_step(classes: int = 0, kernel: str = "gaussian") -> TwoStep:
    return TwoStep(kernels.load(kernel)(SIGMA), model("prior", classes), model("denoiser", classes))


class TestBatches:
    """Work in parts gives what work at once gives."""

    def test_rows_follow_the_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batching, "_free_ram", lambda: 2**40)
        density = model()
        assert rows_that_fit(density) == 2**30 // density.bytes_per_example()
        assert rows_that_fit(density, gradient=True) == 2**28 // density.bytes_per_example()
        monkeypatch.setattr(density, "bytes_per_example", lambda: 2**14)
        assert rows_that_fit(density) == 2**16
        monkeypatch.setattr(batching, "_free_ram", lambda: 2**14)
        assert rows_that_fit(density) == 1

    def test_evaluate(self) -> None:
        x, labels, told = torch.arange(7.0), torch.arange(7), []

        def add(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
            assert len(x) <= 3
            return x + y + labels

        found = evaluate(add, 3, x, x, labels, progress=lambda *done: told.append(done))
        assert torch.equal(found, 3 * x)
        assert told == [(3, 7), (6, 7), (7, 7)]

    def test_progress_in_parts(self) -> None:
        told = []
        whole = lambda done, total: told.append(done / total)  # noqa: E731
        for part in range(2):
            inner = part_of(part_of(whole, part, 2), 1, 2)
            assert inner is not None
            inner(1, 1)
        assert told == [0.5, 1.0]
        assert part_of(None, 0, 1) is None

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_the_batch_size_does_not_change_samples(self, size: int) -> None:
        whole, parts = (
            batching.sample(model(), 5, generator=generator(0), execution=Execution(rows))
            for rows in (5, size)
        )
        assert torch.allclose(whole, parts, atol=1e-9)

    def test_vectors_take_no_batch_size(self, trained_run: Run) -> None:
        with pytest.raises(UsageError, match="all at once"):
            draw(trained_run, "baseline", 4, execution=Execution(2))


class TestTwoStep:
    """The method on images."""

    @pytest.mark.parametrize("task", ["sample", "denoise", "inpaint"])
    def test_the_batch_size_does_not_change_the_result(self, task: str) -> None:
        method, x = two_step(), clean(5)
        known = read_mask("bottom-half", SHAPE)
        ways = {
            "sample": lambda how: method.sample(5, None, generator(1), how),
            "denoise": lambda how: method.denoise(x, None, generator(1), how),
            "inpaint": lambda how: method.inpaint(x, known, None, generator(1), how),
        }
        assert torch.allclose(ways[task](Execution(5)), ways[task](Execution(2)), atol=1e-9)

    @pytest.mark.parametrize("mask", ["bottom-half", "top-half", "centre", "right-half"])
    def test_known_pixels_are_kept_exactly(self, mask: str) -> None:
        x, known = clean(4), read_mask(mask, SHAPE)
        drawn = two_step().inpaint(x, known, generator=generator(2))
        kept = known.expand_as(x)
        assert torch.equal(drawn[kept], x[kept])
        assert not torch.equal(drawn[~kept], x[~kept])
        assert torch.allclose(snap(drawn, LEVELS), drawn)

    def test_what_is_missing_does_not_matter(self) -> None:
        x, known = clean(3), read_mask("right-half", SHAPE)
        other = x.where(known, -x)
        one, two = (two_step().inpaint(y, known, generator=generator(3)) for y in (x, other))
        assert torch.equal(one, two)

    def test_few_rows_at_a_time_give_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory decides how rows are cut, and must not change the figures."""
        method, x = two_step(), clean(6)

        def figures() -> list[Tensor]:
            with torch.no_grad():
                bound = method.bound(x, generator=generator(0)).total
            weighted = method.importance_weighted_bound(x, 3, generator=generator(1))
            return [bound, weighted, method.single_step(x)]

        whole = figures()
        monkeypatch.setattr(batching, "_free_ram", lambda: 40 * method.prior.bytes_per_example())
        assert rows_that_fit(method.prior) == 10
        assert rows_that_fit(method.prior, gradient=True) == 2
        for a, b in zip(whole, figures(), strict=True):
            assert torch.allclose(a, b, atol=1e-9)

    def test_classes_are_passed_to_both_stages(self) -> None:
        method, x = two_step(classes=3), clean(4)
        assert method.classes == 3
        assert two_step().classes is None
        zeros, ones = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
        ways = [
            lambda labels: method.bound(x, generator=generator(0), labels=labels).prior,
            lambda labels: method.bound(x, generator=generator(0), labels=labels).denoiser,
            lambda labels: method.importance_weighted_bound(
                x, 2, generator=generator(0), labels=labels
            ),
            lambda labels: method.single_step(x, labels),
            lambda labels: method.sample_smoothed(
                4, generator=generator(0), labels=labels, execution=Execution(3)
            ),
            lambda labels: method.denoise(
                x, generator=generator(0), labels=labels, execution=Execution(3)
            ),
        ]
        for way in ways:
            assert not torch.allclose(way(zeros), way(ones))
            mixed = way(torch.tensor([0, 1, 1, 0]))
            assert torch.allclose(mixed[0], way(zeros)[0], atol=1e-9)
            assert torch.allclose(mixed[1], way(ones)[1], atol=1e-9)
            with pytest.raises(UsageError, match="needs labels"):
                way(None)

    def test_single_step_is_tweedie_s_formula(self) -> None:
        method, x = two_step(), clean(2)
        expected = x + SIGMA**2 * method.prior.score_function(x)
        assert torch.allclose(method.single_step(x), expected)

    def test_a_line_integral_is_not_for_images(self) -> None:
        with pytest.raises(NotAvailable, match="evaluations a pixel"):
            two_step(kernel="laplace").single_step(clean(1))

    def test_bits_per_dimension(self) -> None:
        method, x = two_step(), clean(8)
        estimates, tighter = bounds("m", method, x, 2, seed=0)
        unit = 30 * math.log(2)
        assert estimates[-1].bits_per_dim == pytest.approx(-tighter.mean().item() / unit)
        for e in [*estimates, plain_likelihood("b", model("baseline"), x)]:
            assert e.bits_per_dim == pytest.approx(e.nats / unit)
            assert e.bits_per_dim_error == pytest.approx(e.standard_error / unit)
        assert plain_likelihood("p", model("prior"), x).bits_per_dim is None

    def test_unsmoothed_single_steps(self) -> None:
        density, x = model("baseline"), clean(3)
        moved = unsmoothed_single_steps(density, x, [0.0, 0.1, 0.2])
        assert torch.allclose(moved[0.2] - x, 4 * (moved[0.1] - x))
        assert torch.equal(moved[0.0], x)
        leaf = x.clone().requires_grad_()
        density.log_prob(leaf).sum().backward()
        assert torch.allclose(moved[0.1], x + 0.01 * leaf.grad)
        with pytest.raises(UsageError, match="not negative"):
            unsmoothed_single_steps(density, x, [-1.0])


class TestRuns:
    """The tasks of a run."""

    def test_methods_share_x_smooth_and_seeds_reproduce(self, digits_run: Run) -> None:
        names = ["smoothed", "single-step", "two-step", "baseline"]
        together = draw_all(digits_run, names, 3, seed=5, execution=Execution(2))
        assert list(together) == names
        for name in names:
            alone = draw(digits_run, name, 3, seed=5)
            assert torch.allclose(alone.samples, together[name].samples, atol=1e-5)
            if alone.smoothed is not None:
                assert torch.allclose(alone.smoothed, together["smoothed"].samples, atol=1e-5)

    def test_classes_in_turn_or_one(self, class_run: Run) -> None:
        assert draw(class_run, "baseline", 12).labels.tolist() == [*range(10), 0, 1]
        assert draw(class_run, "baseline", 2, label=7).labels.tolist() == [7, 7]

    def test_more_draws_leave_the_first_alone(self, digits_run: Run) -> None:
        x = digits_run.dataset().test.head(3)
        noisy = smooth(digits_run, x, seed=1)
        few, more = (denoise(digits_run, noisy, draws, seed=2) for draws in (1, 3))
        assert more.samples.shape == (3, 3, 1, 8, 8)
        assert torch.allclose(few.samples[:, 0], more.samples[:, 0], atol=1e-5)
        assert torch.equal(few.single_step, more.single_step)

    def test_inpainting(self, digits_run: Run) -> None:
        x, known = digits_run.dataset().test.head(3), read_mask("bottom-half", (1, 8, 8))
        for method in ("two-step", "single-step", "baseline"):
            found = inpaint(digits_run, x, known, 2, method, execution=Execution(4))
            assert torch.equal(found.images, x)
            kept = known.expand_as(x)
            for k in range(2):
                assert torch.equal(found.samples[:, k][kept], x[kept])
            again = inpaint(digits_run, x, known, 2, method)
            assert torch.allclose(found.samples, again.samples, atol=1e-5)
        with pytest.raises(UsageError, match="cannot inpaint"):
            inpaint(digits_run, x, known, 2, "smoothed")

    def test_candidates(self, digits_run: Run) -> None:
        x, known = digits_run.dataset().test.head(3), read_mask("right-half", (1, 8, 8))
        said: list[str] = []
        told = Execution(note=said.append)
        usual = inpaint(digits_run, x, known, 2, execution=told).samples
        assert said[0].startswith("Each draw was chosen among 8 candidates, of which ")
        assert said[0].endswith("more `candidates` may fit better to what is known.")
        assert torch.equal(usual, inpaint(digits_run, x, known, 2, candidates=8).samples)
        for method in ("two-step", "baseline"):
            one, many = (
                inpaint(digits_run, x, known, 9, method, candidates=k).samples for k in (1, 16)
            )
            assert not torch.equal(one, many)
            assert torch.equal(many[:, 0][known.expand_as(x)], x[known.expand_as(x)])
        single = inpaint(digits_run, x, known, 1, "single-step").samples
        one = inpaint(digits_run, x, known, 1, "single-step", candidates=1).samples
        assert torch.equal(single, one)
        with pytest.raises(NotAvailable, match="ask for one candidate"):
            inpaint(digits_run, x, known, 1, "single-step", candidates=2)
        with pytest.raises(UsageError, match="at least 1, not 0"):
            inpaint(digits_run, x, known, candidates=0)

    def test_scores(self, class_run: Run) -> None:
        scores = score_run(class_run, effort_for(class_run, limit=6, draws=2, samples=4))
        exact = next(e for e in scores.likelihood if e.model == "baseline")
        assert exact.bits_per_dim == pytest.approx(exact.nats / (64 * math.log(2)))
        assert (scores.draws, exact.examples) == ([2], 6)
        assert [s.method for s in scores.samples][1:] == ["two-step", "single-step", "baseline"]
        assert all(s.off_support is None for s in scores.samples)

    def test_missing_stages(self, digits_run: Run, tmp_path: Path) -> None:
        alone = Run(tmp_path)
        shutil.copytree(digits_run.path / "baseline", tmp_path / "baseline")
        x, known = digits_run.dataset().test.head(1), read_mask("centre", (1, 8, 8))
        with pytest.raises(RunError, match="fit-prior"):
            denoise(alone, x)
        with pytest.raises(RunError, match="fit-prior"):
            inpaint(alone, x, known, method="two-step")
        assert inpaint(alone, x, known, 1, "baseline").samples.shape == (1, 1, 1, 8, 8)


@pytest.fixture
def cli(cli: CommandLine) -> Callable[..., tuple[int, str, str]]:
    """The command line, on the CPU."""
    return lambda *words: cli(*words, "--device", "cpu")


class TestCommands:
    """As a person types it."""

    def test_sample(self, cli, digits_run: Run) -> None:
        code, out, err = cli("sample", digits_run.path, "-n", 3, "--batch-size", 2)
        assert code == 0, err
        npz, png = map(Path, out.split())
        with np.load(npz) as arrays:
            assert arrays["samples"].shape == arrays["smoothed"].shape == (3, 1, 8, 8)
            assert arrays["samples"].dtype == np.float32
        with Image.open(png) as picture:
            assert picture.mode == "L"

    def test_all_methods_in_one_picture(self, cli, digits_run: Run) -> None:
        code, out, err = cli(
            "sample", digits_run.path, "-n", 2, "--method", "all", "--out", "a.npz"
        )
        assert code == 0, err
        assert out.split() == ["a.npz", "a.png"]
        with np.load("a.npz") as arrays:
            assert set(arrays) == {"smoothed", "single_step", "two_step", "baseline"}

    def test_a_folder_and_a_picture_alone(self, cli, digits_run: Run) -> None:
        assert cli("sample", digits_run.path, "-n", 3, "--out", "many")[1].split() == ["many"]
        assert len(list(Path("many").glob("*.png"))) == 3
        message = cli("sample", digits_run.path, "-n", 3, "--out", "many")
        assert message[0] == 1
        assert "there already" in message[2]
        assert cli("sample", digits_run.path, "-n", 2, "--out", "many", "--overwrite")[0] == 0
        assert len(list(Path("many").glob("*.png"))) == 2
        assert cli("sample", digits_run.path, "-n", 2, "--out", "one.png")[1].split() == ["one.png"]
        assert not Path("one.npz").exists()

    def test_unsmoothed_sigmas(self, cli, digits_run: Run) -> None:
        arguments = ["--method", "baseline", "--unsmoothed-sigmas", "0.1,0.3", "--out", "a.npz"]
        code, _, err = cli("sample", digits_run.path, "-n", 2, *arguments)
        assert code == 0, err
        with np.load("a.npz") as arrays:
            assert {"samples", "sigma_0.1", "sigma_0.3"} == set(arrays)
        assert Path("a.png").is_file()

    def test_denoise(self, cli, digits_run: Run) -> None:
        result = json.loads(
            cli("denoise", "test", digits_run.path, "-n", 3, "--draws", 2, "--json")[1]
        )
        assert result["noise_added"]
        assert Path(result["picture"]).is_file()
        with np.load(result["samples"]) as arrays:
            assert arrays["samples"].shape == (3, 2, 1, 8, 8)
            assert arrays["smoothed"].shape == arrays["single_step"].shape == (3, 1, 8, 8)
            noisy = arrays["smoothed"]
        np.savez("noisy.npz", smoothed=noisy)
        again = json.loads(cli("denoise", "noisy.npz", digits_run.path, "--draws", 2, "--json")[1])
        assert (again["noise_added"], again["n"]) == (False, 3)
        with np.load(again["samples"]) as one, np.load(result["samples"]) as two:
            assert (one["samples"] == two["samples"]).all()

    def test_examples_are_chosen_by_the_seed(self, cli, digits_run: Run) -> None:
        """Not the first, which of sorted folders are all of one class."""
        chosen = {}
        for seed in (0, 0, 1):
            words = ["inpaint", "test", digits_run.path, "-n", 3, "--draws", 1, "--mask", "center"]
            assert cli(*words, "--seed", seed, "--out", "c.npz", "--overwrite")[0] == 0
            images = np.load("c.npz")["images"]
            assert np.array_equal(chosen.setdefault(seed, images), images)
        assert not np.array_equal(chosen[0], chosen[1])

    def test_candidates_are_chosen_and_told(self, cli, digits_run: Run) -> None:
        words = ["inpaint", "test", digits_run.path, "-n", 2, "--draws", 1, "--json"]
        for chosen, said in (([], 8), (["--candidates", 3], 3), (["--method", "single-step"], 1)):
            code, out, err = cli(*words, *chosen)
            assert (code, json.loads(out)["candidates"]) == (0, said), err
            assert ("candidates" in json.loads(out)["samples"]) == ("--candidates" in chosen)
            with np.load(json.loads(out)["samples"]) as arrays:
                assert set(arrays) == {"images", "known", "samples"}
        code, _, err = cli(*words, "--candidates", 3, "--method", "single-step")
        assert code == 1
        assert "ask for one candidate" in err

    def test_denoise_vectors(self, cli, trained_run: Run) -> None:
        np.save("v.npy", np.ones((5, 2)))
        code, out, err = cli("denoise", "v.npy", trained_run.path, "--out", "d.npz")
        assert (code, out) == (0, "d.npz\n"), err
        with np.load("d.npz") as arrays:
            assert arrays["samples"].shape == (5, 4, 2)

    def test_inpaint(self, cli, digits_run: Run) -> None:
        cli("sample", digits_run.path, "-n", 2, "--out", "many")
        mask = np.zeros((8, 8), np.uint8)
        mask[:, :3] = 255
        Image.fromarray(mask).save("mask.png")
        code, out, err = cli("inpaint", "many", digits_run.path, "--mask", "mask.png", "--draws", 2)
        assert code == 0, err
        given = snap(read_events(Path("many"), (1, 8, 8)), 17).numpy()
        with np.load(out.split()[0]) as arrays:
            assert arrays["samples"].shape == (2, 2, 1, 8, 8)
            assert (arrays["samples"][..., :3] == given[:, None, :, :, :3]).all()
            assert (arrays["known"][0, 0] == (mask > 0)).all()

    @pytest.mark.parametrize(("mask", "missing"), [([], 1), (["--mask", "0"], 0)])
    def test_inpaint_vectors(self, cli, trained_run: Run, mask: list[str], missing: int) -> None:
        np.save("v.npy", np.full((5, 2), 0.3))
        arguments = ["v.npy", trained_run.path, *mask, "--draws", 3, "--out", "i.npz"]
        code, out, err = cli("inpaint", *arguments)
        assert (code, out) == (0, "i.npz\n"), err
        with np.load("i.npz") as arrays:
            assert arrays["samples"].shape == (5, 3, 2)
            assert (arrays["samples"][..., 1 - missing] == np.float32(0.3)).all()
            assert np.unique(arrays["samples"][..., missing]).size == 15
            assert arrays["known"].tolist() == [[missing != 0, missing != 1]]

    def test_classes(self, cli, class_run: Run) -> None:
        code, _, err = cli("sample", class_run.path, "-n", 2, "--label", 3, "--out", "a.npz")
        assert code == 0, err
        with np.load("a.npz") as arrays:
            assert arrays["labels"].tolist() == [3, 3]
        assert cli("denoise", "test", class_run.path, "-n", 2, "--draws", 1)[0] == 0
        cli("sample", class_run.path, "-n", 1, "--out", "one")
        file = "one/00000.png"
        code, _, err = cli("inpaint", file, class_run.path, "--draws", 1)
        assert (code, "--label" in err) == (2, True)
        assert cli("inpaint", file, class_run.path, "--draws", 1, "--label", 2)[0] == 0

    def test_score(self, cli, digits_run: Run) -> None:
        few = ["--limit", 4, "--draws", 2, "--samples", 3]
        code, out, err = cli("score", digits_run.path, *few)
        assert code == 0, err
        assert "bits/dim" in out
        assert "off the support" not in out
        scores = json.loads(cli("score", digits_run.path, *few, "--json")[1])
        assert all(e["bits_per_dim"] and e["nats"] for e in scores["likelihood"])

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["sample", "RUN", "--label", 3], 2, "without classes"),
            (["sample", "CLASSES", "--label", 10], 2, "no class 10"),
            (["sample", "RUN", "--out", "a.jpg"], 2, ".npz, .png, or a folder"),
            (["sample", "RUN", "--method", "all", "--out", "a"], 2, "a.npz"),
            (["sample", "RUN", "--unsmoothed-sigmas", "0.1"], 2, "--method baseline"),
            (["sample", "RUN", "--method", "baseline", "--unsmoothed-sigmas", "a"], 2, "numbers"),
            (["denoise", "missing.png", "RUN"], 1, "no file or folder missing.png"),
            (["denoise", "big.png", "RUN"], 1, "big.png is 9×9"),
            (["denoise", "big.png", "RUN", "--out", "a"], 2, ".npz, .png, not as 'a'"),
            (["inpaint", "test", "RUN", "--mask", "middle"], 2, "neither a file nor a name"),
            (["inpaint", "test", "RUN", "--mask", "big.png"], 1, "big.png is 9×9"),
            (["inpaint", "test", "RUN", "--method", "smoothed"], 2, "cannot inpaint"),
            (["inpaint", "test", "VECTORS", "--mask", "centre"], 2, "last-half, or the numbers"),
            (["inpaint", "test", "VECTORS", "--mask", "2"], 2, "from 0 to 1"),
            (["inpaint", "test", "VECTORS", "--out", "a.png"], 2, "written as .npz, not"),
            (["sample", "RUN", "--set", "steps=3"], 2, "have no sampler setting 'steps'"),
            (["inpaint", "test", "RUN", "--set", "steps"], 2, "--set takes KEY=VALUE"),
            (["sample", "VECTORS", "--out", "a.png"], 2, "written as .npz, not"),
            (["sample", "VECTORS", "--batch-size", 2], 2, "all at once"),
        ],
    )
    def test_errors(
        self,
        cli,
        digits_run: Run,
        class_run: Run,
        trained_run: Run,
        arguments,
        code: int,
        message: str,
    ) -> None:
        Image.new("L", (9, 9)).save("big.png")
        runs = {
            "RUN": digits_run.path,
            "CLASSES": class_run.path,
            "VECTORS": trained_run.path,
        }
        got, _, err = cli(*[runs.get(a, a) for a in arguments])
        errors = [line for line in err.splitlines() if line.startswith("Error: ")]
        assert (got, len(errors)) == (code, 1), err
        assert message in errors[0]
