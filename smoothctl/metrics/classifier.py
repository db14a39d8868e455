"""A small classifier of a dataset's own labels, whose features judge samples of that data."""

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothctl.datasets.base import Dataset, Note, View
from smoothctl.datasets.image_cache import Part
from smoothctl.datasets.images import ImageView
from smoothctl.errors import NotAvailable, RunError
from smoothctl.metrics.features import Extracted, Features, Request
from smoothctl.metrics.image_sets import ImageSet
from smoothctl.rng import generator, seed_from
from smoothctl.smoothing.batching import spans
from smoothctl.storage.cache import cache_folder
from smoothctl.storage.weights import read_weights, write_weights

__all__ = ["Classifier", "ClassifierFeatures", "fit_classifier"]

_STEPS, _BATCH, _FEATURES = 600, 128, 64
_RATE = 1e-3

_METHOD, _SEED = 1, 0
"""Of `ClassifierFeatures`: the version counts up whenever its features would change."""

_SIDE = 32
"""Larger images are averaged down to this: the network is for small ones."""

_MOST_BYTES = 2**30
"""Of a larger reference every second image is fitted to, or every third, and so on."""

_HELD_OUT, _MOST_HELD_OUT, _FEWEST = 0.1, 5000, 20


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
    return _fit(dataset.train, dataset.event_shape, dataset.classes, seed, lambda _: _RATE)


def _fit(
    view: View, shape: tuple[int, ...], classes: int, seed: int, rate: Callable[[int], float]
) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(seed, "classifier"))
        model = Classifier(shape, classes)
        adam = torch.optim.Adam(model.parameters(), lr=_RATE)
        per_epoch = max(1, len(view) // _BATCH)
        for step in range(_STEPS):
            epoch, position = divmod(step, per_epoch)
            where = (seed, epoch, position * _BATCH, (position + 1) * _BATCH)
            loss = F.cross_entropy(model(view.batch(*where)), view.labels(*where))
            adam.param_groups[0]["lr"] = rate(step)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return model.eval().requires_grad_(False)


class ClassifierFeatures(Features):
    """The activations before the last layer of a `Classifier` of the reference's own labels.

    It is fitted to nine tenths of the reference, the same way every time, on the CPU, at a
    learning rate that falls to zero; the other tenth, at most 5,000, judges it. What was fitted
    is kept in the user's cache by the reference's content.
    """

    summary = "a small classifier of the reference set's own labels, fitted to it once"
    preprocessing = f"averaged down to a side of {_SIDE} where larger; 8 bits to [−1, 1]"

    def __init__(self, request: Request) -> None:
        reference = request.reference
        if reference.labels is None or (reference.classes or 0) < 2:
            raise NotAvailable(
                f"{reference.name} has no labels of two or more classes to fit a classifier to: "
                "take `features` inception or pixels."
            )
        if len(reference) < _FEWEST:
            raise NotAvailable(
                f"{reference.name} has {len(reference)} images: a classifier needs {_FEWEST}."
            )
        self._device = request.device
        self._fitted = _fitted(reference, request.note)
        self._model = self._fitted.model.to(request.device)

    @property
    def sha256(self) -> str:
        """Of the weights, the preprocessing and the version of this method."""
        text = f"{_METHOD} {self._fitted.sha256} {self.preprocessing}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def details(self) -> dict[str, float | str]:
        """The share of held-out images that it classifies rightly, and how many they are."""
        held_out = float(self._fitted.held_out)
        return {"held-out accuracy": self._fitted.accuracy, "held-out images": held_out}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Returns features and probabilities: uint8 (n, C, H, W) -> (n, 64), (n, classes)."""
        x = (_shrunk(images).float() / 127.5 - 1).to(self._device)
        features = self._model.trunk(x)
        return Extracted(features.cpu(), self._model.head(features).softmax(1).cpu())


class _Fitted(NamedTuple):
    model: Classifier
    accuracy: float
    held_out: int
    sha256: str


def _fitted(reference: ImageSet, note: Note) -> _Fitted:
    """Returns the classifier of a reference from the cache, fitting it first where it must."""
    text = f"{_METHOD} {reference.sha256}"
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    file = cache_folder() / "features" / f"classifier-{key}.safetensors"
    fitted = _read(file, reference)
    if fitted is not None:
        return fitted
    again = f"{file} is damaged or foreign, so it" if os.access(file, os.F_OK) else "It"
    note(f"{again} fits a classifier to {reference.name}, once: up to a minute or two.")
    fitted = _judged(reference)
    try:
        _write(file, fitted, reference)
    except RunError as error:
        note(f"Goes on without keeping the classifier: {error}")
    return fitted


def _judged(reference: ImageSet) -> _Fitted:
    """Fits a classifier to nine tenths of a reference and judges it by the rest."""
    assert reference.classes is not None
    part = _part(reference)
    n, shape = len(part.images), part.images.shape[1:]
    count = min(_MOST_HELD_OUT, max(1, round(_HELD_OUT * n)))
    order = torch.randperm(n, generator=generator(_SEED, "held out", n))
    fitted, held_out = (ImageView(part, index) for index in (order[count:], order[:count]))
    model = _fit(fitted, shape, reference.classes, _SEED, lambda step: 2e-3 * (1 - step / _STEPS))
    with torch.no_grad():
        parts = (torch.arange(start, stop) for start, stop in spans(count, 1024))
        guesses = torch.cat([model(held_out.rows(rows)).argmax(1) for rows in parts])
    accuracy = float((guesses == held_out.head_labels()).double().mean())
    return _Fitted(model, accuracy, count, _sha256(model))


def _part(reference: ImageSet, most_bytes: int = _MOST_BYTES) -> Part:
    """Returns the images to fit to, small, evenly spaced where there are too many."""
    assert reference.labels is not None
    size = len(reference) * math.prod(_small(reference.shape))
    stride, offset, kept = math.ceil(size / most_bytes), 0, []
    for block in reference.blocks():
        kept.append(_shrunk(block[-offset % stride :: stride]))
        offset += len(block)
    return Part(torch.cat(kept).numpy(), reference.labels[::stride].numpy())


def _small(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns (C, H, W) with neither side above 32."""
    channels, height, width = shape
    scale = min(1.0, _SIDE / max(height, width))
    return channels, max(1, round(scale * height)), max(1, round(scale * width))


def _shrunk(images: Tensor) -> Tensor:
    """Returns the images with their means over areas as pixels, where they are too large."""
    channels, height, width = _small(tuple(images.shape[1:]))
    if images.shape[1:] == (channels, height, width):
        return images
    return F.adaptive_avg_pool2d(images.float(), (height, width)).round().to(torch.uint8)


def _sha256(model: Classifier) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _write(file: Path, fitted: _Fitted, reference: ImageSet) -> None:
    metadata = {
        "format": 1,
        "method": _METHOD,
        "reference": reference.sha256,
        "accuracy": fitted.accuracy,
        "held_out": fitted.held_out,
        "sha256": fitted.sha256,
    }
    write_weights(file, fitted.model.state_dict(), metadata)


def _read(file: Path, reference: ImageSet) -> _Fitted | None:
    """Returns what a file of the cache holds; None where it is missing, damaged or foreign."""
    assert reference.classes is not None
    with torch.random.fork_rng(devices=[]):
        model = Classifier(_small(reference.shape), reference.classes)
    try:
        tensors, told = read_weights(file)
        model.load_state_dict(tensors)
        model.eval().requires_grad_(False)
        fitted = _Fitted(model, float(told["accuracy"]), int(told["held_out"]), _sha256(model))
        ours = (told["method"], told["reference"]) == (_METHOD, reference.sha256)
        return fitted if ours and told["sha256"] == fitted.sha256 else None
    except (RunError, RuntimeError, KeyError, TypeError, ValueError):
        return None
