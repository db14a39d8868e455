"""The density contract that every architecture fulfils."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Generator, Tensor, nn

from smoothctl.config import config
from smoothctl.errors import NotAvailable, UsageError

__all__ = ["Density", "Progress", "Shape", "Smoothing", "standardise", "to_grid"]

Shape = tuple[int, ...]
Progress = Callable[[int, int], None]
"""Told (done, total) while sampling."""


class Smoothing(Protocol):
    """What a prior may ask of the kernel q(x̃|x) that smooths its data."""

    sigma: float
    """The standard deviation of the noise per coordinate, in data units."""

    def sample(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws x̃ ~ q(x̃|x): shape of x."""


class Density(nn.Module, ABC):
    """A density p(x), or p(x | context) where a context shape is given.

    Args:
        event_shape: (D,) for vectors, (C, H, W) for images.
        context_shape: shape of the conditioning variable: the event shape for a denoiser.
        levels: None for a density on the reals; 256 for the probability mass of 8-bit values
            that lie in [-1, 1] as v/127.5 − 1.
        config: the architecture's `Config`; its defaults if None.

    Raises:
        UsageError: shapes or levels that the architecture cannot model.
    """

    @config
    class Config:
        """Settings of the architecture."""

    summary: ClassVar[str]
    """One sentence for `smoothctl architectures list`."""

    domain: ClassVar[Literal["vector", "image"]] = "vector"

    tractable: ClassVar[bool] = True
    """False for models without a `log_prob`: score models, and those that are `bounded`."""

    bounded: ClassVar[bool] = False
    """True for models with latent variables, whose likelihood is known by `bound` alone."""

    conditional: ClassVar[bool] = True
    """False for models that take no context: a prior or a baseline, never a denoiser."""

    suggested_sigma: ClassVar[float | None] = None
    """The smoothing that suits a prior of this architecture; None leaves it to the dataset."""

    sampler_settings: ClassVar[frozenset[str]] = frozenset()
    """Names of settings that change samples alone, so that they may be chosen anew for sampling."""

    training_defaults: ClassVar[Mapping[str, Any]] = {}
    """Training settings that suit this architecture better than the general defaults."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings (of the architecture, or of training as training.KEY) for --preset."""

    first_batch: ClassVar[int] = 8192
    """How many examples `initialize` should be given."""

    classes: int | None = None
    """Number of classes of a class-conditional model, whose log_prob, sample, score, complete and
    training_loss take `labels=`, int64 of shape (batch,); None for other models."""

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.context_shape = None if context_shape is None else tuple(context_shape)
        self.levels = levels
        self.config = self.Config() if config is None else config
        if len(self.event_shape) != {"vector": 1, "image": 3}[self.domain]:
            shape = "×".join(map(str, self.event_shape))
            name = type(self).__name__
            raise UsageError(f"{name} models {self.domain}s, not events of shape {shape}.")
        if context_shape is not None and not self.conditional:
            raise UsageError(
                f"{type(self).__name__} takes no context: it can be a prior or a baseline, but no "
                "denoiser."
            )

    @classmethod
    def joint(cls, event_shape: Shape, config: Any = None) -> "Density":
        """Returns one density over [x̃, x] whose conditionals are both prior and denoiser.

        The result has methods `prior()` and `denoiser()` (ARDS section 4.1).

        Raises:
            NotAvailable: the architecture is not autoregressive.
        """
        del event_shape, config
        raise NotAvailable(
            f"{cls.__name__} cannot model both stages with one network: it does not factorise "
            "into p(x̃) and p(x|x̃); fit-prior and fit-denoiser do."
        )

    @classmethod
    def loss_in_nats(cls) -> bool:
        """Whether the training loss is −log p or a bound of it, and not that of a score."""
        return cls.tractable or cls.bounded

    @classmethod
    def suited(cls, stage: str, epochs: float, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns settings that suit a stage, for those that nobody chose.

        A denoiser takes its prior's value of each of these where that is not the `Config`'s own.
        The names are always the same ones.

        Args:
            stage: "prior", "denoiser", "baseline" or "joint".
            epochs: how often a fit sees each example.
            chosen: the settings that were chosen, for this stage or its prior.
        """
        del stage, epochs, chosen
        return {}

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fits scales and offsets to a first batch of data; called once before training.

        Args:
            x: shape (batch, *event_shape).
            context: shape (batch, *context_shape).
        """

    def initialize_prior(
        self, x: Tensor, kernel: Smoothing, generator: Generator | None = None
    ) -> None:
        """Does `initialize` for a prior, given clean data and the kernel that smooths them.

        Args:
            x: clean examples, (batch, *event_shape).
            kernel: q(x̃|x).
            generator: draws the smoothing.
        """
        self.initialize(kernel.sample(x, generator))

    @abstractmethod
    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Returns log p(x | context) in nats: (batch, *event_shape) -> (batch,).

        Raises:
            NotAvailable: the model is not `tractable`.
        """

    def bound(
        self,
        x: Tensor,
        context: Tensor | None = None,
        draws: int = 1,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns log 1/K Σₖ wₖ of K independent, unbiased estimates wₖ of p(x | context).

        Its expectation is a lower bound of log p(x | context), which rises with K (Burda et al.
        2016). A tractable density has the exact value for it.

        Args:
            x: shape (batch, *event_shape).
            context: shape (batch, *context_shape).
            draws: K.
            generator: draws the latent variables.

        Returns:
            In nats, (batch,).

        Raises:
            NotAvailable: the model has neither a likelihood nor a bound of it.
        """
        del draws, generator
        if self.bounded:
            raise NotImplementedError(f"{type(self).__name__} is bounded and must define `bound`.")
        return self.log_prob(x, context)

    @abstractmethod
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples, one per row of context where there is one: (n, *event_shape).

        An image takes one number of the generator (`randomness.row_generators`), so that it is the
        same however images are batched, and can be skipped to.
        """

    def complete(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws the coordinates that are not known, given those that are (ARDS appendix C.2).

        Args:
            x: shape (batch, *event_shape); what is not known is ignored.
            known: bool, True where x is kept exactly, broadcastable to x.
            context: shape (batch, *context_shape).
            generator: draws the samples.
            progress: told (done, total).

        Returns:
            Shape of x.

        Raises:
            NotAvailable: the architecture cannot complete.
        """
        del x, known, context, generator, progress
        raise NotAvailable(f"{type(self).__name__} cannot complete a partly known event.")

    def trajectory(
        self,
        n: int,
        frames: int,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples and shows how they came about, for models that draw them step by step.

        Args:
            n: how many.
            frames: how many states of each to keep, evenly spaced; the last is the sample that
                `sample` gives for the same generator.
            generator: draws the samples.
            progress: told (done, total).

        Returns:
            Shape (frames, n, *event_shape).

        Raises:
            NotAvailable: the architecture has no intermediate samples.
        """
        del n, frames, generator, progress
        raise NotAvailable(f"{type(self).__name__} has no intermediate samples to show.")

    def given(self, labels: Tensor | None) -> dict[str, Any]:
        """Returns the keyword arguments that pass labels on: none for a model without classes.

        Raises:
            UsageError: a class-conditional model, and no labels.
        """
        if self.classes is None:
            return {}
        if labels is None:
            raise UsageError(
                f"This {type(self).__name__} is conditioned on {self.classes} classes: it needs "
                "labels."
            )
        return {"labels": labels}

    def bytes_per_example(self) -> int:
        """Returns about how much memory one example takes in `log_prob` without gradients."""
        return 2**14

    def score(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns ∇ₓ log p(x | context), differentiated through the whole graph; shape of x."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            log_prob = self.log_prob(leaf, context, **self.given(labels))
            (gradient,) = torch.autograd.grad(log_prob.sum(), leaf)
        return gradient

    def training_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        generator: Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns the loss of each example, (batch,): −log p(x | context) unless overridden."""
        del generator
        return -self.log_prob(x, context, **self.given(labels))

    def prior_loss(
        self,
        x: Tensor,
        kernel: Smoothing,
        generator: Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns the loss of each example as a prior, (batch,): that of x̃ unless overridden.

        Score models override it: denoising score matching needs x as well as x̃.

        Args:
            x: clean examples, (batch, *event_shape).
            kernel: q(x̃|x).
            generator: draws the smoothing.
            labels: classes, int64 (batch,), for a class-conditional model.
        """
        x_smooth = kernel.sample(x, generator)
        return self.training_loss(x_smooth, None, generator, **self.given(labels))


def standardise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean and standard deviation of each coordinate; a constant one counts as 1."""
    mean, sd = x.mean(0), x.std(0, correction=0)
    return mean, torch.where(sd > 0, sd, torch.ones_like(sd))


def to_grid(x: Tensor, levels: int) -> Tensor:
    """Rounds draws to the nearest of `levels` values in [-1, 1]."""
    steps = levels - 1
    return ((x + 1) * (steps / 2)).round().clamp(0, steps) * (2 / steps) - 1
