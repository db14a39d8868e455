"""What the two stages say of the probability of data: bounds, and the exact integral over x̃."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.kernels.base import Kernel
from smoothctl.smoothing.batching import (
    AT_ONCE,
    Execution,
    evaluate,
    evaluate_long,
    rows_that_fit,
    spans,
)

__all__ = ["BoundTerms", "Bounds", "check_draws", "latent_bound"]

_LATENT_ROWS = 2**14
_NOISE_ROWS = 2**16
_NOISE_VALUES = 2**20
"""How much noise is drawn at once: a constant, so that free memory doesn't change the result."""

_MOST_DRAWS = 2**20
"""Of x̃ for one x: the weights of all of them are held at once."""


class BoundTerms(NamedTuple):
    """The three terms of the bound for each example, in nats, each of shape (batch,)."""

    prior: Tensor
    """log p(x̃) of one draw x̃ ~ q(x̃|x)."""

    entropy: Tensor
    """H(q(x̃|x)) = −E log q(x̃|x), in closed form."""

    denoiser: Tensor
    """log p(x|x̃) of the same draw."""

    @property
    def total(self) -> Tensor:
        """The bound itself, (batch,)."""
        return self.prior + self.entropy + self.denoiser


def check_draws(draws: Sequence[int]) -> None:
    """Checks the numbers of draws of importance-weighted bounds.

    Raises:
        UsageError: one is below 1, or so large that its weights would fill the memory.
    """
    if min(draws) < 1 or max(draws) > _MOST_DRAWS:
        raise UsageError(
            f"An importance-weighted bound takes 1 to {_MOST_DRAWS:,} draws: choose other `draws`."
        )


def latent_bound(density: Density, x: Tensor, draws: int, generator: Generator) -> Tensor:
    """Returns `Density.bound` of many draws, a part of the latent variables at a time: (batch,)."""
    parts = [
        density.bound(x, draws=stop - start, generator=generator) + math.log((stop - start) / draws)
        for start, stop in spans(draws, _LATENT_ROWS)
    ]
    return parts[0] if len(parts) == 1 else torch.stack(parts).logsumexp(0)


class Bounds(ABC):
    """log p(x) of p(x) = ∫ p(x̃) p(x|x̃) dx̃, a smoothed prior and a denoiser (ARDS section 3).

    A stage that is `bounded` is estimated by one draw of its latent variables. Since that estimate
    of its probability is unbiased, what is a bound stays one; it is looser.

    Processes that share the work draw the same noise and evaluate a share of the rows each. What is
    kept of it is that of one set of examples with one seed; `bounded` stages are evaluated anew.
    """

    kernel: Kernel
    prior: Density
    denoiser: Density | None

    @abstractmethod
    def checked_denoiser(self) -> Density:
        """Returns the denoiser."""

    @abstractmethod
    def labels_for(self, stage: Density, labels: Tensor | None) -> Tensor | None:
        """Returns the labels where a stage has classes."""

    @property
    def tractable(self) -> bool:
        """Whether the densities of all stages that there are can be had."""
        return self.prior.tractable and (self.denoiser is None or self.denoiser.tractable)

    def bound(
        self,
        x: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> BoundTerms:
        """Returns a lower bound of log p(x) in expectation, from one draw of x̃ (ARDS eq. 3).

        log p(x) ≥ E_q[log p(x̃) − log q(x̃|x) + log p(x|x̃)].

        Args:
            x: clean samples, (batch, *event).
            labels: classes, int64 (batch,), where a stage is conditioned on them.
            generator: draws the noise.
            execution: how the stages are evaluated.
        """
        quiet = replace(execution, progress=None)
        x_smooth = self.kernel.sample(x, generator)
        smoothed, clean = (x_smooth, None, labels), (x, x_smooth, labels)
        prior = self._log_prob("bound-prior", self.prior, smoothed, generator, quiet)
        entropy = torch.full_like(prior, self.kernel.entropy(x.shape[1:]))
        denoiser = self._log_prob(
            "bound-denoiser", self.checked_denoiser(), clean, generator, quiet
        )
        return BoundTerms(prior, entropy, denoiser)

    def importance_weighted_bound(
        self,
        x: Tensor,
        draws: int,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> Tensor:
        r"""Returns the tighter bound log 1/K Σₖ p(x̃ₖ) p(x|x̃ₖ) / q(x̃ₖ|x), in nats, (batch,).

        Its expectation rises with K towards log p(x) (Burda et al. 2016, eq. 8); K = 1 is the
        single-draw bound with the sampled instead of the exact kernel entropy.

        Args:
            x: clean samples, (batch, *event).
            draws: K, the draws of x̃ for each x.
            labels: classes, int64 (batch,), where a stage is conditioned on them.
            generator: draws the noise.
            execution: how the stages are evaluated.
        """
        return self.importance_weighted_bounds(x, [draws], labels, generator, execution)[0]

    @torch.no_grad()
    def importance_weighted_bounds(
        self,
        x: Tensor,
        draws: Sequence[int],
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> Tensor:
        """Returns `importance_weighted_bound` for several K from the same draws of x̃.

        For fewer than the largest K the draws are cut into groups of K, whose bounds are averaged.

        Args:
            x: clean samples, (batch, *event).
            draws: the values of K.
            labels: classes, int64 (batch,), where a stage is conditioned on them.
            generator: draws the noise.
            execution: how the stages are evaluated.

        Returns:
            In nats, (len(draws), batch).

        Raises:
            UsageError: a number of draws below 1, or one whose weights would fill the memory.
        """
        check_draws(draws)
        most, quiet = max(draws), replace(execution, progress=None)
        block = max(1, min(_NOISE_ROWS, _NOISE_VALUES // x[0].numel()))
        results = []
        for start, stop in spans(len(x), max(1, block // most)):
            classes = None if labels is None else labels[start:stop]
            log_weights = []
            for first, last in spans(most, block):
                rows = x[start:stop].repeat_interleave(last - first, 0)
                given = None if classes is None else classes.repeat_interleave(last - first, 0)
                x_smooth = self.kernel.sample(rows, generator)
                name = f"weights-{start:08d}-{first:08d}"
                log_joint = self._log_joint(name, rows, x_smooth, given, generator, quiet)
                log_weight = log_joint - self.kernel.log_prob(x_smooth, rows)
                log_weights.append(log_weight.view(stop - start, last - first))
            every = torch.cat(log_weights, dim=1)
            results.append(torch.stack([_grouped(every, count) for count in draws]))
            if execution.progress is not None:
                execution.progress(stop, len(x))
        return torch.cat(results, dim=1)

    @torch.no_grad()
    def log_prob_by_quadrature(
        self,
        x: Tensor,
        reach: float = 8.0,
        points: int | None = None,
        execution: Execution = AT_ONCE,
    ) -> Tensor:
        """Returns log ∫ p(x̃) p(x|x̃) dx̃ in nats by the trapezoid rule, (batch,).

        The truth for both bounds, for events of one or two dimensions.

        Args:
            x: clean samples, (batch, D) with D ≤ 2.
            reach: half the side of the square of x̃ around each x, in units of σ.
            points: grid points along each side; 801 in one dimension and 121 in two if None.
            execution: how the stages are evaluated.

        Raises:
            NotAvailable: the event has more than two dimensions, or a stage's density is not known.
        """
        if not self.tractable:
            raise NotAvailable("Quadrature over x̃ needs the exact densities of both stages.")
        if x.ndim != 2 or x.shape[1] > 2:
            raise NotAvailable(
                "Quadrature over x̃ is for one and two dimensions; use the importance-weighted "
                "bound for more."
            )
        count = points or (801 if x.shape[1] == 1 else 121)
        side = torch.linspace(-reach, reach, count, dtype=x.dtype, device=x.device)
        deviations = self.kernel.deviations(x).expand(x.shape[1])
        offsets = deviations * torch.cartesian_prod(*[side] * x.shape[1]).view(-1, x.shape[1])
        log_cell = float(torch.log(deviations * 2 * reach / (count - 1)).sum())
        results, quiet = [], replace(execution, progress=None)
        for start, stop in spans(len(x), max(1, _NOISE_ROWS // len(offsets))):
            rows = x[start:stop].repeat_interleave(len(offsets), dim=0)
            x_smooth = rows + offsets.repeat(stop - start, 1)
            name = f"quadrature-{start:08d}"
            log_joint = self._log_joint(name, rows, x_smooth, None, None, quiet)
            results.append(log_joint.view(stop - start, -1).logsumexp(1) + log_cell)
            if execution.progress is not None:
                execution.progress(stop, len(x))
        return torch.cat(results)

    def _log_joint(
        self,
        name: str,
        x: Tensor,
        x_smooth: Tensor,
        labels: Tensor | None,
        generator: Generator | None,
        execution: Execution,
    ) -> Tensor:
        """Returns log p(x̃) + log p(x|x̃) of each row."""
        smoothed, clean = (x_smooth, None, labels), (x, x_smooth, labels)
        prior = self._log_prob(f"{name}-prior", self.prior, smoothed, generator, execution)
        denoiser = self.checked_denoiser()
        return prior + self._log_prob(f"{name}-denoiser", denoiser, clean, generator, execution)

    def _log_prob(
        self,
        name: str,
        stage: Density,
        given: tuple[Tensor, Tensor | None, Tensor | None],
        generator: Generator | None,
        execution: Execution,
    ) -> Tensor:
        """Evaluates a stage's log-density of (x, context, labels), as many rows as fit at a time.

        The name is that of the evaluation among those that are kept. Latent variables are drawn
        alike in all processes.
        """
        x, context, labels = given
        tensors = (x, context, self.labels_for(stage, labels))
        if stage.bounded:
            return evaluate(partial(stage.bound, generator=generator), _LATENT_ROWS, *tensors)
        rows = rows_that_fit(stage)
        return evaluate_long(name, stage.log_prob, rows, *tensors, execution=execution)


def _grouped(log_weights: Tensor, count: int) -> Tensor:
    """Returns the mean over groups of `count` draws of log 1/K Σₖ: (batch, draws) -> (batch,)."""
    whole = log_weights.shape[1] // count * count
    groups = log_weights[:, :whole].unflatten(1, (-1, count))
    bounds: Tensor = groups.logsumexp(2) - math.log(count)
    return bounds.mean(1)
