"""Nearest neighbours: exact, in blocks; memorisation figures; the picture; the verb."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from smoothctl.cli import neighbours as verb
from smoothctl.datasets.pictures import write_png
from smoothctl.errors import DataError, NotAvailable, RunError, UsageError
from smoothctl.metrics import neighbours
from smoothctl.metrics.features import Extracted, Pixels, Request
from smoothctl.metrics.image_sets import ImageSet, of_view, open_images
from smoothctl.metrics.neighbours import gather, memorisation, nearest, search
from smoothctl.reporting.figures import neighbour_rows
from smoothctl.rng import generator
from smoothctl.runs.run import Run, load_run

SHAPE = (1, 4, 5)


def of(pixels: Tensor, name: str = "some") -> ImageSet:
    return ImageSet(name, tuple(pixels.shape[1:]), len(pixels), lambda a, b: pixels[a:b])


def random(n: int, key: str, shape: tuple[int, ...] = SHAPE, levels: int = 256) -> ImageSet:
    draws = torch.rand(n, *shape, generator=generator(key))
    return of((draws * levels).floor().mul_(255 // (levels - 1)).to(torch.uint8), key)


def squares(x: ImageSet, y: ImageSet) -> np.ndarray:
    """Squared distances of bytes in integers, (n, m)."""
    a, b = (each.read(0, len(each)).flatten(1).numpy().astype(np.int64) for each in (x, y))
    return ((a[:, None] - b) ** 2).sum(2)


class TestNearest:
    """All that is asked of a search."""

    @pytest.mark.parametrize("shape", [SHAPE, (3, 20, 21)])
    @pytest.mark.parametrize("levels", [2, 256])
    def test_equals_brute_force_and_ties_go_to_the_first(self, shape, levels: int) -> None:
        x, y = random(23, "x", shape, levels), random(150, "y", shape, levels)
        found, expected = nearest(x, y, 7), squares(x, y)
        order = expected.argsort(axis=1, kind="stable")[:, :7]
        assert np.array_equal(found.indices.numpy(), order)
        distances = np.sqrt(np.take_along_axis(expected, order, 1)) / 127.5
        np.testing.assert_allclose(found.distances.numpy(), distances, rtol=1e-14)

    def test_blocks_do_not_change_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x, y = random(23, "x", levels=2), random(150, "y", levels=2)
        expected = nearest(x, y, 9)
        sizes: list[int] = []

        def read(start: int, stop: int) -> Tensor:
            sizes.append(stop - start)
            return y.read(start, stop)

        for name, size in {"_ROWS": 7, "_QUERIES": 5, "_COMPARED": 3}.items():
            monkeypatch.setattr(neighbours, name, size)
        told: list[tuple[int, int]] = []
        spied = ImageSet("y", SHAPE, 150, read)
        found = nearest(x, spied, 9, progress=lambda *at: told.append(at))
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.distances, expected.distances)
        assert max(sizes) == 7
        assert told == sorted(told)
        assert told[-1][0] == told[-1][1]

    def test_copies_are_at_distance_zero_and_near_ones_at_the_true_distance(self) -> None:
        y = random(50, "y", (1, 28, 28))
        copies = y.read(10, 13).clone()
        copies[1, 0, 3, 4] ^= 1
        found = nearest(of(copies), y, 1)
        assert found.indices.flatten().tolist() == [10, 11, 12]
        assert found.distances.flatten().tolist() == [0.0, 1 / 127.5, 0.0]

    @pytest.mark.parametrize("side", [28, 32, 33, 64])
    def test_the_largest_distances_are_exact(self, side: int) -> None:
        black = torch.zeros(2, 1, side, side, dtype=torch.uint8)
        found = nearest(of(black), of(255 - black), 2)
        assert found.distances.flatten().tolist() == pytest.approx([2.0 * side] * 4, rel=1e-15)
        assert nearest(of(black), of(black), 1).distances.max() == 0

    @pytest.mark.parametrize("k", [0, 51])
    def test_a_number_of_neighbours_that_there_are_not(self, k: int) -> None:
        with pytest.raises(UsageError, match="y has 50 images: neighbours are 1 to 50"):
            nearest(random(3, "x"), random(50, "y"), k)

    def test_images_of_two_shapes(self) -> None:
        with pytest.raises(DataError, match="1×4×5 and y of 1×5×5"):
            nearest(random(3, "x"), random(5, "y", (1, 5, 5)), 1)


class TestFeatures:
    """The same by features."""

    @staticmethod
    def extract(scale: float = 1.0, offset: float = 0.0) -> Callable[[Tensor], Extracted]:
        weight = torch.randn(20, 6, generator=generator("weight"), dtype=torch.float64)

        def call(images: Tensor) -> Extracted:
            return Extracted(torch.sin(images.flatten(1).double() @ weight / 500) * scale + offset)

        return call

    def test_equals_brute_force(self) -> None:
        x, y, extract = random(23, "x"), random(150, "y"), self.extract()
        features = [extract(z.read(0, len(z))).features for z in (x, y)]
        expected = torch.cdist(*features, compute_mode="donot_use_mm_for_euclid_dist").sort(1)
        found = nearest(x, y, 7, extract)
        assert torch.equal(found.indices, expected.indices[:, :7])
        torch.testing.assert_close(found.distances, expected.values[:, :7], rtol=1e-6, atol=0)

    def test_far_from_the_origin(self) -> None:
        x, y, extract = random(23, "x"), random(150, "y"), self.extract(1e-4, 1e3)
        features = [extract(z.read(0, len(z))).features for z in (x, y)]
        expected = torch.cdist(*features, compute_mode="donot_use_mm_for_euclid_dist").sort(1)
        found = nearest(x, y, 3, extract)
        torch.testing.assert_close(found.distances, expected.values[:, :3], rtol=1e-6, atol=0)
        copies = nearest(of(y.read(5, 8)), y, 1, extract)
        assert copies.indices.flatten().tolist() == [5, 6, 7]
        assert copies.distances.max() == 0

    def test_the_pixels_extractor_is_the_exact_way(self) -> None:
        x, y = random(9, "x"), random(60, "y")
        by_name, plain = nearest(x, y, 4, Pixels(Request(y))), nearest(x, y, 4)
        assert torch.equal(by_name.indices, plain.indices)
        assert torch.equal(by_name.distances, plain.distances)

    def test_features_that_are_not_finite(self) -> None:
        with pytest.raises(DataError, match="features of 3 of 3 images are not finite"):
            nearest(random(3, "x"), random(9, "y"), 1, self.extract(offset=math.nan))


class TestMemorisation:
    """Whether samples lie nearer to the training images than test images do."""

    def test_equals_the_definitions(self) -> None:
        samples, train, test = (
            random(n, key, (1, 2, 2), 3) for n, key in ((9, "s"), (40, "t"), (13, "u"))
        )
        near = [np.sqrt(squares(x, train).min(1)) for x in (samples, test)]
        wins = (near[0][:, None] < near[1]) + 0.5 * (near[0][:, None] == near[1])
        found = memorisation(samples, train, test)
        assert 0 < wins.mean() < 1
        assert found.nearer_than_test == pytest.approx(wins.mean(), rel=1e-12)
        variance = wins.mean(1).var(ddof=1) / 9 + wins.mean(0).var(ddof=1) / 13
        assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-12)
        copies = ((near[0][:, None] < near[1]).mean(1) >= 0.99).mean()
        assert found.copies == pytest.approx(copies)
        assert found.exact_copies == (near[0] == 0).sum()
        assert (found.samples, found.tests) == (9, 13)

    def test_fresh_data_copies_and_noise(self) -> None:
        train, test, fresh = (
            random(n, key, (1, 3, 2)) for n, key in ((300, "t"), (400, "u"), (300, "f"))
        )
        found = memorisation(fresh, train, test)
        assert abs(found.nearer_than_test - 0.5) < 3 * found.standard_error
        assert 0.01 < found.standard_error < 0.04
        assert found.copies < 0.05
        half = of(torch.cat([train.read(0, 150), fresh.read(0, 150)]))
        copied = memorisation(half, train, test)
        assert copied.exact_copies == 150
        assert 0.5 <= copied.copies < 0.55
        assert abs(copied.nearer_than_test - 0.75) < 0.05
        black = of(torch.zeros(10, 1, 3, 2, dtype=torch.uint8))
        assert memorisation(black, train, test).nearer_than_test < 0.05

    def test_exact_copies_are_those_of_pixels_whatever_the_features(self) -> None:
        train = random(30, "t")
        same = lambda images: Extracted(torch.ones(len(images), 2))  # noqa: E731
        found = memorisation(random(8, "s"), train, random(9, "u"), same)
        assert (found.nearer_than_test, found.standard_error) == (0.5, 0)
        assert found.exact_copies == 0

    def test_neighbours_are_of_the_samples_alone(self) -> None:
        samples, train, test = (random(n, key) for n, key in ((9, "s"), (40, "t"), (13, "u")))
        found, judged = search(samples, train, test, 3)
        alone, none = search(samples, train, None, 3)
        assert torch.equal(found.indices, alone.indices)
        assert torch.equal(found.distances, alone.distances)
        assert judged == memorisation(samples, train, test)
        assert none is None

    def test_too_few(self) -> None:
        with pytest.raises(DataError, match="not 1 and 9"):
            memorisation(random(1, "s"), random(30, "t"), random(9, "u"))


class TestPicture:
    """Samples left of a red line, their neighbours right of it."""

    @pytest.mark.parametrize("channels", [1, 3])
    def test_shows_every_pixel(self, channels: int) -> None:
        samples = random(2, "s", (channels, 16, 8)).read(0, 2)
        near = random(6, "n", (channels, 16, 8)).read(0, 6).view(2, 3, channels, 16, 8)
        picture = neighbour_rows(samples, near)
        factor, gap = 64 // 16, 2
        assert picture.dtype == np.uint8
        assert picture.shape == (3, 2 * 64 + gap, 4 * 32 + 2 * gap + 3 * gap)
        large = lambda x: np.kron(x.expand(3, -1, -1).numpy(), np.ones((1, factor, factor)))  # noqa: E731
        left = 32 + 3 * gap
        assert np.array_equal(picture[:, 66:, :32], large(samples[1]))
        assert np.array_equal(picture[:, :64, left : left + 32], large(near[0, 0]))
        assert np.array_equal(picture[:, 66:, left + 68 :], large(near[1, 2]))
        red = (picture == np.array([255, 0, 0])[:, None, None]).all(0).all(0)
        assert red.nonzero()[0].tolist() == [34, 35]


@pytest.fixture(scope="module")
def digits_prior(digits_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The prior alone."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    shutil.copytree(digits_run.path / "prior", folder / "prior")
    return load_run(folder)


@pytest.fixture
def run_verb(in_tmp: Path) -> Callable[..., tuple[str, str]]:
    """Returns a function that runs the verb: (stdout, stderr), or what it raises."""
    app = typer.Typer()
    app.command()(verb.command)

    def run(*arguments: Any) -> tuple[str, str]:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout, done.stderr

    return run


def saved(path: Path, images: ImageSet) -> Path:
    np.savez(path, samples=images.read(0, len(images)).float().numpy() / 127.5 - 1)
    return path


class TestVerb:
    """`smoothctl neighbours`."""

    def test_of_a_run(self, run_verb, digits_prior: Run) -> None:
        out, _ = run_verb(digits_prior.path, "-n", 4, "-k", 3)
        file = digits_prior.path / "samples" / "neighbours-single-step-seed0.npz"
        assert out.splitlines()[-2:] == [str(file), str(file.with_suffix(".png"))]
        assert "Nearest of the 1296 images of digits (train)" in out
        assert "4 samples beside 357 test images" in out
        with np.load(file) as arrays:
            assert arrays["indices"].shape == arrays["distances"].shape == (4, 3)
            assert arrays["samples"].shape == (4, 1, 8, 8)
            samples = of(torch.from_numpy(arrays["samples"]))
            dataset = digits_prior.dataset()
            train = of_view("train", dataset, dataset.train)
            assert np.array_equal(nearest(samples, train, 3).indices.numpy(), arrays["indices"])
        with Image.open(file.with_suffix(".png")) as picture:
            assert picture.size == (4 * 64 + 2 * 2 + 6, 4 * 64 + 3 * 2)

    def test_of_samples_as_json(self, run_verb, in_tmp: Path) -> None:
        train = open_images("digits")
        saved(in_tmp / "s.npz", train.head(5))
        out, _ = run_verb("s.npz", "--reference", "digits", "--json", "-k", 2)
        found = json.loads(out)
        assert found["nearest"] == [0, 1, 2, 3, 4]
        assert found["distances"] == [0.0] * 5
        assert found["memorisation"]["exact_copies"] == 5
        assert found["memorisation"]["nearer_than_test"] == 1
        assert (found["features"], found["features_sha256"]) == ("pixels", "pixels-1")
        assert found["neighbours"] == str(in_tmp / "s-neighbours.npz")
        with Image.open(in_tmp / "s-neighbours.png") as picture:
            pixels = np.asarray(picture)
        tile = train.read(0, 1)[0, 0].numpy().repeat(8, 0).repeat(8, 1)
        assert np.array_equal(pixels[:64, :64, 1], tile)
        assert np.array_equal(pixels[:64, 70:134, 1], tile)

    def test_between_folders_there_are_no_test_images(self, run_verb, in_tmp: Path) -> None:
        for i, image in enumerate(random(6, "x").read(0, 6)):
            write_png(in_tmp / "mine" / f"{i}.png", image.numpy())
        saved(in_tmp / "s.npz", random(3, "y"))
        for reference in ("mine", "s.npz"):
            out, notes = run_verb("mine", "--reference", reference, "-k", 2)
            assert "Says nothing of memorisation" in notes
            assert "Memorisation" not in out
            assert str(in_tmp / "mine-neighbours.npz") in out
        out, _ = run_verb("s.npz:samples", "--reference", "mine", "-k", 2, "-n", 2, "-q", "--json")
        assert json.loads(out)["n"] == 2
        assert (in_tmp / "s-samples-neighbours.npz").is_file()

    def test_images_are_called_by_their_files(self, run_verb, in_tmp: Path) -> None:
        for i, image in enumerate(random(8, "x").read(0, 8)):
            write_png(in_tmp / "all" / f"{'ab'[i % 2]}" / f"{i} ö.png", image.numpy())
        (in_tmp / "all" / "a" / "0 ö.png").write_bytes(b"broken")
        shutil.copytree(in_tmp / "all" / "b", in_tmp / "some")
        usual = ("some", "--reference", "all", "-k", 2, "--skip-corrupt")
        out, _ = run_verb(*usual)
        assert all(f"{i} ö.png" in out and f"b/{i} ö.png" in out for i in (1, 3, 5, 7))
        found = json.loads(run_verb(*usual, "--json", "--overwrite")[0])
        assert found["sample_files"] == [f"{i} ö.png" for i in (1, 3, 5, 7)]
        assert found["nearest_files"] == [f"b/{i} ö.png" for i in (1, 3, 5, 7)]
        out, _ = run_verb("digits", "--reference", "digits", "-n", 2, "-k", 1, "--json")
        assert json.loads(out)["nearest_files"] is None

    def test_what_is_there_is_not_overwritten_unasked(self, run_verb, in_tmp: Path) -> None:
        saved(in_tmp / "s.npz", random(3, "y"))
        usual = ("s.npz", "--reference", "s.npz", "-k", 2, "--out")
        run_verb(*usual, "a.png")
        assert sorted(path.name for path in in_tmp.iterdir()) == ["a.png", "s.npz"]
        with pytest.raises(RunError, match="is there already"):
            run_verb(*usual, "a.npz")
        run_verb(*usual, "a.npz", "--overwrite")
        assert (in_tmp / "a.npz").is_file()
        with pytest.raises(UsageError, match=r"written as \.npz, \.png"):
            run_verb(*usual, "a.txt")

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            (["s.npz"], UsageError, "no run folder: name the images .* --reference"),
            (["s.npz", "--reference", "s.npz", "--method", "baseline"], UsageError, "--method"),
            (["s.npz", "--reference", "s.npz", "--label", "1"], UsageError, "--label"),
            (["s.npz", "--reference", "s.npz"], UsageError, "has 3 images: neighbours are 1 to 3"),
            (["s.npz", "--reference", "digits"], DataError, "1×4×5 and digits"),
            (["s.npz", "--reference", "s.npz", "--features", "pixel"], UsageError, "pixels"),
            (["nothing.npz", "--reference", "s.npz"], DataError, "nothing.npz"),
        ],
    )
    def test_errors(self, run_verb, in_tmp: Path, arguments, error, said: str) -> None:
        saved(in_tmp / "s.npz", random(3, "y"))
        with pytest.raises(error, match=said):
            run_verb(*arguments)

    def test_runs_of_vectors(self, run_verb, trained_run: Run) -> None:
        with pytest.raises(NotAvailable, match="models vectors"):
            run_verb(trained_run.path)


def test_gather_keeps_the_shape_of_the_indices() -> None:
    y = random(50, "y")
    indices = torch.tensor([[3, 1], [49, 3]])
    assert torch.equal(gather(y, indices), y.read(0, 50)[indices])
