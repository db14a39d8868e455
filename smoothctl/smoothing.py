"""The method: a kernel, a prior over smoothed data, and a denoiser that sharpens samples again."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.errors import NotAvailable
from smoothctl.kernels.base import Kernel

__all__ = ["BoundTerms", "TwoStep"]

_ROWS = 2**16
"""Evaluations of a network per call, so that memory stays bounded."""


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
class TwoStep:
    """p(x) = ∫ p(x̃) p(x|x̃) dx̃: a smoothed prior and a denoiser (ARDS section 3).

    Args:
        kernel: the smoothing kernel q(x̃|x) that both stages were fitted with.
        prior: the density of smoothed data p(x̃).
        denoiser: the conditional density p(x|x̃); None before it is fitted.
    """

    kernel: Kernel
    prior: Density
    denoiser: Density | None = None

    def bound(self, x: Tensor, generator: Generator | None = None) -> BoundTerms:
        """Returns a lower bound of log p(x) in expectation, from one draw of x̃ (ARDS eq. 3).

        log p(x) ≥ E_q[log p(x̃) − log q(x̃|x) + log p(x|x̃)].

        Args:
            x: clean samples, (batch, *event).
            generator: draws the noise.
        """
        denoiser = self._denoiser()
        x_smooth = self.kernel.sample(x, generator)
        prior = _by_rows(self.prior.log_prob, x_smooth)
        entropy = torch.full_like(prior, self.kernel.entropy(x.shape[1:]))
        return BoundTerms(prior, entropy, _by_rows(denoiser.log_prob, x, x_smooth))

    @torch.no_grad()
    def importance_weighted_bound(
        self,
        x: Tensor,
        draws: int,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        r"""Returns the tighter bound log 1/K Σₖ p(x̃ₖ) p(x|x̃ₖ) / q(x̃ₖ|x), in nats, (batch,).

        Its expectation rises with K towards log p(x) (Burda et al. 2016, eq. 8); K = 1 is the
        single-draw bound with the sampled instead of the exact kernel entropy.

        Args:
            x: clean samples, (batch, *event).
            draws: K, the draws of x̃ for each x.
            generator: draws the noise.
            progress: told (rows done, rows).
        """
        denoiser = self._denoiser()
        results = []
        for start, stop in _chunks(len(x), max(1, _ROWS // draws)):
            parts = []
            for first, last in _chunks(draws, _ROWS):
                rows = x[start:stop].repeat_interleave(last - first, dim=0)
                x_smooth = self.kernel.sample(rows, generator)
                log_weight = self.prior.log_prob(x_smooth) + denoiser.log_prob(rows, x_smooth)
                log_weight = log_weight - self.kernel.log_prob(x_smooth, rows)
                parts.append(log_weight.view(stop - start, -1))
            results.append(torch.cat(parts, dim=1).logsumexp(1) - math.log(draws))
            if progress is not None:
                progress(stop, len(x))
        return torch.cat(results)

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
            NotAvailable: the event has more than two dimensions.
        """
        denoiser = self._denoiser()
        if x.ndim != 2 or x.shape[1] > 2:
            raise NotAvailable(
                "Quadrature over x̃ is for one and two dimensions; use the importance-weighted "
                "bound for more."
            )
        count = points or (801 if x.shape[1] == 1 else 121)
        side = torch.linspace(-reach, reach, count, dtype=x.dtype, device=x.device)
        offsets = self.kernel.sigma * torch.cartesian_prod(*[side] * x.shape[1])
        offsets = offsets.view(-1, x.shape[1])
        log_cell = x.shape[1] * math.log(self.kernel.sigma * 2 * reach / (count - 1))
        results = []
        for start, stop in _chunks(len(x), max(1, _ROWS // len(offsets))):
            rows = x[start:stop].repeat_interleave(len(offsets), dim=0)
            x_smooth = rows + offsets.repeat(stop - start, 1)
            log_joint = self.prior.log_prob(x_smooth) + denoiser.log_prob(rows, x_smooth)
            results.append(log_joint.view(stop - start, -1).logsumexp(1) + log_cell)
            if progress is not None:
                progress(stop, len(x))
        return torch.cat(results)

    def sample_smoothed(
        self, n: int, generator: Generator | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Draws x̃ ~ p(x̃) from the prior alone: (n, *event)."""
        return self.prior.sample(n, generator=generator, progress=progress)

    def single_step(self, x_smooth: Tensor) -> Tensor:
        """Denoises in one step with the posterior mean E[x | x̃] (ARDS eq. 2).

        Args:
            x_smooth: smoothed samples, (batch, *event), in data units.

        Returns:
            The posterior means, same shape. Not clamped to the data range.

        Raises:
            NotAvailable: the kernel's posterior mean needs an exactly known density.
        """
        if self.kernel.exact_density_only:
            raise NotAvailable(
                f"Single-step denoising is not available for {type(self.kernel).__name__} with a "
                f"fitted prior: {self.kernel.exact_density_only}."
            )
        steps = _chunks(len(x_smooth), _ROWS)
        means = [self.kernel.posterior_mean(x_smooth[a:b], self.prior.log_prob) for a, b in steps]
        return torch.cat(means) if means else x_smooth

    def denoise(
        self, x_smooth: Tensor, generator: Generator | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Draws one x ~ p(x|x̃) for every smoothed sample: shape of `x_smooth`."""
        return self._denoiser().sample(
            len(x_smooth), context=x_smooth, generator=generator, progress=progress
        )

    def sample(
        self, n: int, generator: Generator | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Draws x̃ ~ p(x̃), then x ~ p(x|x̃) (ARDS section 3.2): (n, *event)."""
        return self.denoise(self.sample_smoothed(n, generator, progress), generator, progress)

    def _denoiser(self) -> Density:
        if self.denoiser is None:
            raise NotAvailable("This needs the second stage: fit a denoiser first.")
        return self.denoiser


def _chunks(total: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, total)) for start in range(0, total, size))


def _by_rows(log_prob: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Evaluates in chunks of rows and joins the results."""
    if len(tensors[0]) <= _ROWS:
        return log_prob(*tensors)
    steps = _chunks(len(tensors[0]), _ROWS)
    return torch.cat([log_prob(*(t[start:stop] for t in tensors)) for start, stop in steps])
