"""The contract of feature extractors."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from smoothctl.metrics.features import Features, Request
from smoothctl.metrics.image_sets import ImageSet
from smoothctl.rng import generator

__all__ = ["FeaturesContract"]


class FeaturesContract:
    """What every feature extractor must fulfil; set `features_class`."""

    features_class: ClassVar[type[Features]]
    shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    count: ClassVar[int] = 60

    def request(self) -> Request:
        """Returns what the extractor is made from: a reference of two labelled kinds of images."""
        draws = torch.rand(self.count, *self.shape, generator=generator("contract"))
        labels = torch.arange(self.count) % 2
        pixels = (draws * 200 + 50 * labels.view(-1, 1, 1, 1)).to(torch.uint8)

        def read(start: int, stop: int) -> Tensor:
            return pixels[start:stop]

        return Request(ImageSet("contract", self.shape, self.count, read, labels, 2))

    @pytest.fixture
    def extractor(self) -> Features:
        """The extractor, made for the reference."""
        return self.features_class(self.request())

    @pytest.fixture
    def images(self) -> Tensor:
        """Some of the reference's images, uint8 (20, C, H, W)."""
        return self.request().reference.read(0, 20)

    def test_one_finite_vector_an_image(self, extractor: Features, images: Tensor) -> None:
        """Features are floats (n, d) on the CPU."""
        features = extractor(images).features
        assert features.ndim == 2
        assert len(features) == len(images)
        assert features.is_floating_point()
        assert features.isfinite().all()
        assert features.device.type == "cpu"
        assert not features.requires_grad

    def test_probabilities_are_probabilities(self, extractor: Features, images: Tensor) -> None:
        """Where there are classes, each row is a distribution."""
        probabilities = extractor(images).probabilities
        if probabilities is None:
            pytest.skip("this extractor has no classes")
        assert len(probabilities) == len(images)
        assert (probabilities >= 0).all()
        assert torch.allclose(probabilities.sum(1).double(), torch.ones(20).double(), atol=1e-4)

    def test_an_image_s_features_are_its_own(self, extractor: Features, images: Tensor) -> None:
        """Neither the batch nor the order changes them, and the images stay as they are."""
        before = images.clone()
        whole = extractor(images).features
        parts = torch.cat([extractor(images[rows]).features for rows in ([1], [0, 2])])
        assert torch.allclose(parts, whole[[1, 0, 2]], rtol=1e-4, atol=1e-5)
        assert torch.equal(images, before)

    def test_they_tell_images_apart(self, extractor: Features, images: Tensor) -> None:
        """Different images have different features."""
        features = extractor(images).features
        assert not torch.allclose(features[0], features[1])

    def test_the_hash_names_the_features(self, images: Tensor) -> None:
        """Made twice, an extractor has the same hash and, as the cache relies on, features."""
        one, two = (self.features_class(self.request()) for _ in range(2))
        assert one.sha256 == two.sha256
        assert torch.equal(one(images).features, two(images).features)

    def test_says_what_it_is(self, extractor: Features) -> None:
        """Summary and preprocessing are part of listings and results."""
        assert extractor.summary
        assert extractor.preprocessing
        assert extractor.batch >= 1
        assert all(isinstance(value, float | int | str) for value in extractor.details.values())
