"""How near samples of small images are to test images, by a classifier of the training images."""

from dataclasses import dataclass

from torch import Tensor

from smoothctl.architectures.base import to_grid
from smoothctl.datasets.base import Dataset
from smoothctl.evaluation.likelihood import bounds
from smoothctl.metrics.classifier import Classifier, fit_classifier
from smoothctl.metrics.frechet import frechet_distance
from smoothctl.reproduce.base import Budget, cpu_seconds
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw

__all__ = ["FRECHET", "Quality", "two_step_figures"]

FRECHET = "Fréchet"
"""The figure that says how far samples are from test images."""

_SURE = 0.95
_DRAWS, _SAMPLES = 16, 10_000


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


def two_step_figures(run: Run, seed: int, budget: Budget) -> dict[str, float]:
    """Returns bits/dim of the test view, how near samples are to it, and what the fits took.

    Args:
        run: of both stages of images.
        seed: of the samples.
        budget: examples, which are at most as many samples; draws.
    """
    method, dataset = run.two_step(), run.dataset()
    assert method is not None
    x = dataset.test.head(budget.examples)
    estimates, _ = bounds("two-step", method, x, budget.draws or _DRAWS, seed=0)
    one, least = estimates[0].bits_per_dim, estimates[-1].bits_per_dim
    assert one is not None
    assert least is not None
    n = min(_SAMPLES, max(2, budget.examples))
    quality = Quality.by_labels_of(dataset)(draw(run, "two-step", n, seed).samples)
    seconds = cpu_seconds(run, "prior", "denoiser")
    return {"bits/dim": least, "1 draw": one, **quality, "CPU s": seconds}
