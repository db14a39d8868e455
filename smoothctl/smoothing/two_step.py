"""The method: a kernel, a prior over smoothed data, and a denoiser that sharpens samples again."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Progress
from smoothctl.errors import NotAvailable
from smoothctl.smoothing import batching
from smoothctl.smoothing.batching import evaluate, in_batches, part_of, rows_that_fit
from smoothctl.smoothing.bounds import Bounds, BoundTerms

__all__ = ["BoundTerms", "TwoStep"]


@dataclass(frozen=True)
class TwoStep(Bounds):
    """p(x) = ∫ p(x̃) p(x|x̃) dx̃: a smoothed prior and a denoiser (ARDS section 3).

    Likelihoods and the arguments are those of `Bounds`; here are samples, and what starts from
    given ones. Several processes share the batches of images that are drawn.
    """

    def sample_smoothed(
        self,
        n: int,
        generator: Generator | None = None,
        progress: Progress | None = None,
        labels: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draws x̃ ~ p(x̃) from the prior alone: (n, *event).

        Args:
            n: how many.
            generator: draws the samples.
            progress: told (done, total).
            labels: classes, int64 (n,), where a stage is conditioned on them.
            batch_size: images at once, which does not change them; chosen from memory if None.
        """
        rest = (labels, batch_size, self.processes)
        return batching.sample(self.prior, n, None, generator, progress, *rest)

    def single_step(self, x_smooth: Tensor, labels: Tensor | None = None) -> Tensor:
        """Denoises in one step with the posterior mean E[x | x̃] (ARDS eq. 2).

        Args:
            x_smooth: smoothed samples, (batch, *event), in data units.
            labels: classes, int64 (batch,), where the prior is conditioned on them.

        Returns:
            The posterior means, same shape. Not clamped to the data range.

        Raises:
            NotAvailable: the kernel's posterior mean needs an exactly known density, or more
                evaluations than an image allows.
        """
        if self.prior.tractable:
            self.check_single_step()
        if not len(x_smooth):
            return x_smooth

        rows = rows_that_fit(self.prior, gradient=True)
        if self.prior.domain == "vector":
            return evaluate(self._posterior_mean, rows, x_smooth, labels=labels)

        def means(start: int, stop: int, _: Progress | None) -> Tensor:
            given = None if labels is None else labels[start:stop]
            return self._posterior_mean(x_smooth[start:stop], given)

        size = self.processes.first(min(rows, batching.most_images(x_smooth.device)))
        found = in_batches(means, len(x_smooth), size, processes=self.processes)
        return found.to(x_smooth.device)

    def check_single_step(self) -> None:
        """Checks that `single_step` can be had.

        Raises:
            NotAvailable: see `single_step`.
        """
        if not self.prior.tractable:
            self._posterior_mean(self._probe())
            return
        name = self.kernel.name
        if self.kernel.exact_density_only:
            raise NotAvailable(
                f"Single-step denoising is not available for {name} with a fitted prior: "
                f"{self.kernel.exact_density_only}."
            )
        if self.kernel.by_coordinate and self.prior.domain == "image":
            raise NotAvailable(
                f"Single-step denoising of images is not available for {name}: its posterior mean "
                "needs hundreds of evaluations a pixel; two-step denoising is."
            )

    def denoise(
        self,
        x_smooth: Tensor,
        generator: Generator | None = None,
        progress: Progress | None = None,
        labels: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draws one x ~ p(x|x̃) for every smoothed sample: shape of `x_smooth`.

        The other arguments are those of `sample_smoothed`.
        """
        denoiser, n = self._denoiser(), len(x_smooth)
        rest = (labels, batch_size, self.processes)
        return batching.sample(denoiser, n, x_smooth, generator, progress, *rest)

    def sample(
        self,
        n: int,
        generator: Generator | None = None,
        progress: Progress | None = None,
        labels: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draws x̃ ~ p(x̃), then x ~ p(x|x̃) (ARDS section 3.2): (n, *event).

        The arguments are those of `sample_smoothed`.
        """
        self._denoiser()
        first, second = (part_of(progress, part, 2) for part in range(2))
        x_smooth = self.sample_smoothed(n, generator, first, labels, batch_size)
        return self.denoise(x_smooth, generator, second, labels, batch_size)

    def inpaint_smoothed(
        self,
        x: Tensor,
        known: Tensor,
        generator: Generator | None = None,
        progress: Progress | None = None,
        labels: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Smooths what is known of x, and completes x̃ with the prior: see `inpaint`."""
        noisy, rest = self.kernel.sample(x, generator), (labels, batch_size)
        return batching.complete(self.prior, noisy, known, None, generator, progress, *rest)

    def inpaint(
        self,
        x: Tensor,
        known: Tensor,
        generator: Generator | None = None,
        progress: Progress | None = None,
        labels: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draws what is missing of x (ARDS appendix C.2).

        The known coordinates are smoothed with the kernel, the prior completes x̃, and the
        denoiser completes x given all of x̃.

        Args:
            x: clean samples, (batch, *event); what is not known is ignored.
            known: bool, True where x is kept exactly; (1 or batch, 1, H, W) for images.
            generator: draws noise and samples.
            progress: told (done, total).
            labels: classes, int64 (batch,), where a stage is conditioned on them.
            batch_size: images at once, which does not change them; chosen from memory if None.

        Returns:
            Shape of x.

        Raises:
            NotAvailable: there is no denoiser, or a stage cannot complete.
        """
        denoiser = self._denoiser()
        first, second = (part_of(progress, part, 2) for part in range(2))
        rest = (labels, batch_size)
        x_smooth = self.inpaint_smoothed(x, known, generator, first, *rest)
        return batching.complete(denoiser, x, known, x_smooth, generator, second, *rest)

    def _posterior_mean(self, x_smooth: Tensor, labels: Tensor | None = None) -> Tensor:
        given = self.prior.given(labels)
        if not self.prior.tractable:
            score = self.prior.score(x_smooth, **given)
            return self.kernel.posterior_mean_from_score(x_smooth, score)
        return self.kernel.posterior_mean(x_smooth, partial(self.prior.log_prob, **given))

    def _probe(self) -> Tensor:
        """Returns one event of zeros, like those of the prior."""
        like = next(self.prior.parameters(), torch.empty(0))
        return like.new_zeros(1, *self.prior.event_shape)
