"""The density contract that every architecture fulfils."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from smoothctl.config import config
from smoothctl.errors import NotAvailable, UsageError

__all__ = ["BothStages", "Density", "Progress", "Shape", "standardise", "to_grid"]

Shape = tuple[int, ...]
Progress = Callable[[int, int], None]
"""Told (done, total) while sampling."""


@runtime_checkable
class BothStages(Protocol):
    """One model of both stages, which share its weights (ARDS section 4.1)."""

    def prior(self) -> "Density":
        """Returns p(x̃)."""

    def denoiser(self) -> "Density":
        """Returns p(x|x̃)."""


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

    tractable: bool = True
    """False for models without a `log_prob`: score models, and those that are `bounded`."""

    weighs_completions: ClassVar[bool] = False
    """True for models whose `inpaint` draws from a density that `completion_log_weight` knows."""

    bounded: bool = False
    """True for models with latent variables, whose likelihood is known by `bound` alone: they
    define `log_weights`. Like `tractable` it may depend on `levels`: a class says what holds
    without them."""

    conditional: ClassVar[bool] = True
    """False for models that take no context: a prior or a baseline, never a denoiser."""

    suggested_sigma: ClassVar[float | None] = None
    """The smoothing that suits a prior of this architecture; None leaves it to the dataset."""

    required_kernel: ClassVar[str | None] = None
    """The only kernel that a prior of this architecture can be fitted with; None: any."""

    sampler_settings: ClassVar[frozenset[str]] = frozenset()
    """Names of settings that change samples alone, so that they may be chosen anew for sampling."""

    noise_setting: ClassVar[str] = ""
    """The setting that a prior of normally smoothed data has for the noise in them, and that its
    denoiser does not take from it; empty: there is none."""

    training_defaults: ClassVar[Mapping[str, Any]] = {}
    """Training settings that suit this architecture better than the general defaults."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings (of the architecture, or of training as training.KEY) for `preset`."""

    first_batch: ClassVar[int] = 8192
    """How many examples `initialize` should be given."""

    chosen_sigma: Tensor | None = None
    """Of a model that takes σ as an input (`lowest_sigma`): what `at` chose, () or (rows,)."""

    classes: int | None = None
    """Number of classes that a model is conditioned on: its methods need labels, int64 (batch,).
    None for other models, which refuse labels that are not None."""

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

    @property
    def mask_shape(self) -> Shape:
        """Shape of one mask of `inpaint`: (D,) of vectors, (1, H, W) of images."""
        return self.event_shape if self.domain == "vector" else (1, *self.event_shape[1:])

    @property
    def lowest_sigma(self) -> float:
        """The setting of architectures that can take σ as an input; 0: this model does not.

        Such a model knows p(x̃) or p(x|x̃) for every σ from there to the run's: see `at`.
        """
        return float(getattr(self.config, "lowest_sigma", 0.0))

    def at(self, sigma: float | Tensor) -> Self:
        """Returns the model at a smoothing of σ; it shares the weights.

        Args:
            sigma: one standard deviation for all rows, or one for each, (rows,).

        Returns:
            The model itself where σ is no input of it.
        """
        if not self.lowest_sigma:
            return self
        view = copy(self)
        view.chosen_sigma = torch.as_tensor(sigma, dtype=torch.float64)
        return view

    def log_sigma(self, n: int, like: Tensor) -> Tensor:
        """Returns log σ/σ₀ of each of n rows, σ₀ the lowest that the model knows: (n, 1).

        Args:
            n: rows.
            like: dtype and device.

        Raises:
            UsageError: no σ was chosen by `at`.
        """
        if self.chosen_sigma is None:
            raise UsageError(
                f"This {type(self).__name__} takes sigma as an input: choose one by `at(sigma)`."
            )
        feature = self.chosen_sigma.log() - math.log(self.lowest_sigma)
        return feature.to(like).view(-1, 1).expand(n, 1)

    @classmethod
    def joint(cls, event_shape: Shape, config: Any = None) -> "Density":
        """Returns one density over [x̃, x] that also has `BothStages` (ARDS section 4.1).

        Raises:
            NotAvailable: the architecture is not autoregressive.
        """
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
        return {}

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fits scales and offsets to a first batch of data; called once before training.

        Args:
            x: shape (batch, *event_shape).
            context: shape (batch, *context_shape).
        """

    def initialize_prior(self, x: Tensor, x_smooth: Tensor, sigma: float) -> None:
        """Does `initialize` for a prior, which models x̃.

        Args:
            x: clean examples, (batch, *event_shape).
            x_smooth: the same, smoothed.
            sigma: standard deviation of the smoothing, in data units.
        """
        self.initialize(x_smooth)

    @abstractmethod
    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x | context) in nats: (batch, *event_shape) -> (batch,).

        Args:
            x: shape (batch, *event_shape).
            context: shape (batch, *context_shape), for a conditional model.
            labels: classes, int64 (batch,), for a class-conditional model.

        Raises:
            NotAvailable: the model is not `tractable`.
            UsageError: labels are missing, are no classes, or mean nothing to the model.
        """

    def bound(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        draws: int = 1,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns log 1/K Σₖ wₖ of K estimates of p(x | context), see `log_weights`.

        Its expectation is a lower bound of log p(x | context), which rises with K (Burda et al.
        2016). A tractable density has the exact value for it.

        Args:
            x: shape (batch, *event_shape).
            context: shape (batch, *context_shape).
            labels: classes, int64 (batch,), for a class-conditional model.
            draws: K.
            generator: draws the latent variables.

        Returns:
            In nats, (batch,).

        Raises:
            NotAvailable: the model has neither a likelihood nor a bound of it.
        """
        if not self.bounded:
            return self.log_prob(x, context, labels)
        log_weights = self.log_weights(x, context, labels, draws, generator)
        return log_weights.logsumexp(1) - math.log(draws)

    def log_weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        draws: int = 1,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns log wₖ of independent, unbiased estimates wₖ of p(x | context).

        With latent variables z drawn from q(z|x) they are p(x, z)/q(z|x).

        Args:
            x: shape (batch, *event_shape).
            context: shape (batch, *context_shape).
            labels: classes, int64 (batch,), for a class-conditional model.
            draws: K of each x.
            generator: draws the latent variables.

        Returns:
            In nats, (batch, K).

        Raises:
            NotAvailable: the model has no latent variables.
        """
        if self.bounded:
            raise NotImplementedError(f"{type(self).__name__} must define `log_weights`.")
        raise NotAvailable(f"{type(self).__name__} has no latent variables to draw.")

    @abstractmethod
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples, one per row of context or labels where there are any: (n, *event_shape).

        An image takes one number of the generator (`rng.row_generators`), so that it is the same
        however images are batched, and can be skipped to.
        """

    def inpaint(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws what is not known of x, given what is (ARDS appendix C.2).

        An autoregressive model draws each coordinate given those before it in its order. Where
        nothing is known this is `sample`.

        Args:
            x: shape (batch, *event_shape); what is not known is ignored.
            known: bool, True where x is kept exactly: (1 or batch, D) for vectors and
                (1 or batch, 1, H, W) for images.
            context: shape (batch, *context_shape).
            labels: classes, int64 (batch,), for a class-conditional model.
            generator: draws the samples.
            progress: told (done, total).

        Returns:
            Shape of x.

        Raises:
            NotAvailable: the architecture cannot inpaint.
            UsageError: a mask of another shape.
        """
        raise NotAvailable(f"{type(self).__name__} cannot complete a partly known event.")

    def completion_log_weight(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        r"""Returns by how much `inpaint` draws a completion too seldom: log p(x|c) − log r(x).

        r is the density of what `inpaint` drew. The mean of the weight over its draws is
        p(x_known|c), and a completion chosen among many in proportion to it is one of
        p(x|x_known, c) (Rubin 1987). For an autoregressive model this is
        Σ log p(xᵢ|x₁ … xᵢ₋₁, c) over what is known.

        Args:
            x: what `inpaint` returned, (batch, *event_shape).
            known: its mask.
            context: shape (batch, *context_shape).
            labels: classes, int64 (batch,), for a class-conditional model.

        Returns:
            Nats, (batch,).

        Raises:
            NotAvailable: the density of its completions is not known.
            UsageError: a mask of another shape.
        """
        raise NotAvailable(
            f"{type(self).__name__} cannot say how likely its completions are: ask for one "
            "candidate."
        )

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
        raise NotAvailable(f"{type(self).__name__} has no intermediate samples to show.")

    def sampling_note(self) -> str | None:
        """Returns what a person may want to know of how the samples so far were drawn, a clause.

        Such as how many passes they took; None where there is nothing to say.
        """
        return None

    def check_labels(self, labels: Tensor | None, n: int) -> None:
        """Checks that there are labels where the model has classes, and none where it has not.

        Args:
            labels: int64 (n,), or None.
            n: examples.

        Raises:
            UsageError: they are missing, are no classes, or mean nothing to the model.
        """
        if self.classes is None and labels is None:
            return
        name = type(self).__name__
        if self.classes is None:
            raise UsageError(f"This {name} is conditioned on no classes: it takes no labels.")
        if labels is None:
            raise UsageError(
                f"This {name} is conditioned on {self.classes} classes: it needs labels."
            )
        if labels.shape != (n,) or labels.min() < 0 or labels.max() >= self.classes:
            raise UsageError(
                f"Labels must be {n} whole numbers from 0 to {self.classes - 1}, one for each "
                "example."
            )

    def check_known(self, known: Tensor, n: int) -> None:
        """Checks the mask of `inpaint` for n examples.

        Raises:
            UsageError: it has another shape, or is not of truth values.
        """
        shape = self.mask_shape
        if known.dtype != torch.bool or known.shape not in [(1, *shape), (n, *shape)]:
            want = ", ".join(map(str, shape))
            raise UsageError(
                f"A mask has truth values and the shape (1, {want}) or (n, {want}), "
                f"not {known.dtype} and {tuple(known.shape)}."
            )

    def bytes_per_example(self) -> int:
        """Returns about how much memory one example takes in `log_prob` without gradients."""
        return 2**14

    def score_function(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns ∇ₓ log p(x | context), differentiated through the whole graph; shape of x."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.log_prob(leaf, context, labels).sum(), leaf)
        return gradient

    def training_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns the loss of each example, (batch,), unless overridden −log p(x | context).

        Of a `bounded` model it is minus the bound of one draw.
        """
        return -self.bound(x, context, labels, 1, generator)

    def prior_loss(
        self,
        x: Tensor,
        x_smooth: Tensor,
        sigma: float,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Returns the loss of each example as a prior, (batch,): that of x̃ unless overridden.

        Score models override it: denoising score matching needs x as well as x̃.

        Args:
            x: clean examples, (batch, *event_shape).
            x_smooth: the same, smoothed.
            sigma: standard deviation of the smoothing, in data units.
            labels: classes, int64 (batch,), for a class-conditional model.
            generator: draws what the loss needs beside x̃.
        """
        return self.training_loss(x_smooth, None, labels, generator)


def standardise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean and standard deviation of each coordinate; a constant one counts as 1."""
    mean, sd = x.mean(0), x.std(0, correction=0)
    return mean, torch.where(sd > 0, sd, torch.ones_like(sd))


def to_grid(x: Tensor, levels: int) -> Tensor:
    """Rounds draws to the nearest of `levels` values in [-1, 1]."""
    steps = levels - 1
    return ((x + 1) * (steps / 2)).round().clamp(0, steps) * (2 / steps) - 1
