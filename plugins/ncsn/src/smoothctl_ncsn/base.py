"""Score models as densities: what NCSN of images and of vectors have in common."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress, Shape
from smoothctl.config import config
from smoothctl.errors import NotAvailable, UsageError
from smoothctl_ncsn.langevin import Convention, Known, Noise, langevin
from smoothctl_ncsn.levels import geometric, largest_distance, level_count, step_size
from smoothctl_ncsn.losses import denoising_score_matching, sliced_score_matching

__all__ = ["ScoreModel"]

_LOSSES = {"denoising": denoising_score_matching, "sliced": sliced_score_matching}


class ScoreModel(Density):
    r"""s(x, σ) ≈ ∇ log ∫ p(y) N(x; y, σ²I) dy at levels σ₁ > … > σ_L (Song & Ermon 2019).

    As a baseline the levels end at `sigma_end`. As a prior they end exactly at the kernel's σ, so
    that annealed Langevin dynamics gives x̃ ~ p(x̃) with no noise added on top.
    """

    @config
    class Config:
        """What images and vectors share."""

        sigma_begin: float = Field(
            0.0,
            ge=0,
            le=1e10,
            description="largest noise level; 0: the largest distance of two examples "
            "(technique 1 of NCSNv2)",
        )
        sigma_end: float = Field(
            0.02,
            ge=1e-10,
            le=1e10,
            description="smallest noise level of a baseline; a prior's is the kernel's",
        )
        noise_levels: int = Field(
            0,
            ge=0,
            le=10_000,
            description="how many levels; 0: as many as technique 2 of NCSNv2 asks for",
        )
        loss: Literal["denoising", "sliced"] = Field(
            "denoising", description="denoising or sliced score matching"
        )
        output: Literal["raw", "scaled", "residual"] = Field(
            "residual",
            description="the network gives the score (raw, NCSN), the score times σ (scaled, "
            "technique 3 of NCSNv2), or what it differs by from a Gaussian's (residual)",
        )
        sampler: Literal["annealed", "langevin"] = Field(
            "annealed",
            description="annealed Langevin dynamics, or as many plain steps at the last level",
        )
        steps: int = Field(3, ge=1, le=1_000_000, description="T, Langevin steps at each level")
        step_size: float = Field(
            0.0,
            ge=0,
            le=1e10,
            description="ε in units of the last level's σ²; 0: by technique 4 of NCSNv2",
        )
        convention: Convention = Field(
            "image-code",
            description="a step is x + α/2·s + √α·z (paper) or x + α·s + √(2α)·z (image-code)",
        )
        denoise: bool = Field(
            True, description="a baseline's samples end with x + σ²·s at the last level"
        )

    conditional = False
    tractable = False
    required_kernel = "gaussian"
    sampler_settings = frozenset({"sampler", "steps", "step_size", "convention", "denoise"})
    config: Config
    sigmas: Tensor
    centre: Tensor
    spread: Tensor
    known_sigma: Tensor

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        count = max(1, self.config.noise_levels)
        self.register_buffer("sigmas", torch.full((count,), torch.nan))
        self.register_buffer("centre", torch.zeros(self.event_shape))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("known_sigma", torch.zeros(()))
        self.register_load_state_dict_pre_hook(_resize_to_weights)  # type: ignore[no-untyped-call]

    @abstractmethod
    def network_output(self, x: Tensor, index: Tensor) -> Tensor:
        """Returns what is learnt: (batch, *event), level indices (batch,) -> (batch, *event)."""

    @abstractmethod
    def noise_like(self, x: Tensor, generator: Generator | None) -> Noise:
        """Returns a source of standard normals of the shape of x."""

    def start(self, noise: Noise, spread: Tensor) -> Tensor:
        """Returns where the dynamics begin, of a spread such as σ₁: (n, *event)."""
        return self.centre + spread * noise()

    def resize(self, count: int) -> None:
        """Makes room for so many levels; what belongs to single levels starts anew."""
        self.sigmas = self.sigmas.new_full((count,), torch.nan)

    def level_score(self, x: Tensor, index: Tensor) -> Tensor:
        r"""Returns s(x, σᵢ): (batch, *event), level indices (batch,) -> (batch, *event).

        With m and d the data's mean and root mean square deviation, the score of N(m, d² + σ²) is
        the first guess of a `residual` network f: with v = d² + σ²,

            s(x, σ) = (m − x)/v + d/(σ√v) · f((x − m)/√v, σ),

        whose targets have about unit variance at all levels (Karras et al. 2022, table 1).
        """
        if self.config.output == "raw":
            return self.network_output(x, index)
        sigma = self.sigmas[index].view(-1, *[1] * (x.ndim - 1))
        total = (self.spread**2 + sigma**2).sqrt()
        seen = (x - self.centre) / total
        out = self.network_output(seen, index) / sigma
        if self.config.output == "scaled":
            return out
        return self.spread / total * out - seen / total

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Chooses the levels of a baseline from clean data, (batch, *event)."""
        self._choose_levels(x, self.config.sigma_end, 0.0)

    def initialize_prior(self, x: Tensor, x_smooth: Tensor, sigma: float) -> None:
        """Chooses the levels of a prior, which end at the kernel's σ, from clean data.

        Raises:
            UsageError: σ is not below `sigma_begin`.
        """
        self._choose_levels(x, sigma, sigma)

    def _choose_levels(self, x: Tensor, last: float, known_sigma: float) -> None:
        first = self.config.sigma_begin
        if first and first < last:
            raise UsageError(
                f"The levels of {type(self).__name__} go down from sigma_begin={first:g}, which "
                f"is below the last one, {last:g}: set a larger sigma_begin."
            )
        first = first or max(largest_distance(x), last)
        dims = x[0].numel()
        count = self.config.noise_levels or level_count(first, last, dims)
        self.resize(count)
        self.sigmas.copy_(geometric(first, last, count))
        self.centre.copy_(x.mean(0))
        self.spread.copy_((x - self.centre).square().mean().sqrt())
        self.known_sigma.fill_(known_sigma)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """There is none.

        Raises:
            NotAvailable: always.
        """
        raise NotAvailable(
            f"{type(self).__name__} learns the score ∇ log p(x), and no likelihood: it has "
            "samples and a score only."
        )

    def score_function(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns s(x, σ_L), the score at the last level: for a prior that of p(x̃)."""
        self.check_labels(labels, len(x))
        return self._score_at(x, len(self.sigmas) - 1)

    def training_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns the score matching loss of clean examples, at one random level each: (batch,)."""
        self.check_labels(labels, len(x))
        loss, levels = _LOSSES[self.config.loss], self._levels()
        return loss(self.level_score, x, levels, self._weights(levels), generator)

    def prior_loss(
        self,
        x: Tensor,
        x_smooth: Tensor,
        sigma: float,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns `training_loss`: its last level is the kernel's, so x̃ needs no loss."""
        return self.training_loss(x, None, labels, generator)

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples by Langevin dynamics: (n, *event).

        Raises:
            NotAvailable: the dynamics diverged.
        """
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
        """Returns states of the dynamics, evenly spaced (NCSN fig. 4): (frames, n, *event).

        The last one is the sample, after the final denoising where there is one.

        Raises:
            UsageError: fewer than one frame.
            NotAvailable: the dynamics diverged.
        """
        if frames < 1:
            raise UsageError(f"The number of frames must be at least 1, not {frames}.")
        blank = self.centre.expand(n, *self.event_shape)
        total = len(self.sigmas) * self.config.steps
        wanted = [-(-frame * total // frames) for frame in range(1, frames + 1)]
        kept = []
        for done, x in enumerate(self._chain(blank, None, generator, progress), start=1):
            kept += [x] * wanted.count(done)
        kept[-1] = self._finished(kept[-1])
        return torch.stack(kept)

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
        """Draws what is not known (NCSN algorithm 2); what is known stays exactly.

        Args:
            x: (n, *event): x̃ for a prior, clean for a baseline; what is not known is ignored.
            known: bool, True where x is kept: (1 or n, D), or (1 or n, 1, H, W) for images.
            context: must be None.
            labels: must be None.
            generator: draws the samples.
            progress: told (steps done, steps).

        Raises:
            NotAvailable: the dynamics diverged.
        """
        self.check_labels(labels, len(x))
        self.check_known(known, len(x))
        mask = known.to(x.device)
        given = Known(x, mask, float(self.known_sigma))
        for state in self._chain(x, given, generator, progress):
            last = state
        return torch.where(mask, x, self._finished(last))

    def _levels(self) -> Tensor:
        if self.sigmas.isnan().any():
            raise UsageError(
                f"This {type(self).__name__} has no noise levels yet: initialise it with data."
            )
        return self.sigmas

    def _weights(self, levels: Tensor) -> Tensor:
        """Returns λ(σ)/σ²: 1 as in NCSN, or what weighs a residual network's errors alike."""
        if self.config.output != "residual":
            return torch.ones_like(levels)
        return 1 + (levels / self.spread) ** 2

    def _chain(
        self,
        like: Tensor,
        known: Known | None,
        generator: Generator | None,
        progress: Progress | None,
    ) -> Iterator[Tensor]:
        """Yields every state of the dynamics; `like` gives shape, dtype and device."""
        c, sigmas, steps, skipped = self.config, self._levels(), self.config.steps, 0
        total = len(sigmas) * steps
        noise = self.noise_like(like, generator)
        epsilon = c.step_size or step_size(sigmas, c.steps) * (2 if c.convention == "paper" else 1)
        start = sigmas[0]
        if c.sampler == "langevin":
            start, steps, skipped = self.spread, total, len(sigmas) - 1
        chain = langevin(
            lambda x, level: self._score_at(x, level + skipped),
            self.start(noise, start),
            sigmas[skipped:],
            steps,
            epsilon * float(sigmas[-1]) ** 2,
            noise,
            c.convention,
            known,
        )
        for done, x in enumerate(chain, start=1):
            if not x.isfinite().all():
                raise NotAvailable(
                    f"Langevin dynamics diverged at step {done} of {total}: the step size "
                    f"{epsilon:g} is too large for this model; try --set step_size={epsilon / 4:g}."
                )
            if progress is not None:
                progress(done, total)
            yield x

    def _score_at(self, x: Tensor, level: int) -> Tensor:
        index = torch.full((len(x),), level, device=x.device)
        return self.level_score(x, index)

    def _finished(self, x: Tensor) -> Tensor:
        """Takes the last denoising step of a baseline; a prior gives x̃ as it is."""
        if not self.config.denoise or self.known_sigma > 0:
            return x
        return x + self.sigmas[-1] ** 2 * self.score_function(x)


def _resize_to_weights(module: ScoreModel, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Makes room for as many levels as the weights that are about to be loaded have."""
    sigmas = state.get(f"{prefix}sigmas")
    if sigmas is not None and len(sigmas) != len(module.sigmas):
        module.resize(len(sigmas))
