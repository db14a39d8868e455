"""What is drawn on the way from x to the prior: x̃, or x̃ at each level of a cascade."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from smoothctl.errors import NotAvailable
from smoothctl.smoothing.cascade import Cascade
from smoothctl.smoothing.two_step import TwoStep

__all__ = ["Latent"]


@dataclass(frozen=True)
class Latent:
    """x̃ of both stages as one variable, with the densities that an integral over it needs.

    Its shape is that of x; of a cascade (batch, K, *event), the widest level last.

    Args:
        method: kernel, prior and denoiser.

    Raises:
        NotAvailable: there is no denoiser, or a stage's density is not known.
    """

    method: TwoStep

    def __post_init__(self) -> None:
        denoiser = self.method.checked_denoiser()
        stage = denoiser.network if isinstance(denoiser, Cascade) else denoiser
        if not (self.method.prior.tractable and stage.tractable):
            raise NotAvailable("Annealing needs the exact densities of both stages.")

    @property
    def cascade(self) -> Cascade | None:
        """The denoiser, where it has several steps."""
        denoiser = self.method.denoiser
        return denoiser if isinstance(denoiser, Cascade) else None

    def draw(self, x: Tensor, generator: Generator | None) -> Tensor:
        """Draws from q(· | x)."""
        x_smooth = self.method.kernel.sample(x, generator)
        if self.cascade is None:
            return x_smooth
        return self.cascade.draw_between(x, x_smooth, generator)

    def log_kernel(self, latent: Tensor, x: Tensor) -> Tensor:
        """Returns log q(· | x) in nats: (batch,)."""
        if self.cascade is None:
            return self.method.kernel.log_prob(latent, x)
        widest = self.method.kernel.log_prob(latent[:, -1], x)
        return widest + self.cascade.log_between(x, latent)

    def log_joint(self, latent: Tensor, x: Tensor, labels: Tensor | None) -> Tensor:
        """Returns log p(x̃) + log p(x|x̃), of a cascade through all levels, in nats: (batch,)."""
        method, denoiser = self.method, self.method.checked_denoiser()
        classes = method.labels_for(denoiser, labels)
        x_smooth = latent if self.cascade is None else latent[:, -1]
        prior = method.prior.log_prob(x_smooth, None, method.labels_for(method.prior, labels))
        if self.cascade is None:
            return prior + denoiser.log_prob(x, x_smooth, classes)
        return prior + self.cascade.log_steps(x, latent, classes)

    def deviations(self, like: Tensor) -> Tensor:
        """Returns what steps of the latent are in units of, to be broadcast over it."""
        if self.cascade is None:
            return self.method.kernel.deviations(like)
        return self.cascade.deviations(like)

    def sample(
        self, n: int, labels: Tensor | None, first: Generator, second: Generator
    ) -> tuple[Tensor, Tensor]:
        """Draws n pairs (x, latent) from the model, so that latents are draws of p(· | x)."""
        x_smooth = self.method.sample_smoothed(n, labels, first)
        if self.cascade is None:
            return self.method.denoise(x_smooth, labels, second), x_smooth
        classes = self.method.labels_for(self.cascade, labels)
        *levels, x = self.cascade.path(n, x_smooth, classes, second)
        return x, torch.stack(levels[::-1], dim=1)
