"""The contract of datasets."""

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from smoothctl.datasets.base import Dataset
from smoothctl.errors import NotAvailable

__all__ = ["DatasetContract"]


class DatasetContract:
    """What every dataset must fulfil; set `dataset_class`, or define `open`."""

    dataset_class: ClassVar[type[Dataset]]

    def open(self) -> Dataset:
        """Returns the dataset, opened anew."""
        return self.dataset_class()

    @pytest.fixture
    def dataset(self) -> Dataset:
        """The dataset."""
        return self.open()

    def test_it_says_what_it_is(self, dataset: Dataset) -> None:
        """Name, summary, source and licence are there."""
        assert dataset.name
        assert dataset.name.isprintable()
        for text in (dataset.summary, dataset.source, dataset.licence):
            assert len(text) > 2

    @pytest.mark.parametrize("view", ["train", "validation", "test"])
    def test_views_hold_events(self, dataset: Dataset, view: str) -> None:
        """Every view gives finite rows of the event's shape."""
        examples = getattr(dataset, view)
        assert len(examples) > 0
        x = examples.head(50)
        assert tuple(x.shape[1:]) == dataset.event_shape
        assert len(dataset.event_shape) == {"vector": 1, "image": 3}[dataset.domain]
        assert x.is_floating_point()
        assert x.isfinite().all()
        if dataset.levels is not None:
            assert torch.allclose(_to_grid(x, dataset.levels), x, atol=1e-6)

    @pytest.mark.parametrize("view", ["train", "validation", "test"])
    def test_an_epoch_is_a_function_of_its_seed(self, dataset: Dataset, view: str) -> None:
        """A fit that was killed sees the same batches when it starts again."""
        examples, again = getattr(dataset, view), getattr(self.open(), view)
        stop = min(20, len(examples))
        first = examples.batch(3, 1, 0, stop)
        examples.batch(3, 2, 0, 1)
        assert torch.equal(first, examples.batch(3, 1, 0, stop))
        assert torch.equal(first, again.batch(3, 1, 0, stop))
        assert not torch.equal(first, examples.batch(4, 1, 0, stop))
        assert not torch.equal(first, examples.batch(3, 0, 0, stop))
        assert torch.equal(examples.head(10), again.head(10))

    def test_parts_of_a_batch_join(self, dataset: Dataset) -> None:
        """Processes that read a part each see one batch together."""
        parts = [dataset.train.batch(0, 0, a, b) for a, b in ((0, 7), (7, 12))]
        assert torch.equal(torch.cat(parts), dataset.train.batch(0, 0, 0, 12))

    def test_views_share_no_examples(self, dataset: Dataset) -> None:
        """What is scored was not fitted, as long as no example occurs twice by nature."""
        if dataset.levels is not None:
            pytest.skip("images may repeat")
        views = [view.head(500) for view in (dataset.train, dataset.validation, dataset.test)]
        for i, a in enumerate(views):
            for b in views[i + 1 :]:
                assert not (a[:, None] == b[None]).flatten(2).all(-1).any()

    def test_labels_are_classes(self, dataset: Dataset) -> None:
        """Labels are there exactly where classes are, and lie among them."""
        if dataset.classes is None:
            with pytest.raises(NotAvailable):
                dataset.train.labels(0, 0, 0, 5)
            return
        labels = dataset.train.labels(0, 0, 0, 50)
        assert labels.dtype == torch.int64
        assert ((labels >= 0) & (labels < dataset.classes)).all()

    def test_the_true_density_is_that_of_the_data(self, dataset: Dataset) -> None:
        """E[−log p] over true samples is the true entropy, where both are known."""
        x = dataset.reference(20_000, seed=1)
        try:
            nats = -dataset.true_log_prob(x)
            entropy = dataset.true_entropy()
        except NotAvailable as reason:
            pytest.skip(str(reason))
        assert nats.shape == (len(x),)
        error = nats.std().item() / math.sqrt(len(x))
        assert nats.mean().item() == pytest.approx(entropy, abs=5 * error + 1e-6)

    def test_true_samples_are_on_the_support(self, dataset: Dataset) -> None:
        """True samples lie on the support but for half a percent, and far ones off it."""
        x = dataset.reference(5000, seed=1)
        try:
            off = dataset.off_support(x)
        except NotAvailable as reason:
            pytest.skip(str(reason))
        assert off.double().mean().item() < 0.005
        assert dataset.off_support(x[:3] + 1000).all()

    def test_references_differ_by_seed(self, dataset: Dataset) -> None:
        """The floor of a statistic has a seed."""
        a, b, c = (dataset.reference(50, seed) for seed in (1, 1, 2))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def _to_grid(x: Tensor, levels: int) -> Tensor:
    step = 2 / (levels - 1)
    return ((x + 1) / step).round() * step - 1
