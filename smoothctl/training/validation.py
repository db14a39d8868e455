"""The loss of held-out examples, the same however they are cut into passes."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from smoothctl.datasets.base import View
from smoothctl.metrics.gain import GAIN_EXAMPLES, gain_from_context
from smoothctl.rng import generator
from smoothctl.smoothing.batching import evaluate, spans
from smoothctl.training.batches import Feed, noise_of
from smoothctl.training.objectives import Objective

__all__ = ["Validation"]

_BATCHES = 4
"""Batches of training whose examples fit into a pass without gradients."""


class Validation:
    """Validates on the first examples of a view, smoothed by the same noise every time.

    Args:
        objective: density and kernel.
        view: the examples to validate on.
        limit: how many of them.
        feed: knows how they are cut and where they go.
        within: calls a function with the number of rows that a pass of training may take.
    """

    def __init__(
        self,
        objective: Objective,
        view: View,
        limit: int,
        feed: Feed,
        within: Callable[[Callable[[int], Tensor]], Tensor],
    ) -> None:
        self.objective, self.feed, self.within = objective, feed, within
        self.examples = view.head(limit)
        self.labels = view.head_labels(limit) if feed.labelled else None

    @torch.no_grad()
    def gain(self) -> float | None:
        """Returns the mean gain from x̃ of a denoiser's current weights, in nats.

        Returns:
            None for other stages, for a loss that is not in nats, and of a single example.
        """
        density = self.objective.density
        x = self.feed.to_device(self.examples[: GAIN_EXAMPLES[density.domain]])
        target, context = self.objective.pair(x, generator(self.feed.config.seed, "gain"))
        if context is None or not density.loss_in_nats() or len(x) < 2:
            return None
        labels = None if self.labels is None else self.labels[: len(x)].to(x.device)
        draws = generator(self.feed.config.seed, "gain-draws")

        def log_prob(x_smooth: Tensor) -> Tensor:
            loss = partial(density.training_loss, generator=draws)
            return self.within(
                lambda rows: -evaluate(loss, _BATCHES * rows, target, x_smooth, labels)
            )

        self.objective.eval()
        found = gain_from_context(log_prob, context)
        self.objective.train()
        return float(found.double().mean())

    @torch.no_grad()
    def loss(self) -> float:
        """Returns the mean loss of the objective's current weights, in nats."""
        self.objective.eval()
        losses = self.within(self._losses)
        self.objective.train()
        return float(losses.mean())

    def _losses(self, rows: int) -> Tensor:
        """Returns the loss of each example, with as much in a pass as `rows` rows of training."""
        source = generator(self.feed.config.seed, "validation")
        whole = spans(len(self.examples), _BATCHES * self.feed.whole)
        parts = [self._batch(start, stop, _BATCHES * rows, source) for start, stop in whole]
        return torch.cat(parts)

    def _batch(self, start: int, stop: int, rows: int, source: torch.Generator) -> Tensor:
        """Returns the losses of examples whose smoothing is drawn at once, in passes of `rows`."""
        x, noise = self.feed.to_device(self.examples[start:stop]), None
        labels = None if self.labels is None else self.labels[start:stop].to(x.device)
        if self.objective.kernel is not None and rows < len(x):
            noise = noise_of(self.objective.kernel, tuple(x.shape), x.dtype, source).to(x.device)
        losses = []
        for a, b in spans(len(x), rows):
            y, known = (None if t is None else t[a:b] for t in (labels, noise))
            losses.append(self.objective(x[a:b], source, y, known).double())
        return torch.cat(losses)
