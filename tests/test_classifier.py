"""The classifier as an extractor: fitted once to the reference's labels, and kept."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smoothctl.datasets import open_dataset
from smoothctl.errors import NotAvailable
from smoothctl.metrics import classifier
from smoothctl.metrics.classifier import ClassifierFeatures
from smoothctl.metrics.features import Request
from smoothctl.metrics.image_sets import ImageSet, of_view
from smoothctl.rng import generator


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    dataset = open_dataset("digits")
    return of_view("digits", dataset, dataset.train)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a classifier that is fitted in no time."""
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path))
    monkeypatch.setattr(classifier, "_STEPS", 6)
    return tmp_path / "features"


def coloured(n: int, height: int, width: int, classes: int = 2) -> ImageSet:
    """Red images of class 0, green ones of class 1, and so on, with noise."""
    labels = torch.arange(n) % classes
    draws = torch.rand(n, 3, height, width, generator=generator("coloured"))
    pixels = (100 * draws).to(torch.uint8)
    pixels[torch.arange(n), labels] += 120
    return ImageSet("coloured", (3, height, width), n, lambda a, b: pixels[a:b], labels, classes)


def test_learns_the_labels_once(
    digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path))
    told: list[str] = []
    first = ClassifierFeatures(Request(digits, note=told.append))
    assert len(told) == 1
    assert "once" in told[0]
    assert first.details["held-out accuracy"] > 0.95
    assert first.details["held-out images"] == round(0.1 * len(digits))

    monkeypatch.setattr(classifier, "_judged", lambda _: pytest.fail("fitted again"))
    state = torch.random.get_rng_state()
    again = ClassifierFeatures(Request(digits, note=told.append))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(told) == 1
    assert (again.sha256, again.details) == (first.sha256, first.details)
    test = open_dataset("digits").test
    images = of_view("test", open_dataset("digits"), test).read(0, 50)
    found = again(images)
    assert torch.equal(found.features, first(images).features)
    assert found.features.shape == (50, 64)
    assert found.probabilities is not None
    assert torch.allclose(found.probabilities.sum(1), torch.ones(50))
    assert (found.probabilities.argmax(1) == test.head_labels(50)).float().mean() > 0.9


def test_what_is_held_out_is_not_fitted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[torch.Tensor] = []
    judged: list[torch.Tensor] = []
    plain = classifier.ImageView

    def spy(part, index):
        (judged if fitted else fitted).append(index)
        return plain(part, index)

    monkeypatch.setattr(classifier, "ImageView", spy)
    ClassifierFeatures(Request(coloured(40, 4, 4)))
    assert (len(fitted[0]), len(judged[0])) == (36, 4)
    assert torch.cat([fitted[0], judged[0]]).sort().values.tolist() == list(range(40))


def test_depends_on_content_and_not_on_the_name(digits: ImageSet, cache: Path) -> None:
    first = ClassifierFeatures(Request(digits))
    renamed = ClassifierFeatures(Request(replace(digits, name="renamed")))
    other = ClassifierFeatures(Request(digits.head(500)))
    assert first.sha256 == renamed.sha256 != other.sha256
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "another", "flipped"])
def test_a_damaged_file_is_fitted_anew(cache: Path, digits: ImageSet, damage: str) -> None:
    told: list[str] = []
    reference = digits.head(100)
    first = ClassifierFeatures(Request(reference))
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    if damage == "another":
        ClassifierFeatures(Request(digits.head(60)))
        (other,) = set(cache.iterdir()) - {file}
        content = bytearray(other.read_bytes())
    file.write_bytes(content[:-100] if damage == "truncated" else content)
    again = ClassifierFeatures(Request(reference, note=told.append))
    assert "damaged or foreign" in told[0]
    assert again.sha256 == first.sha256
    told.clear()
    ClassifierFeatures(Request(reference, note=told.append))
    assert told == []


def test_goes_on_where_it_cannot_be_kept(cache: Path, digits: ImageSet) -> None:
    told: list[str] = []
    cache.write_text("a file")
    found = ClassifierFeatures(Request(digits.head(60), note=told.append))(digits.read(0, 2))
    assert found.features.shape == (2, 64)
    assert "without keeping" in told[-1]


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (6, 9),
        pytest.param(32, 32, marks=pytest.mark.slow),
        pytest.param(80, 40, marks=pytest.mark.slow),
    ],
)
def test_colours_of_any_size(cache: Path, height: int, width: int, monkeypatch) -> None:
    monkeypatch.setattr(classifier, "_STEPS", 40)
    reference = coloured(60, height, width, classes=3)
    extractor = ClassifierFeatures(Request(reference))
    assert extractor.details["held-out accuracy"] == 1
    found = extractor(reference.read(0, 30)).probabilities
    assert found is not None
    assert torch.equal(found.argmax(1), torch.arange(30) % 3)


def test_large_references_are_thinned_evenly() -> None:
    reference = coloured(2500, 4, 4)
    part = classifier._part(reference, 2500 * 48 // 3 + 100)
    assert torch.equal(torch.from_numpy(part.images), reference.read(0, 2500)[::3])
    assert part.labels is not None
    assert part.labels.tolist() == (torch.arange(0, 2500, 3) % 2).tolist()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (replace(coloured(40, 4, 4), labels=None, classes=None), "coloured has no labels"),
        (replace(coloured(40, 4, 4), classes=1), "two or more classes"),
        (coloured(19, 4, 4), "19 images: a classifier needs 20"),
    ],
)
def test_references_that_it_cannot_be_had_for(reference: ImageSet, said: str) -> None:
    with pytest.raises(NotAvailable, match=said):
        ClassifierFeatures(Request(reference))
