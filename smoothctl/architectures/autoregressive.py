"""Autoregressive densities: the chain rule of probability, and what follows from it."""

from abc import abstractmethod

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress

__all__ = ["Autoregressive"]


class Autoregressive(Density):
    r"""log p(x | c) = Σᵢ log p(xᵢ | x₁ … xᵢ₋₁, c), each factor known by itself.

    A subclass defines the factors, `log_probs`, and draws them one after another in `inpaint`;
    likelihoods, samples and the weights of completions follow.
    """

    weighs_completions = True

    @abstractmethod
    def log_probs(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(xᵢ | x₁ … xᵢ₋₁, context) in nats for every i.

        Args:
            x: shape (batch, *event_shape); on the reals with `levels=None`, else on their grid.
            context: shape (batch, *context_shape), for a conditional model.
            labels: classes, int64 (batch,), for a class-conditional model.

        Returns:
            Shape (batch, D) of vectors; (batch, C, H, W) of images, or (batch, 1, H, W) where a
            factor is that of a whole pixel.

        Raises:
            UsageError: labels are missing, are no classes, or mean nothing to the model.
        """

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x | context) in nats, the sum of `log_probs`: (batch,)."""
        return self.log_probs(x, context, labels).flatten(1).sum(1)

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples, one factor after another: (n, *event_shape)."""
        blank = next(self.parameters()).new_zeros(n, *self.event_shape)
        known = torch.zeros(1, *self.mask_shape, dtype=torch.bool)
        return self.inpaint(blank, known, context, labels, generator, progress)

    def completion_log_weight(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns the sum of `log_probs` over what is known, which `inpaint` did not draw."""
        self.check_known(known, len(x))
        log_probs = self.log_probs(x, context, labels)
        return log_probs.where(known.to(x.device), 0.0).flatten(1).sum(1)
