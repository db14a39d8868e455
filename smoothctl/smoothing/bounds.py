"""What the two stages say of the probability of data: bounds, and the exact integral over x̃."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.errors import NotAvailable
from smoothctl.kernels.base import Kernel
from smoothctl.smoothing.batching import evaluate, evaluate_kept, rows_that_fit, spans
from smoothctl.storage.partial import NOWHERE, Parts

__all__ = ["BoundTerms", "Bounds"]

_LATENT_ROWS = 2**14
_NOISE_ROWS = 2**16
_NOISE_VALUES = 2**20
"""How much noise is drawn at once: a constant, so that free memory doesn't change the result."""


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


@dataclass(frozen=True)
class Bounds:
    """log p(x) of p(x) = ∫ p(x̃) p(x|x̃) dx̃, a smoothed prior and a denoiser (ARDS section 3).

    A stage that is `bounded` is estimated by one draw of its latent variables. Since that estimate
    of its probability is unbiased, what is a bound stays one; it is looser.

    Args:
        kernel: the smoothing kernel q(x̃|x) that both stages were fitted with.
        prior: the density of smoothed data p(x̃).
        denoiser: the conditional density p(x|x̃); None before it is fitted.
        processes: those that share the work. Each draws the same noise, evaluates its share of the
            rows, and gets the results of all.
        parts: keeps what was evaluated of one set of examples with one seed, so that work that was
            stopped goes on; `bounded` stages are evaluated anew.
    """

    kernel: Kernel
    prior: Density
    denoiser: Density | None = None
    processes: Processes = ALONE
    parts: Parts = NOWHERE

    @property
    def tractable(self) -> bool:
        """Whether the densities of all stages that there are can be had."""
        return self.prior.tractable and (self.denoiser is None or self.denoiser.tractable)

    @property
    def classes(self) -> int | None:
        """Number of classes that a stage is conditioned on; None where neither is."""
        stages = [stage for stage in (self.prior, self.denoiser) if stage is not None]
        return next((stage.classes for stage in stages if stage.classes is not None), None)

    def bound(
        self, x: Tensor, generator: Generator | None = None, labels: Tensor | None = None
    ) -> BoundTerms:
        """Returns a lower bound of log p(x) in expectation, from one draw of x̃ (ARDS eq. 3).

        log p(x) ≥ E_q[log p(x̃) − log q(x̃|x) + log p(x|x̃)].

        Args:
            x: clean samples, (batch, *event).
            generator: draws the noise.
            labels: classes, int64 (batch,), where a stage is conditioned on them.
        """
        x_smooth = self.kernel.sample(x, generator)
        prior = self._log_prob("bound-prior", self.prior, labels, generator, x_smooth)
        entropy = torch.full_like(prior, self.kernel.entropy(x.shape[1:]))
        given = (self._denoiser(), labels, generator)
        denoiser = self._log_prob("bound-denoiser", *given, x, x_smooth)
        return BoundTerms(prior, entropy, denoiser)

    def importance_weighted_bound(
        self,
        x: Tensor,
        draws: int,
        generator: Generator | None = None,
        progress: Progress | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        r"""Returns the tighter bound log 1/K Σₖ p(x̃ₖ) p(x|x̃ₖ) / q(x̃ₖ|x), in nats, (batch,).

        Its expectation rises with K towards log p(x) (Burda et al. 2016, eq. 8); K = 1 is the
        single-draw bound with the sampled instead of the exact kernel entropy.

        Args:
            x: clean samples, (batch, *event).
            draws: K, the draws of x̃ for each x.
            generator: draws the noise.
            progress: told (rows done, rows).
            labels: classes, int64 (batch,), where a stage is conditioned on them.
        """
        return self.importance_weighted_bounds(x, [draws], generator, progress, labels)[0]

    @torch.no_grad()
    def importance_weighted_bounds(
        self,
        x: Tensor,
        draws: Sequence[int],
        generator: Generator | None = None,
        progress: Progress | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns `importance_weighted_bound` for several K from the same draws of x̃.

        For fewer than the largest K the draws are cut into groups of K, whose bounds are averaged.

        Args:
            x: clean samples, (batch, *event).
            draws: the values of K.
            generator: draws the noise.
            progress: told (rows done, rows).
            labels: classes, int64 (batch,), where a stage is conditioned on them.

        Returns:
            In nats, (len(draws), batch).
        """
        most = max(draws)
        block = max(1, min(_NOISE_ROWS, _NOISE_VALUES // x[0].numel()))
        results = []
        for start, stop in spans(len(x), max(1, block // most)):
            given = None if labels is None else labels[start:stop]
            parts = [
                self._log_weights(
                    f"{start:08d}-{first:08d}", x[start:stop], last - first, generator, given
                )
                for first, last in spans(most, block)
            ]
            log_weights = torch.cat(parts, dim=1)
            results.append(torch.stack([_grouped(log_weights, count) for count in draws]))
            if progress is not None:
                progress(stop, len(x))
        return torch.cat(results, dim=1)

    def _log_weights(
        self, name: str, x: Tensor, draws: int, generator: Generator | None, labels: Tensor | None
    ) -> Tensor:
        """Returns log p(x̃ₖ) p(x|x̃ₖ) / q(x̃ₖ|x) of fresh draws: (batch, *event) -> (batch, K)."""
        repeat = partial(torch.repeat_interleave, repeats=draws, dim=0)
        rows = repeat(x)
        x_smooth = self.kernel.sample(rows, generator)
        given = None if labels is None else repeat(labels)
        log_joint = self._log_joint(f"weights-{name}", rows, x_smooth, generator, given)
        return (log_joint - self.kernel.log_prob(x_smooth, rows)).view(len(x), draws)

    @torch.no_grad()
    def log_prob_by_quadrature(
        self,
        x: Tensor,
        reach: float = 8.0,
        points: int | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Returns log ∫ p(x̃) p(x|x̃) dx̃ in nats by the trapezoid rule, (batch,).

        The truth for both bounds, for events of one or two dimensions.

        Args:
            x: clean samples, (batch, D) with D ≤ 2.
            reach: half the side of the square of x̃ around each x, in units of σ.
            points: grid points along each side; 801 in one dimension and 121 in two if None.
            progress: told (rows done, rows).

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
        results = []
        for start, stop in spans(len(x), max(1, _NOISE_ROWS // len(offsets))):
            rows = x[start:stop].repeat_interleave(len(offsets), dim=0)
            x_smooth = rows + offsets.repeat(stop - start, 1)
            log_joint = self._log_joint(f"quadrature-{start:08d}", rows, x_smooth, None)
            results.append(log_joint.view(stop - start, -1).logsumexp(1) + log_cell)
            if progress is not None:
                progress(stop, len(x))
        return torch.cat(results)

    def _log_joint(
        self,
        name: str,
        x: Tensor,
        x_smooth: Tensor,
        generator: Generator | None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns log p(x̃) + log p(x|x̃) of each row."""
        prior = self._log_prob(f"{name}-prior", self.prior, labels, generator, x_smooth)
        given = (self._denoiser(), labels, generator)
        return prior + self._log_prob(f"{name}-denoiser", *given, x, x_smooth)

    def _log_prob(
        self,
        name: str,
        density: Density,
        labels: Tensor | None,
        generator: Generator | None,
        *tensors: Tensor,
    ) -> Tensor:
        """Evaluates a log-density, as many rows at a time as fit, shared among the processes.

        The name is that of the evaluation among the parts that are kept. Latent variables are drawn
        alike in all processes.
        """
        given, rows = density.given(labels), rows_that_fit(density)
        if density.bounded:
            estimate = partial(density.bound, generator=generator)
            return evaluate(estimate, _LATENT_ROWS, *tensors, **given)
        keep = (self.parts, name, self.processes)
        return evaluate_kept(*keep, density.log_prob, rows, *tensors, **given)

    def _denoiser(self) -> Density:
        if self.denoiser is None:
            raise NotAvailable("This needs the second stage: fit a denoiser first.")
        return self.denoiser


def _grouped(log_weights: Tensor, count: int) -> Tensor:
    """Returns the mean over groups of `count` draws of log 1/K Σₖ: (batch, draws) -> (batch,)."""
    whole = log_weights.shape[1] // count * count
    groups = log_weights[:, :whole].unflatten(1, (-1, count))
    bounds: Tensor = groups.logsumexp(2) - math.log(count)
    return bounds.mean(1)
