"""A small classifier of a dataset's own labels, whose features judge samples of that data."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothctl.datasets.base import Dataset
from smoothctl.errors import NotAvailable
from smoothctl.randomness import seed_from

__all__ = ["Classifier", "fit_classifier"]

_STEPS, _BATCH, _FEATURES = 600, 128, 64


class Classifier(nn.Module):
    """Two convolutions and two linear layers.

    Args:
        event_shape: (C, H, W).
        classes: how many.
    """

    def __init__(self, event_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = event_shape
        small = ((height + 1) // 2) * ((width + 1) // 2)
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * small, _FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(_FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits: (n, C, H, W) -> (n, classes)."""
        logits: Tensor = self.head(self.trunk(x))
        return logits

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Returns the activations before the last layer: (n, C, H, W) -> (n, 64)."""
        return torch.cat([self.trunk(rows) for rows in x.split(1024)])

    @torch.no_grad()
    def confidence(self, x: Tensor) -> Tensor:
        """Returns the probability of the likeliest class: (n, C, H, W) -> (n,)."""
        return torch.cat([self(rows).softmax(1).amax(1) for rows in x.split(1024)])


def fit_classifier(dataset: Dataset, seed: int = 0) -> Classifier:
    """Fits a classifier to a dataset's training view; a matter of seconds for small images.

    Args:
        dataset: images with classes.
        seed: of weights, order and dropout.

    Raises:
        NotAvailable: the dataset has no classes.
    """
    if dataset.classes is None or dataset.domain != "image":
        raise NotAvailable(f"{dataset.name} has no labelled images to fit a classifier to.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(seed, "classifier"))
        model = Classifier(dataset.event_shape, dataset.classes)
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        per_epoch = max(1, len(dataset.train) // _BATCH)
        for step in range(_STEPS):
            epoch, position = divmod(step, per_epoch)
            where = (seed, epoch, position * _BATCH, (position + 1) * _BATCH)
            x, labels = dataset.train.batch(*where), dataset.train.labels(*where)
            loss = F.cross_entropy(model(x), labels)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return model.eval().requires_grad_(False)
