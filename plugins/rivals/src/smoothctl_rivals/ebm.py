"""EBM: an energy-based model of images, learnt and drawn by short-run Langevin dynamics."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Density, Progress, Shape, to_grid
from smoothctl.config import config
from smoothctl.errors import NotAvailable
from smoothctl.rng import normal, row_generators
from smoothctl_rivals.trunk import trunk, widths

__all__ = ["EBM", "langevin"]

Noise = Callable[[], Tensor]
"""Gives fresh standard normals, (n, *event), at every call."""


def langevin(
    score: Callable[[Tensor], Tensor], x: Tensor, step: float, steps: int, noise: Noise
) -> Iterator[Tensor]:
    """Yields x after each step x + ε/2 · s(x) + √ε · n (Welling & Teh 2011, eq. 3).

    Args:
        score: s = ∇ log p, (n, *event) to the same shape.
        x: where to start, (n, *event).
        step: √ε, in data units.
        steps: how many.
        noise: gives n.
    """
    for _ in range(steps):
        x = x + step**2 / 2 * score(x) + step * noise()
        yield x


class EBM(Density):
    r"""p(x) ∝ e^(−E(x)) with E(x) = U(x)/σ² + Σ (x − m)²/2s² and a convolutional U.

    m and s are mean and deviation of each value, σ is the noise of the data: that of the kernel for
    a prior and `noise`, which is added, for others. So x̃ − ∇U(x̃) is about the posterior mean of x.
    Contrastive divergence lowers the energy of data and raises that of the model's own images
    (Du & Mordatch 2019, section 3), which are drawn by a few steps of Langevin dynamics from
    N(m, s²), anew at every step of training: short runs without persistence (Nijkamp et al. 2019).
    Samples are drawn by the same short runs. There is no replay buffer, so that the loss is a
    function of weights, data and generator alone, however it is cut, repeated or resumed.
    """

    @config
    class Config:
        """Settings of `ebm`."""

        filters: int = Field(
            16, ge=1, le=4096, description="channels at full size; the smaller maps have twice"
        )
        blocks: int = Field(1, ge=0, le=100, description="residual blocks at each size")
        noise: float = Field(
            0.03, ge=1e-3, le=10, description="σ of what is added to data other than x̃"
        )
        steps: int = Field(30, ge=1, le=100_000, description="Langevin steps of each image")
        step_size: float = Field(
            0.5, ge=1e-3, le=1, description="√ε of a Langevin step, in units of σ"
        )
        regularisation: float = Field(
            0.1, ge=0, le=1e6, description="weight of the squares of U in the loss"
        )

    summary = "energy-based model of images, learnt by contrast with short Langevin runs"
    domain = "image"
    tractable = False
    conditional = False
    first_batch = 2048
    sampler_settings = frozenset({"steps"})
    training_defaults: ClassVar = {
        "steps": 600,
        "batch_size": 32,
        "learning_rate": 2e-3,
        "ema": 0.99,
        "validation_limit": 64,
    }
    config: Config
    loc: Tensor
    scale: Tensor
    sigma: Tensor

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        c = self.config
        last = nn.Conv2d(widths(c.filters)[-1], 1, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.network = nn.Sequential(*trunk(self.event_shape[0], c.filters, c.blocks), last)
        self.register_buffer("loc", torch.zeros(self.event_shape))
        self.register_buffer("scale", torch.ones(self.event_shape))
        self.register_buffer("sigma", torch.tensor(c.noise))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Takes mean and deviation of each value from clean data, (batch, *event), plus noise."""
        self._fit_reference(x, self.config.noise, self.config.noise)

    def initialize_prior(self, x: Tensor, x_smooth: Tensor, sigma: float) -> None:
        """Takes them from x̃, which has the kernel's noise already."""
        self._fit_reference(x_smooth, sigma, 0.0)

    def _fit_reference(self, x: Tensor, sigma: float, added: float) -> None:
        self.loc.copy_(x.mean(0))
        variance = x.var(0, correction=0) + added**2
        self.scale.copy_(variance.clamp(min=sigma**2).sqrt())
        self.sigma.fill_(sigma)

    def energy(self, x: Tensor) -> Tensor:
        """Returns E(x), which is −log p(x) but for a constant, in nats: (batch,)."""
        reference = 0.5 * ((x - self.loc) / self.scale).square().sum((1, 2, 3))
        return reference + self._learnt(x) / self.sigma**2

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """There is none.

        Raises:
            NotAvailable: always.
        """
        raise NotAvailable(
            "EBM knows its likelihood but for a constant, the integral of e^(−E): it has samples "
            "and a score only."
        )

    def score_function(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns −∇E(x), shape of x."""
        self.check_labels(labels, len(x))
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.energy(leaf).sum(), leaf)
        return -gradient

    def training_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns the loss of each example with noise added to it, (batch,)."""
        noised = x + self.config.noise * normal(x.shape, x, generator)
        return self.prior_loss(x, noised, self.config.noise, labels, generator)

    def prior_loss(
        self,
        x: Tensor,
        x_smooth: Tensor,
        sigma: float,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns U(x̃) − U(y) + α(U(x̃)² + U(y)²) with an image y that the model draws, (batch,).

        (Du & Mordatch 2019, section 3.3.) It has no unit and is near 0 at any step: it says
        nothing of how good the model is.
        """
        self.check_labels(labels, len(x))
        drawn = self._drawn(x_smooth, lambda: normal(x.shape, x, generator))
        data, model = self._learnt(torch.cat([x_smooth, drawn])).chunk(2)
        return data - model + self.config.regularisation * (data**2 + model**2)

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples by Langevin dynamics: (n, *event)."""
        self.check_labels(labels, n)
        return self.trajectory(n, 1, generator, progress)[-1]

    @torch.no_grad()
    def trajectory(
        self,
        n: int,
        frames: int,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Returns states of the dynamics, evenly spaced: (frames, n, *event)."""
        noise = self._noise_of_images(n, generator)
        total = self.config.steps
        wanted = [-(-frame * total // frames) for frame in range(1, frames + 1)]
        kept: list[Tensor] = []
        for done, x in enumerate(self._chain(self.loc.expand(n, *self.event_shape), noise), 1):
            kept += [x] * wanted.count(done)
            if progress is not None:
                progress(done, total)
        return self._finished(torch.stack(kept))

    @torch.no_grad()
    def inpaint(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws what is not known by dynamics of it alone; what is known stays exactly.

        Args:
            x: (n, *event): x̃ for a prior, clean for a baseline; what is not known is ignored.
            known: bool, True where x is kept, (1 or n, 1, H, W).
            context: must be None.
            labels: must be None.
            generator: draws the samples.
            progress: told (steps done, steps).
        """
        self.check_labels(labels, len(x))
        self.check_known(known, len(x))
        mask = known.to(x.device)
        noise = self._noise_of_images(len(x), generator)
        for done, state in enumerate(self._chain(x, noise, mask), 1):
            last = state
            if progress is not None:
                progress(done, self.config.steps)
        return torch.where(mask, x, self._finished(last))

    def bytes_per_example(self) -> int:
        """Returns about the size of the feature maps that a gradient with respect to x keeps."""
        _, height, width = self.event_shape
        maps = 8 + 8 * self.config.blocks
        return maps * self.config.filters * height * width * self.loc.element_size()

    def _learnt(self, x: Tensor) -> Tensor:
        """Returns U(x), (batch,)."""
        out: Tensor = self.network(x).sum((1, 2, 3))
        return out

    def _drawn(self, like: Tensor, noise: Noise) -> Tensor:
        """Returns images of the model like those given, without a gradient."""
        *_, x = self._chain(like, noise)
        return x.detach()

    def _chain(self, like: Tensor, noise: Noise, known: Tensor | None = None) -> Iterator[Tensor]:
        """Yields the states of the dynamics from N(m, s²), or of what is not known of `like`."""
        start, step = self.loc + self.scale * noise(), self.config.step_size * float(self.sigma)
        if known is None:
            yield from langevin(self.score_function, start, step, self.config.steps, noise)
            return
        free = ~known
        yield from langevin(
            lambda x: self.score_function(x) * free,
            torch.where(known, like, start),
            step,
            self.config.steps,
            lambda: noise() * free,
        )

    def _noise_of_images(self, n: int, generator: Generator | None) -> Noise:
        """Returns noise of which each image has its own, whatever it is batched with."""
        own, blank = row_generators(n, generator), torch.empty(0, dtype=self.loc.dtype)

        def noise() -> Tensor:
            rows = [normal(self.event_shape, blank, row) for row in own]
            return torch.stack(rows).to(self.loc.device)

        return noise

    def _finished(self, x: Tensor) -> Tensor:
        """Rounds images of a model of levels."""
        return x if self.levels is None else to_grid(x, self.levels)
