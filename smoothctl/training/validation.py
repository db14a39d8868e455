"""The loss of held-out examples, the same however they are cut into micro-batches."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from smoothctl.datasets.base import View
from smoothctl.metrics.gain import GAIN_EXAMPLES, gain_from_context
from smoothctl.rng import generator
from smoothctl.smoothing.batching import spans
from smoothctl.training.batches import BatchSchedule
from smoothctl.training.step import Objective

__all__ = ["Validation"]

Loss = Callable[[Tensor, Tensor, Tensor | None, Generator, Tensor | None], Tensor]
"""Maps x, x̃, classes, what else is drawn and σ to the loss of each example, (batch,)."""

_BATCHES = 4
"""Batches of training whose examples fit into a pass without gradients."""


class Validation:
    """Validates on the first examples of a view, smoothed by the same noise every time.

    Args:
        objective: in evaluation mode.
        view: the examples to validate on.
        batches: knows how many of them, how they are smoothed, cut, and where they go.
    """

    def __init__(self, objective: Objective, view: View, batches: BatchSchedule) -> None:
        self.objective, self.batches, self.seed = objective, batches, batches.config.seed
        limit = batches.config.training.validation_limit
        self.examples = view.head(limit)
        self.labels = view.head_labels(limit) if batches.labelled else None

    @torch.no_grad()
    def loss(self) -> float:
        """Returns the mean loss of the objective's current weights, in nats."""
        draws, losses = generator(self.seed, "validation"), []
        sigmas = self.batches.sigmas(len(self.examples), "validation")
        for start, stop in spans(len(self.examples), _BATCHES * self.batches.batch_size):
            x, labels = self._examples(start, stop)
            sigma = None if sigmas is None else sigmas[start:stop]
            given = (x, self.batches.smooth(x, draws, sigma), labels, draws, sigma)
            losses.append(self._losses(self.objective, *given).double())
        return float(torch.cat(losses).mean())

    @torch.no_grad()
    def gain(self) -> float | None:
        """Returns the mean gain from x̃ of a denoiser's current weights, in nats.

        A loss that draws, a cascade's step for one, draws the same of x̃ and of its neighbour's.

        Returns:
            None for other stages, for a loss that is not in nats, and of a single example.
        """
        density = self.objective.density
        x, labels = self._examples(0, GAIN_EXAMPLES[density.domain])
        if self.objective.stage != "denoiser" or not density.loss_in_nats() or len(x) < 2:
            return None
        sigma = self.batches.sigmas(len(x), "gain")
        x_smooth = self.batches.smooth(x, generator(self.seed, "gain"), sigma)

        def log_prob(context: Tensor) -> Tensor:
            draws = generator(self.seed, "gain-draws")
            return -self._losses(self.objective, x, context, labels, draws, sigma)

        return float(gain_from_context(log_prob, x_smooth).double().mean())

    def _examples(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Returns examples and, where the density is conditioned on them, their classes."""
        labels = None if self.labels is None else self.labels[start:stop].to(self.batches.device)
        return self.batches.to_device(self.examples[start:stop]), labels

    def _losses(
        self,
        loss: Loss,
        x: Tensor,
        x_smooth: Tensor,
        labels: Tensor | None,
        draws: Generator,
        sigma: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each example, with as much at once as training may take."""
        losses = []
        for start, stop in spans(len(x), _BATCHES * self.batches.rows):
            cut = slice(start, stop)
            classes = None if labels is None else labels[cut]
            level = None if sigma is None else sigma[cut]
            losses.append(loss(x[cut], x_smooth[cut], classes, draws, level))
        return torch.cat(losses)
