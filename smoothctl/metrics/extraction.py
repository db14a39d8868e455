"""Running an extractor over a set of images, and the cache of what came out."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.datasets.base import Note
from smoothctl.errors import DataError, RunError
from smoothctl.metrics.features import Features
from smoothctl.metrics.image_sets import ImageSet
from smoothctl.metrics.inception_score import InceptionScore, SplitScore
from smoothctl.metrics.moments import Moments
from smoothctl.rng import generator
from smoothctl.storage.cache import cache_folder
from smoothctl.storage.weights import read_weights, write_weights

__all__ = ["MOST_KEPT", "SPLITS", "Statistics", "cached", "extract"]

_FORMAT = 1
MOST_KEPT = 10_000
"""Feature vectors that are kept for the metrics that need them: memory stays bounded."""

SPLITS = 10
"""Parts of the images that the Inception score is averaged over, as published."""


@dataclass(frozen=True)
class Statistics:
    """What the metrics need to know of a set's features.

    Args:
        moments: mean and covariance of all of them.
        features: at most 10,000 of them, chosen at random, float32 (n, d), in order.
        score: the Inception score; None without class probabilities, or below ten images.
    """

    moments: Moments
    features: Tensor
    score: SplitScore | None


@torch.no_grad()
def extract(images: ImageSet, extractor: Features, progress: Progress | None = None) -> Statistics:
    """Extracts features of a set a block at a time: memory does not grow with their number.

    Args:
        images: at least two.
        extractor: what makes features of them.
        progress: told (images done, images).

    Raises:
        DataError: features that are not finite.
    """
    moments, kept, done = Moments(), [], 0
    score: InceptionScore | None = None
    wanted = _chosen(len(images))
    for block in images.blocks(extractor.batch):
        features, probabilities = extractor(block)
        moments.update(features)
        kept.append(features[wanted[done : done + len(block)]].float())
        if probabilities is not None and len(images) >= SPLITS:
            score = score or InceptionScore(len(images), SPLITS)
            score.update(probabilities)
        done += len(block)
        if progress is not None:
            progress(done, len(images))
    return Statistics(moments, torch.cat(kept), None if score is None else score.result())


def cached(
    images: ImageSet,
    extractor: Features,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Statistics:
    """Returns `extract` from the user's cache, where it is kept by content and extractor.

    The arguments are those of `extract`; `note` is told where it cannot be kept.
    """
    file = cache_folder() / "statistics" / f"{_key(images, extractor)}.safetensors"
    statistics = _read(file)
    if statistics is None:
        statistics = extract(images, extractor, progress)
        try:
            _write(file, statistics)
        except RunError as error:
            if note is not None:
                note(f"Goes on without keeping the statistics of {images.name}: {error}")
    return statistics


def _chosen(count: int) -> Tensor:
    """Returns which feature vectors are kept, bool (count,): stored sets are sorted by class."""
    wanted = torch.zeros(count, dtype=torch.bool)
    wanted[torch.randperm(count, generator=generator(0, "kept"))[:MOST_KEPT]] = True
    return wanted


def _key(images: ImageSet, extractor: Features) -> str:
    text = json.dumps([_FORMAT, images.sha256, extractor.sha256])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(file: Path, statistics: Statistics) -> None:
    tensors = {**statistics.moments.tensors(), "features": statistics.features}
    if statistics.score is not None:
        tensors["score"] = torch.tensor(statistics.score[:2], dtype=torch.float64)
    write_weights(file, tensors, {"format": _FORMAT})


def _read(file: Path) -> Statistics | None:
    """Returns what a file of the cache holds; None where it is missing or damaged."""
    try:
        tensors, _ = read_weights(file)
        features, score = tensors.pop("features"), tensors.pop("score", None)
        splits = None if score is None else SplitScore(float(score[0]), float(score[1]), SPLITS)
        return Statistics(Moments.from_tensors(tensors), features, splits)
    except (RunError, DataError, KeyError, TypeError, ValueError):
        return None
