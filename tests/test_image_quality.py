"""Sample quality end to end: extraction in blocks, its cache, and figures of sets of images."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from smoothctl.datasets import open_dataset
from smoothctl.errors import DataError, NotAvailable, UsageError
from smoothctl.evaluation import image_quality
from smoothctl.evaluation.image_quality import Extractor, ImageComparison, score_images
from smoothctl.metrics import extraction
from smoothctl.metrics.extraction import cached, extract
from smoothctl.metrics.features import Extracted, Features, Pixels, Request
from smoothctl.metrics.frechet import frechet_distance
from smoothctl.metrics.image_sets import ImageSet, of_tensor, of_view, open_images
from smoothctl.metrics.kernel_distance import kernel_distance
from smoothctl.rng import generator
from smoothctl.storage.cache import cache_folder


def noise(n: int, name: str = "x", scale: float = 0.3) -> ImageSet:
    values = scale * torch.randn(n, 1, 4, 4, generator=generator(0, name))
    return of_tensor(name, values)


class Counted(Pixels):
    """Pixels with class probabilities, which count the images that they see."""

    batch = 7

    def __init__(self, request: Request, version: str = "1") -> None:
        super().__init__(request)
        self.seen = 0
        self.version = version

    @property
    def sha256(self) -> str:
        return f"counted-{self.version}"

    def __call__(self, images: Tensor) -> Extracted:
        self.seen += len(images)
        features = super().__call__(images).features
        return Extracted(features, features[:, :3].softmax(1))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class TestExtraction:
    """In blocks, as if it were all at once; kept by content and extractor."""

    def test_blocks_do_not_matter(self) -> None:
        images = noise(40)
        found = extract(images, Counted(Request(images)))
        features, probabilities = Counted(Request(images))(images.read(0, 40))
        assert torch.equal(found.features, features)
        assert torch.allclose(found.moments.mean, features.double().mean(0))
        assert torch.allclose(found.moments.covariance, features.double().T.cov())
        splits = [probabilities[4 * i : 4 * i + 4].double() for i in range(10)]
        scores = [(p * (p / p.mean(0)).log()).sum(1).mean().exp().item() for p in splits]
        assert found.score.value == pytest.approx(sum(scores) / 10)

    def test_a_random_part_is_kept_of_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extraction, "MOST_KEPT", 15)
        values = torch.linspace(-1, 1, 200).view(200, 1, 1, 1)
        found = extract(of_tensor("x", values), Counted(Request(noise(2)), "k"))
        kept = found.features[:, 0]
        assert (len(kept), found.moments.count) == (15, 200)
        assert kept.max() > 0.5 > -0.5 > kept.min()
        assert torch.equal(kept, kept.sort().values)

    def test_kept_by_content_and_extractor(self, own_cache: Path) -> None:
        images = noise(20)
        extractor = Counted(Request(images))
        first = cached(images, extractor)
        second = cached(noise(20), extractor)
        assert extractor.seen == 20
        assert torch.equal(first.features, second.features)
        assert torch.equal(first.moments.covariance, second.moments.covariance)
        assert first.score == second.score
        cached(noise(20, "other"), extractor)
        assert extractor.seen == 40
        newer = Counted(Request(images), "2")
        cached(images, newer)
        assert newer.seen == 20
        assert all(file.is_relative_to(own_cache) for file in cache_folder().rglob("*"))

    @pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 100])
    def test_damaged_statistics_are_made_anew(self, own_cache: Path, damage: bytes) -> None:
        images, notes = noise(20), []
        extractor = Counted(Request(images))
        first = cached(images, extractor)
        (file,) = own_cache.rglob("*.safetensors")
        whole = file.read_bytes()
        file.write_bytes(damage or whole[: len(whole) // 2])
        again = cached(images, extractor, note=notes.append)
        assert extractor.seen == 40
        assert torch.equal(first.features, again.features)
        assert file.read_bytes() == whole

    def test_a_cache_that_cannot_be_written_is_only_a_note(
        self, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own_cache.write_text("a file where the folder should be")
        images, notes = noise(20), []
        assert len(cached(images, Pixels(Request(images)), note=notes.append).features) == 20
        assert "without keeping" in notes[0]
        assert str(own_cache) in notes[0]


class TestFigures:
    """What the metrics say of sets whose relation is known."""

    def test_they_are_the_metrics_of_the_features(self) -> None:
        reference, images = noise(60, "r"), noise(50, "s")
        quality = score_images(
            {"s": images}, ImageComparison("pixels").extractor(reference, "cpu", print)
        )
        (row,) = quality.rows
        by = Pixels(Request(reference))
        x, y = (by(each.read(0, len(each))).features for each in (images, reference))
        assert row.frechet_distance == pytest.approx(frechet_distance(x, y), rel=1e-9)
        assert row.kernel_distance == kernel_distance(x, y, seed=0).value
        assert (row.count, quality.reference_count, quality.width) == (50, 60, 16)
        assert (row.sha256, quality.reference_sha256) == (images.sha256, reference.sha256)
        assert (row.inception_score, row.nearer_than_test) == (None, None)
        assert set(quality.not_available) == {"inception score", "memorisation"}
        json.dumps(asdict(quality))

    def test_of_test_images_of_noise_and_of_copies(self) -> None:
        digits = open_dataset("digits")
        train, test = (of_view(n, digits, getattr(digits, n)) for n in ("train", "test"))
        sets = {
            "test": test.pick(300),
            "noise": of_tensor("noise", torch.rand(300, 1, 8, 8, generator=generator(0)) * 2 - 1),
            "copies": train.pick(300),
            "one class": of_tensor("ones", digits.train.head()[digits.train.head_labels() == 1]),
        }
        quality = score_images(
            sets, ImageComparison("classifier").extractor(train, "cpu", print), test
        )
        rows = {row.samples: row for row in quality.rows}
        good = rows["test"]
        for bad in (rows["noise"], rows["one class"]):
            assert bad.frechet_distance > 5 * good.frechet_distance
            assert bad.kernel_distance > 5 * abs(good.kernel_distance)
            assert bad.inception_score < good.inception_score - 2
            assert bad.coverage < 0.3 < 0.8 < good.coverage
        assert rows["noise"].precision < 0.2 < 0.8 < rows["one class"].precision
        assert good.nearer_than_test == pytest.approx(0.5, abs=0.1)
        assert (rows["copies"].nearer_than_test, rows["copies"].copies) == (1, 1)
        assert rows["noise"].nearer_than_test < 0.01

    def test_warnings_by_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reference = noise(60, "r")
        by = ImageComparison("pixels").extractor(reference, "cpu", print)
        few = score_images({"s": noise(31, "s")}, by).warnings
        assert "31 images is biased upwards: take at least 10000" in few[0]
        assert "fewer than twice the 16 features" in few[1]
        assert len(score_images({"s": noise(33, "s")}, by).warnings) == 1
        monkeypatch.setattr(image_quality, "_ENOUGH", 33)
        assert score_images({"s": noise(33, "s")}, by).warnings == []

    def test_a_classifier_that_few_images_tried_is_said(self) -> None:
        class Tried(Counted):
            details: ClassVar = {"held-out images": 4.0}

        request = Request(noise(30, "r"))
        said = score_images({"s": noise(30, "s")}, Extractor("c", Tried(request), request)).warnings
        assert "tried on 4 held-out images" in said[-1]

    def test_few_images_leave_figures_out_with_reasons(self) -> None:
        by = Extractor("counted", Counted(Request(noise(30, "r"))), Request(noise(30, "r")))
        quality = score_images({"s": noise(4, "s")}, by)
        assert (quality.rows[0].precision, quality.rows[0].inception_score) == (None, None)
        assert math.isfinite(quality.rows[0].frechet_distance)
        assert "more than 5 images" in quality.not_available["precision to coverage"]
        assert "at least 10 images" in quality.not_available["inception score"]

    @pytest.mark.slow
    def test_the_seed_moves_the_kernel_distance_alone(self) -> None:
        reference, images = noise(1500, "r"), {"s": noise(1200, "s")}
        by = ImageComparison("pixels").extractor(reference, "cpu", print)
        one, same, other = (asdict(score_images(images, by, seed=s).rows[0]) for s in (0, 0, 1))
        assert one == same
        changed = {key for key in one if one[key] != other[key]}
        assert {"kernel_distance", "kernel_distance_error"} <= changed
        assert not {"frechet_distance", "count", "sha256"} & changed


class TestImageComparison:
    """Which extractor, and what it refuses."""

    @pytest.mark.slow
    def test_the_best_that_can_be_had(self) -> None:
        notes: list[str] = []
        digits = open_images("digits").head(200)
        assert ImageComparison().extractor(digits, "cpu", notes.append).name == "classifier"
        assert ImageComparison().extractor(noise(20), "cpu", notes.append).name == "pixels"
        assert any("Compares by the features 'pixels'" in note for note in notes)

    def test_a_named_one_or_an_error(self) -> None:
        with pytest.raises(NotAvailable, match="label"):
            ImageComparison("classifier").extractor(noise(20), "cpu", print)
        with pytest.raises(UsageError, match="no feature extractor 'pixel'; did you mean pixels"):
            ImageComparison("pixel").extractor(noise(20), "cpu", print)

    @pytest.mark.parametrize("n", [0, 1])
    def test_too_few_images(self, n: int) -> None:
        by = ImageComparison("pixels").extractor(noise(20), "cpu", print)
        with pytest.raises(DataError, match="fewer than two images"):
            score_images({"s": noise(n, "s")}, by)

    def test_another_shape(self) -> None:
        by = ImageComparison("pixels").extractor(noise(20), "cpu", print)
        with pytest.raises(DataError, match="make them equal"):
            score_images({"s": of_tensor("s", torch.zeros(9, 3, 4, 4))}, by)

    def test_features_that_are_not_finite(self) -> None:
        class Broken(Features):
            sha256 = "broken"

            def __call__(self, images: Tensor) -> Extracted:
                features: Any = images.flatten(1).float()
                features[2, 1] = math.nan
                return Extracted(features)

        request = Request(noise(20))
        with pytest.raises(DataError, match="features of image 2 are not finite"):
            score_images({"s": noise(9, "s")}, Extractor("broken", Broken(request), request))
