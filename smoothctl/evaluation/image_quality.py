"""How near sets of images are to a reference, by the features of an extractor."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.datasets.base import Note
from smoothctl.errors import DataError, NotAvailable, UsageError
from smoothctl.metrics import features as registry
from smoothctl.metrics.extraction import MOST_KEPT, SPLITS, Statistics, cached, extract
from smoothctl.metrics.features import Features, Request
from smoothctl.metrics.frechet import frechet_between, frechet_error
from smoothctl.metrics.image_sets import ImageSet
from smoothctl.metrics.kernel_distance import kernel_distance
from smoothctl.metrics.manifold import manifold_scores
from smoothctl.metrics.moments import Moments
from smoothctl.metrics.neighbours import Copying, data_copying, nearest
from smoothctl.rng import generator
from smoothctl.storage.files import without_folders

__all__ = [
    "DEFAULT_FEATURES",
    "Extractor",
    "ImageComparison",
    "Quality",
    "QualityRow",
    "score_images",
]

DEFAULT_FEATURES = ("inception", "classifier", "pixels")
"""The first of these that can be had is taken where none is named."""

_ENOUGH = 10_000
_FEW_JUDGES = 100
_MOST_NEIGHBOURS = 1_000
_NEIGHBOURS = 5
"""Neighbours that make up a point's surroundings, as Naeem et al. 2020 take them."""


@dataclass(frozen=True)
class QualityRow:
    """The figures of one set of images; None where not available.

    Args:
        samples: what was compared.
        count: how many images.
        sha256: of their pixels.
        frechet_distance: of the features (FID where they are Inception's); lower is better.
        frechet_distance_error: its standard error over samples, as a bootstrap gives it.
        kernel_distance: squared MMD of the features (KID where they are Inception's).
        kernel_distance_error: its standard error over subsets.
        inception_score: exp of the mean KL of class probabilities; higher is better.
        inception_score_deviation: its standard deviation over splits.
        precision: share of samples within the reference's manifold.
        recall: share of the reference within the samples' manifold.
        density: how deep in the reference's manifold samples lie; 1 for equal distributions.
        coverage: share of reference images with a sample near them.
        nearer_than_test: probability that a sample is nearer to a training image than a test
            image is; 0.5 is ideal, 1 is copying.
        nearer_than_test_error: its standard error.
        copies: share of samples nearer to a training image than 99 % of test images; ideal 0.01.
    """

    samples: str
    count: int
    sha256: str
    frechet_distance: float
    frechet_distance_error: float | None
    kernel_distance: float
    kernel_distance_error: float
    inception_score: float | None
    inception_score_deviation: float | None
    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None
    nearer_than_test: float | None
    nearer_than_test_error: float | None
    copies: float | None


@dataclass(frozen=True)
class Quality:
    """The figures of several sets against one reference, with what is needed to repeat them."""

    features: str
    features_sha256: str
    preprocessing: str
    details: dict[str, float | str]
    width: int
    reference: str
    reference_sha256: str
    reference_count: int
    most_kept: int
    """Feature vectors of each set, at random, for the kernel distance and precision to coverage."""

    seed: int
    rows: list[QualityRow]
    warnings: list[str]
    not_available: dict[str, str]


@dataclass(frozen=True)
class ImageComparison:
    """How images shall be compared.

    Args:
        features: a registered extractor; the best that can be had if None.
        reference: what to compare with; a run's own training images if None.
        weights: file of the extractor's weights.
        sha256: what that file's SHA-256 must be, where it is not the one that is known.
        download: whether the extractor may fetch its weights.
    """

    features: str | None = None
    reference: ImageSet | None = None
    weights: Path | None = None
    sha256: str | None = None
    download: bool = False

    def extractor(
        self, reference: ImageSet, device: str = "cpu", note: Note = lambda _: None
    ) -> "Extractor":
        """Makes the extractor for a reference.

        Args:
            reference: the images that samples will be compared with.
            device: where the extractor computes.
            note: told what a person should know.

        Raises:
            UsageError: an unknown name, or weights for an extractor that takes none.
            NotAvailable: the named one cannot be had for this reference.
            DataError: its weights are damaged or not the expected ones.
        """
        request = Request(reference, self.weights, self.sha256, self.download, device, note)
        about_weights = bool(self.weights or self.sha256 or self.download)
        if self.features is not None or about_weights:
            name = self.features or DEFAULT_FEATURES[0]
            if about_weights and not registry.load(name).takes_weights:
                raise UsageError(f"The features '{name}' take no weights: leave those options out.")
            return _made(name, request)
        for name in DEFAULT_FEATURES[:-1]:
            with suppress(NotAvailable):
                made = _made(name, request)
                break
        else:
            made = _made(DEFAULT_FEATURES[-1], request)
        note(f"Compares by the features '{made.name}'; `features` takes others.")
        return made


@dataclass(frozen=True)
class Extractor:
    """An extractor by its registered name, made for one reference."""

    name: str
    features: Features
    request: Request


def _made(name: str, request: Request) -> Extractor:
    return Extractor(name, registry.load(name)(request), request)


def score_images(
    sets: Mapping[str, ImageSet],
    by: Extractor,
    test: ImageSet | None = None,
    seed: int = 0,
    progress: Callable[[str], Progress | None] = lambda _: None,
) -> Quality:
    """Compares sets of images with the reference that an extractor was made for.

    Args:
        sets: what to compare, by name; each has at least two images of the reference's shape.
        by: the extractor and the reference.
        test: images that no model was fitted to, for the memorisation figures; None without.
        seed: of the subsets of the kernel distance.
        progress: makes progress callbacks.

    Raises:
        DataError: a set with fewer than two images or of another shape, features not finite.
    """
    reference = by.request.reference
    for images in sets.values():
        images.check_comparable(reference)
        if len(images) < 2:
            raise DataError(f"{images.name} holds fewer than two images: draw more to compare.")
    note = by.request.note
    fresh = None if test is None else _distances(test, reference)
    about = cached(reference, by.features, progress("reference features"), note)
    rows = []
    for name, images in sets.items():
        work = progress(f"features: {name}")
        if images.lasting:
            statistics = cached(images, by.features, work, note)
        else:
            statistics = extract(images, by.features, work)
        near = None if fresh is None else data_copying(_distances(images, reference), fresh)
        rows.append(_row(name, images, statistics, about, near, seed))
    return Quality(
        features=by.name,
        features_sha256=by.features.sha256,
        preprocessing=by.features.preprocessing,
        details=by.features.details,
        width=about.moments.width,
        reference=without_folders(reference.name),
        reference_sha256=reference.sha256,
        reference_count=len(reference),
        most_kept=MOST_KEPT,
        seed=seed,
        rows=rows,
        warnings=_warnings(by, rows, about.moments),
        not_available=_missing(by.name, rows, test),
    )


def _row(
    name: str,
    images: ImageSet,
    mine: Statistics,
    about: Statistics,
    near: Copying | None,
    seed: int,
) -> QualityRow:
    kernel = kernel_distance(mine.features, about.features, seed)
    n = min(len(mine.features), len(about.features))
    x, y = (_some(each.features, n, seed) for each in (mine, about))
    manifold = manifold_scores(x, y, _NEIGHBOURS) if n > _NEIGHBOURS else None
    return QualityRow(
        samples=name,
        count=len(images),
        sha256=images.sha256,
        frechet_distance=frechet_between(mine.moments, about.moments),
        frechet_distance_error=frechet_error(mine.features, mine.moments, about.moments),
        kernel_distance=kernel.value,
        kernel_distance_error=kernel.standard_error,
        inception_score=mine.score and mine.score.value,
        inception_score_deviation=mine.score and mine.score.deviation,
        precision=manifold and manifold.precision,
        recall=manifold and manifold.recall,
        density=manifold and manifold.density,
        coverage=manifold and manifold.coverage,
        nearer_than_test=near and near.nearer_than_test,
        nearer_than_test_error=near and near.standard_error,
        copies=near and near.copies,
    )


def _distances(images: ImageSet, train: ImageSet) -> Tensor:
    """Returns the distances of some images to their nearest training images, float64 (n,)."""
    return nearest(images.pick(_MOST_NEIGHBOURS), train, 1).distances[:, 0].contiguous()


def _some(features: Tensor, n: int, seed: int) -> Tensor:
    """Returns n rows at random: precision to coverage depend on how many there are of each."""
    if n == len(features):
        return features
    return features[torch.randperm(len(features), generator=generator(seed, "manifold"))[:n]]


def _warnings(by: Extractor, rows: list[QualityRow], about: Moments) -> list[str]:
    """Returns what a reader must know of the numbers of images."""
    name = "FID" if by.name == "inception" else "Fréchet distance"
    fewest = min([about.count, *(row.count for row in rows)])
    sentences = []
    if fewest < _ENOUGH:
        sentences.append(
            f"The {name} of {fewest} images is biased upwards: take at least {_ENOUGH}, and "
            "compare only equal numbers. A floor of so few is one draw: chance may take samples "
            "below it."
        )
    if fewest < 2 * about.width:
        sentences.append(
            f"{fewest} images are fewer than twice the {about.width} features: their covariance "
            "is hardly determined."
        )
    judges = by.features.details.get("held-out images")
    if isinstance(judges, float) and judges < _FEW_JUDGES:
        sentences.append(
            f"The classifier whose features these are was tried on {judges:.0f} held-out images: "
            "too few to trust it."
        )
    return sentences


def _missing(features: str, rows: list[QualityRow], test: ImageSet | None) -> dict[str, str]:
    """Returns why some of the figures are not there."""
    reasons = {}
    if any(row.inception_score is None for row in rows):
        reasons["inception score"] = (
            f"it needs class probabilities, which not all features give ('{features}' were "
            f"taken), and at least {SPLITS} images"
        )
    if any(row.precision is None for row in rows):
        reasons["precision to coverage"] = f"they need more than {_NEIGHBOURS} images"
    if test is None:
        reasons["memorisation"] = "there are no test images to compare with"
    return reasons
