"""The method: a kernel, a prior over smoothed data, and a denoiser that sharpens samples again."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.kernels.base import Kernel
from smoothctl.smoothing import batching
from smoothctl.smoothing.batching import AT_ONCE, Execution, evaluate, map_images, rows_that_fit
from smoothctl.smoothing.bounds import Bounds, BoundTerms
from smoothctl.smoothing.resampling import completion_log_weight
from smoothctl.smoothing.walk import WalkedPrior

__all__ = ["BoundTerms", "TwoStep"]


@dataclass(frozen=True)
class TwoStep(Bounds):
    """p(x) = ∫ p(x̃) p(x|x̃) dx̃: a smoothed prior and a denoiser (ARDS section 3).

    Here are samples, and what starts from given ones; likelihoods are those of `Bounds`. Several
    processes share the batches of images that are drawn.

    Args:
        kernel: the smoothing kernel q(x̃|x) that both stages were fitted with.
        prior: the density of smoothed data p(x̃).
        denoiser: the conditional density p(x|x̃); None before it is fitted.
        walk: steps of the walk that draws x̃ of images; 0: the prior's own sampler.
    """

    kernel: Kernel
    prior: Density
    denoiser: Density | None = None
    walk: int = 0

    @property
    def classes(self) -> int | None:
        """Number of classes that a stage is conditioned on; None where neither is."""
        stages = [stage for stage in (self.prior, self.denoiser) if stage is not None]
        return next((stage.classes for stage in stages if stage.classes is not None), None)

    def checked_denoiser(self) -> Density:
        """Returns the denoiser.

        Raises:
            NotAvailable: it has not been fitted.
        """
        if self.denoiser is None:
            raise NotAvailable("This needs the second stage: fit a denoiser first.")
        return self.denoiser

    def labels_for(self, stage: Density, labels: Tensor | None) -> Tensor | None:
        """Returns the labels where a stage has classes: the other may be the one that has.

        Raises:
            UsageError: there are labels, and neither has.
        """
        if labels is not None and self.classes is None:
            raise UsageError("Neither stage is conditioned on classes: leave the labels out.")
        return None if stage.classes is None else labels

    def sample_smoothed(
        self,
        n: int,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> Tensor:
        """Draws x̃ ~ p(x̃) from the prior alone: (n, *event).

        Args:
            n: how many.
            labels: classes, int64 (n,), where a stage is conditioned on them.
            generator: draws the samples.
            execution: how they are drawn, which does not change them.
        """
        prior = self.sampled_prior()
        classes = self.labels_for(prior, labels)
        return batching.sample(prior, n, None, classes, generator, execution)

    def sampled_prior(self) -> Density:
        """Returns what x̃ are drawn from: the prior, or a walk along its score."""
        return WalkedPrior(self.prior, self.kernel.sigma, self.walk) if self.walk else self.prior

    def denoise(
        self,
        x_smooth: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> Tensor:
        """Draws one x ~ p(x|x̃) for every smoothed sample: shape of `x_smooth`.

        The other arguments are those of `sample_smoothed`.
        """
        denoiser = self.checked_denoiser()
        classes = self.labels_for(denoiser, labels)
        return batching.sample(denoiser, len(x_smooth), x_smooth, classes, generator, execution)

    def sample(
        self,
        n: int,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> Tensor:
        """Draws x̃ ~ p(x̃), then x ~ p(x|x̃) (ARDS section 3.2): (n, *event).

        The arguments are those of `sample_smoothed`.
        """
        self.checked_denoiser()
        x_smooth = self.sample_smoothed(n, labels, generator, execution.part(0, 2))
        return self.denoise(x_smooth, labels, generator, execution.part(1, 2))

    def single_step(
        self, x_smooth: Tensor, labels: Tensor | None = None, execution: Execution = AT_ONCE
    ) -> Tensor:
        """Denoises in one step with the posterior mean E[x | x̃] (ARDS eq. 2).

        Args:
            x_smooth: smoothed samples, (batch, *event), in data units.
            labels: classes, int64 (batch,), where the prior is conditioned on them.
            execution: whose processes share images.

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
        classes, rows = (
            self.labels_for(self.prior, labels),
            rows_that_fit(self.prior, gradient=True),
        )
        if self.prior.domain == "vector":
            return evaluate(self._posterior_mean, rows, x_smooth, classes)
        size = min(rows, batching.most_images(x_smooth.device))
        processes = execution.processes
        means = map_images(self._posterior_mean, size, x_smooth, classes, processes=processes)
        return means.to(x_smooth.device)

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

    def inpaint_smoothed(
        self,
        x: Tensor,
        known: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> Tensor:
        """Smooths what is known of x, and completes x̃ with the prior: see `inpaint`."""
        if self.walk:
            raise NotAvailable("A walk completes no images: leave `walk` out.")
        noisy, classes = self.kernel.sample(x, generator), self.labels_for(self.prior, labels)
        return batching.inpaint(self.prior, noisy, known, None, classes, generator, execution)

    def inpaint(
        self,
        x: Tensor,
        known: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> Tensor:
        """Draws what is missing of x (ARDS appendix C.2).

        The known coordinates are smoothed with the kernel, the prior completes x̃, and the
        denoiser completes x given all of x̃. So the prior is told of what is known only what its
        noise leaves, and of that only what comes before in its order: see `completions`.

        Args:
            x: clean samples, (batch, *event); what is not known is ignored.
            known: bool, True where x is kept exactly: (1 or batch, D) for vectors and
                (1 or batch, 1, H, W) for images.
            labels: classes, int64 (batch,), where a stage is conditioned on them.
            generator: draws noise and samples.
            execution: how they are drawn.

        Returns:
            Shape of x.

        Raises:
            NotAvailable: there is no denoiser, or a stage cannot inpaint.
        """
        return self._completed(x, known, labels, generator, execution)[0]

    def completions(
        self,
        x: Tensor,
        known: Tensor,
        candidates: int,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        execution: Execution = AT_ONCE,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        r"""Yields candidates for what is missing of x, and log w of each row: for `resample`.

        A candidate is what `inpaint` draws, and w = p(x̃) p(x|x̃) / r(x̃, x), where r is the density
        of that draw: of q(x̃|x) for what is known, and of both stages' completions of the rest.
        Chosen among many in proportion to w, x is a draw of the model's own p(x | x_known).

        The arguments are those of `inpaint`, and how many candidates.

        Raises:
            NotAvailable: see `inpaint`; or a stage cannot say how likely its completions are.
        """
        for number in range(candidates):
            part = execution.part(number, candidates)
            filled, x_smooth = self._completed(x, known, labels, generator, part)
            yield filled, self._log_weight(filled, x_smooth, known, labels)

    def _completed(
        self,
        x: Tensor,
        known: Tensor,
        labels: Tensor | None,
        generator: Generator | None,
        execution: Execution,
    ) -> tuple[Tensor, Tensor]:
        """Returns x and x̃ with what is not known drawn."""
        denoiser = self.checked_denoiser()
        first, second = execution.part(0, 2), execution.part(1, 2)
        x_smooth = self.inpaint_smoothed(x, known, labels, generator, first)
        classes = self.labels_for(denoiser, labels)
        filled = batching.inpaint(denoiser, x, known, x_smooth, classes, generator, second)
        return filled, x_smooth

    def _log_weight(
        self, x: Tensor, x_smooth: Tensor, known: Tensor, labels: Tensor | None
    ) -> Tensor:
        """Returns log w of a completion; see `completions`: (batch,)."""
        denoiser = self.checked_denoiser()
        both = ((self.prior, x_smooth, None), (denoiser, x, x_smooth))
        prior, given = (
            completion_log_weight(stage, event, known, context, self.labels_for(stage, labels))
            for stage, event, context in both
        )
        drawn = self.kernel.log_density(x_smooth - x).where(known.to(x.device), 0.0)
        return prior + given - drawn.flatten(1).sum(1)

    def _posterior_mean(self, x_smooth: Tensor, labels: Tensor | None = None) -> Tensor:
        if not self.prior.tractable:
            score = self.prior.score_function(x_smooth, None, labels)
            return self.kernel.posterior_mean_from_score(x_smooth, score)
        log_prob = partial(self.prior.log_prob, labels=labels)
        return self.kernel.posterior_mean(x_smooth, log_prob)

    def _probe(self) -> Tensor:
        """Returns one event of zeros, like those of the prior."""
        like = next(self.prior.parameters(), torch.empty(0))
        return like.new_zeros(1, *self.prior.event_shape)
