"""Nearest training images of samples, found exactly in bounded memory; whether they are copies."""

import hashlib
import math
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.errors import DataError, UsageError
from smoothctl.metrics.features import Extracted, Features, Pixels
from smoothctl.metrics.image_sets import ImageSet
from smoothctl.smoothing.batching import part_of, spans

__all__ = [
    "Memorisation",
    "Neighbours",
    "data_copying",
    "gather",
    "memorisation",
    "nearest",
    "search",
]

Extract = Callable[[Tensor], Extracted]

_QUERIES, _QUERY_BYTES = 16_384, 2**26
_ROWS, _VALUES = 4096, 2**23
_COMPARED = 1024
"""Queries that are compared with a block of references at once."""

_EXACT_COLUMNS = 1024
_NEAR = 1e-5
_CLOSE = 0.99


class Neighbours(NamedTuple):
    """The nearest references of each query, the nearest first."""

    indices: Tensor
    """Positions in the reference set, int64 (n, k)."""

    distances: Tensor
    """ℓ2 distances, float64 (n, k), of images in [−1, 1] or of features."""


class Copying(NamedTuple):
    """How distances of samples to training images compare with those of test images."""

    nearer_than_test: float
    standard_error: float
    copies: float


class Memorisation(NamedTuple):
    """Whether samples lie nearer to the training images than test images do."""

    nearer_than_test: float
    """P(d(sample) < d(test image)) + ½ P(=), d the distance to the nearest training image."""

    standard_error: float
    """Of `nearer_than_test`, over samples and test images; the training images are fixed."""

    copies: float
    """Share of samples that are nearer to a training image than 99 % of the test images are."""

    exact_copies: int
    """Samples whose pixels equal a training image's."""

    samples: int
    tests: int


def nearest(
    queries: ImageSet,
    reference: ImageSet,
    k: int = 10,
    features: Extract | None = None,
    progress: Progress | None = None,
) -> Neighbours:
    """Returns the k nearest references of each query by ℓ2.

    On pixels the comparison is exact, in integers: copies are at distance 0, and of references at
    equal distance the first comes first. On features distances are right to float32, also of
    near copies. The reference set is read once for every 16,384 queries.

    Args:
        queries: the images to look for.
        reference: the images to look among.
        k: how many neighbours.
        features: maps bytes (n, C, H, W) to the features to compare; pixels if None.
        progress: told (references done, references).

    Raises:
        DataError: images of two shapes, or features that are not finite.
        UsageError: k is below one or above the number of references.
    """
    queries.check_comparable(reference)
    if not 1 <= k <= len(reference):
        raise UsageError(
            f"{reference.name} has {len(reference)} images: neighbours are 1 to {len(reference)} "
            f"for each sample, not {k}."
        )
    space: _Space = _PixelSpace()
    if features is not None and not isinstance(features, Pixels):
        space = _FeatureSpace(features)
    rows = max(1, min(_QUERIES, _QUERY_BYTES // math.prod(queries.shape)))
    parts = list(spans(len(queries), rows))
    results = [
        _nearest(space, queries.read(start, stop), reference, k, part_of(progress, i, len(parts)))
        for i, (start, stop) in enumerate(parts)
    ]
    return Neighbours(*(torch.cat(each) for each in zip(*results, strict=True)))


def memorisation(
    samples: ImageSet,
    train: ImageSet,
    test: ImageSet,
    features: Extract | None = None,
    progress: Progress | None = None,
) -> Memorisation:
    """Compares how near samples and test images lie to training images; see `search`."""
    result = search(samples, train, test, 1, features, progress)[1]
    assert result is not None
    return result


def search(
    samples: ImageSet,
    train: ImageSet,
    test: ImageSet | None,
    k: int = 10,
    features: Extract | None = None,
    progress: Progress | None = None,
) -> tuple[Neighbours, Memorisation | None]:
    """Returns the neighbours of samples, and how near they are beside those of test images.

    `nearer_than_test` is the Mann-Whitney statistic of Meehan, Chaudhuri & Dasgupta (2020), "A
    non-parametric test to detect data-copying in generative models", here over the whole space
    and not by cells. It is 0.5 where samples are as near to the training images as fresh data
    are, 1 where all are copies, and below 0.5 where they are further away than data. Its
    standard error is that of DeLong, DeLong & Clarke-Pearson (1988). `copies` is 0.01 for
    fresh data, given hundreds of test images.

    Args:
        samples: at least two images.
        train: what the model was fitted to.
        test: what it was not fitted to, at least two; None where there is nothing, and then
            nothing is said of memorisation.
        k: neighbours of each sample.
        features: see `nearest`; exact copies are always those of pixels.
        progress: told (references done, references).

    Raises:
        DataError: images of several shapes, fewer than two, or features that are not finite.
        UsageError: k is below one or above the number of training images.
    """
    if test is None:
        return nearest(samples, train, k, features, progress), None
    if min(len(samples), len(test)) < 2:
        raise DataError(
            f"At least two samples and two test images are needed, not {len(samples)} and "
            f"{len(test)}."
        )
    test.check_comparable(train)
    all_neighbours = nearest(_joined(samples, test), train, k, features, progress)
    n = len(samples)
    first = all_neighbours.distances[:, 0].contiguous()
    copying = data_copying(first[:n], first[n:])
    neighbours = Neighbours(*(each[:n] for each in all_neighbours))
    exact = _exact_copies(samples, train)
    return neighbours, Memorisation(*copying, exact, n, len(test))


def gather(images: ImageSet, indices: Tensor) -> Tensor:
    """Returns single images, uint8 (*indices.shape, C, H, W)."""
    rows = [images.read(i, i + 1) for i in indices.flatten().tolist()]
    return torch.cat(rows).reshape(*indices.shape, *images.shape)


class _Space(Protocol):
    """Where distances are taken."""

    def points(self, images: Tensor) -> Tensor:
        """Returns what is compared: uint8 (n, C, H, W) -> (n, d)."""

    def keys(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns whole numbers that grow with the distance: (n, d), (m, d) -> int64 (n, m)."""

    def distances(self, keys: Tensor) -> Tensor:
        """Returns the distances of such numbers, float64."""


class _PixelSpace:
    """Bytes, with squared distances in integers."""

    def points(self, images: Tensor) -> Tensor:
        return images.flatten(1).float().sub_(128)

    def keys(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns squared distances of bytes, without rounding.

        Around 128 a byte is at most 128 in size: 1,024 products add up to at most 2²⁴, up to
        which float32 holds every whole number, so that a fast matrix product is exact.
        """
        pairs = zip(x.split(_EXACT_COLUMNS, 1), y.split(_EXACT_COLUMNS, 1), strict=True)
        return reduce(torch.add, (self._keys(a, b) for a, b in pairs))

    def _keys(self, x: Tensor, y: Tensor) -> Tensor:
        sizes = [points.square().sum(1).long() for points in (x, y)]
        return (x @ y.T).long().mul_(-2).add_(sizes[0][:, None]).add_(sizes[1])

    def distances(self, keys: Tensor) -> Tensor:
        return keys.double().sqrt() / 127.5


class _FeatureSpace:
    """Features, with distances that are right to float32."""

    def __init__(self, extract: Extract) -> None:
        self._extract = extract
        self._batch = extract.batch if isinstance(extract, Features) else Features.batch

    def points(self, images: Tensor) -> Tensor:
        parts = images.split(self._batch)
        rows = [self._extract(part).features.double().flatten(1) for part in parts]
        features = torch.cat(rows)
        bad = int((~features.isfinite()).any(1).sum())
        if bad:
            raise DataError(f"The features of {bad} of {len(features)} images are not finite.")
        return features

    def keys(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the bits of the distances as float32, which are ordered as these are.

        A matrix product in float64 gives |x|² + |y|² − 2xy to 10⁻¹² of |x|² + |y|²; where what
        remains is so little that this would show, the differences themselves are squared.
        """
        sizes = x.square().sum(1)[:, None] + y.square().sum(1)
        squares = torch.addmm(sizes, x, y.T, alpha=-2)
        near = (squares < _NEAR * sizes).nonzero()
        for i, j in (pairs.T for pairs in near.split(max(1, _VALUES // x.shape[1]))):
            squares[i, j] = (x[i] - y[j]).square().sum(1)
        return squares.clamp(min=0).sqrt().float().view(torch.int32).long()

    def distances(self, keys: Tensor) -> Tensor:
        return keys.int().view(torch.float32).double()


def _nearest(
    space: _Space, queries: Tensor, reference: ImageSet, k: int, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """Returns indices and distances of some images, a block of references after the other.

    Distance and position make one number, so that the smallest are the nearest and of equals
    the first.
    """
    points = space.points(queries)
    bits = len(reference).bit_length()
    best = torch.empty(len(points), 0, dtype=torch.int64)
    rows = max(1, min(_ROWS, _VALUES // math.prod(reference.shape)))
    for first, last in spans(len(reference), rows):
        others = space.points(reference.read(first, last))
        positions = torch.arange(first, last)
        new = [
            _smallest(space.keys(x, others).mul_(1 << bits).add_(positions), k)
            for x in points.split(_COMPARED)
        ]
        best = _smallest(torch.cat([best, torch.cat(new)], 1), k)
        if progress is not None:
            progress(last, len(reference))
    return best & ((1 << bits) - 1), space.distances(best >> bits)


def _smallest(values: Tensor, k: int) -> Tensor:
    """Returns the k smallest of each row, ascending; all where there are fewer."""
    return values.topk(min(k, values.shape[1]), largest=False, sorted=True).values


def _joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """Returns the images of two sets, one after the other."""
    n = len(first)

    def read(start: int, stop: int) -> Tensor:
        parts = []
        if start < n:
            parts.append(first.read(start, min(stop, n)))
        if stop > n:
            parts.append(second.read(max(start - n, 0), stop - n))
        return torch.cat(parts)

    return ImageSet(first.name, first.shape, n + len(second), read)


def data_copying(samples: Tensor, tests: Tensor) -> Copying:
    """Compares distances to the nearest training image; see `search`.

    Args:
        samples: those of samples, (n,).
        tests: those of test images, (m,).
    """
    nearer, further = _placements(samples, tests), _placements(tests, samples)
    variance = nearer.var() / len(samples) + further.var() / len(tests)
    ordered = tests.sort().values
    beyond = len(tests) - torch.searchsorted(ordered, samples, right=True)
    copies = (beyond.double() >= _CLOSE * len(tests)).double().mean()
    return Copying(float(nearer.mean()), float(variance.sqrt()), float(copies))


def _placements(x: Tensor, y: Tensor) -> Tensor:
    """Returns for each of x the share of y that is larger, equal ones by half, float64."""
    ordered = y.sort().values
    equal_or_less = torch.searchsorted(ordered, x, right=True).double()
    less = torch.searchsorted(ordered, x).double()
    return 1 - (equal_or_less + less) / (2 * len(y))


def _exact_copies(samples: ImageSet, train: ImageSet) -> int:
    known = {digest for block in train.blocks() for digest in _digests(block)}
    return sum(digest in known for block in samples.blocks() for digest in _digests(block))


def _digests(images: Tensor) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images.numpy()]
