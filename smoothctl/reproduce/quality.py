"""How near samples of small images are to test images, by a classifier of the training images."""

from dataclasses import dataclass

from torch import Tensor

from smoothctl.architectures.base import to_grid
from smoothctl.datasets.base import Dataset
from smoothctl.metrics.classifier import Classifier, fit_classifier
from smoothctl.metrics.frechet import frechet_distance

__all__ = ["FRECHET", "Quality"]

FRECHET = "Fréchet"
"""The figure that says how far samples are from test images."""

_SURE = 0.95


@dataclass(frozen=True)
class Quality:
    """Judges samples by the features of a classifier.

    Args:
        classifier: of the training images.
        test: features of the test images, (n, 64).
        levels: how many values a pixel may have.
    """

    classifier: Classifier
    test: Tensor
    levels: int

    @classmethod
    def by_labels_of(cls, dataset: Dataset) -> "Quality":
        """Returns the judge whose classifier is fitted to a dataset, in seconds."""
        classifier = fit_classifier(dataset)
        test = classifier.features(dataset.test.head())
        return cls(classifier, test, dataset.levels or 256)

    def frechet(self, samples: Tensor) -> float:
        """Returns the Fréchet distance of samples, (n, C, H, W), to the test images."""
        images = to_grid(samples, self.levels)
        return frechet_distance(self.classifier.features(images), self.test)

    def sure(self, samples: Tensor) -> float:
        """Returns the percentage of samples that are of one class with at least 95 %."""
        confidence = self.classifier.confidence(to_grid(samples, self.levels))
        return 100 * float((confidence >= _SURE).float().mean())

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Returns both figures by name."""
        return {FRECHET: self.frechet(samples), "sure, %": self.sure(samples)}
