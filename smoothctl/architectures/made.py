"""MADE: a masked network whose outputs are mixtures of logistics, one dimension after another."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn

from smoothctl.architectures.any_sigma import AnySigma, sigma_network
from smoothctl.architectures.autoregressive import Autoregressive
from smoothctl.architectures.base import Progress, Shape, standardise, to_grid
from smoothctl.architectures.mixtures import (
    LARGEST_LOG_SCALE,
    Mixture,
    log_scale_of,
    ordered_log_scales,
    spread,
)
from smoothctl.config import config
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.rng import generator as seeded_generator

__all__ = ["MADE", "JointMADE", "MaskedLinear"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}


_SIGMA_UNITS = 16
"""Of the network of σ."""

_NARROWEST = 1 / 3
"""Deviation of a logistic at the start, in standard units: many narrower ones leave gaps."""


class MaskedLinear(nn.Linear):
    """A linear layer whose mask multiplies at call time; the stored weight is never changed.

    Args:
        mask: shape (out_features, in_features), ones where the weight counts.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in_features) to (batch, out_features)."""
        return F.linear(x, self.weight * self.mask, self.bias)


def _with_waves(x: Tensor, frequencies: int) -> Tensor:
    """Returns x, (batch, D), and the sines and cosines of 2ʲx, j < J: (batch, (1 + 2J) D)."""
    angles = [2.0**j * x for j in range(frequencies)]
    return torch.cat([x, *(wave(a) for a in angles for wave in (torch.sin, torch.cos))], dim=1)


class MADE(Autoregressive):
    r"""p(x | x̃) = Πᵢ p(xᵢ | x₁ … xᵢ₋₁, x̃), each factor a mixture of logistics.

    The masked autoencoder of Germain et al. (2015) with the outputs of ARDS section 4.1. A
    context is stacked in front of x and seen by every output, as in the paper. Hidden layers are
    residual: every one of them carries the same degrees, so that the identity keeps the order.
    With `frequencies` the inputs also enter by their sines and cosines (Tancik et al. 2020), as
    networks learn slowly what varies within a small part of their inputs' range.
    """

    @config
    class Config(AnySigma):
        """Settings of `made`."""

        mixtures: int = Field(10, ge=1, le=1000, description="logistics per dimension")
        width: int = Field(96, ge=1, le=65_536, description="units in each hidden layer")
        layers: int = Field(3, ge=1, le=1000, description="hidden layers")
        activation: Literal["relu", "silu", "gelu"] = Field("relu", description="nonlinearity")
        order: Literal["natural", "random"] = Field("natural", description="order of dimensions")
        order_seed: int = Field(0, ge=0, description="seed of the random order")
        frequencies: int = Field(
            0,
            ge=0,
            le=16,
            description="sines and cosines of 1, 2, 4, … times each input beside it, which is in "
            "standard units: fine detail is learned sooner",
        )
        offset: bool = Field(
            True, description="a denoiser's means are offsets from x̃ rather than free"
        )
        output_gain: float = Field(
            1.0,
            gt=0,
            le=1000,
            description="factor on the first output weights, a tenth of it for a denoiser's "
            "offsets; large ones keep a mixture's components from moving in step",
        )
        min_log_scale: float = Field(
            -7.0,
            ge=-LARGEST_LOG_SCALE,
            le=LARGEST_LOG_SCALE,
            description="floor of log-scales, in standard units",
        )
        max_log_scale: float = Field(
            1.0,
            ge=-LARGEST_LOG_SCALE,
            le=LARGEST_LOG_SCALE,
            description="ceiling of log-scales, in standard units",
        )

        _ordered = model_validator(mode="after")(ordered_log_scales)

    summary = "masked autoregressive network with a mixture of logistics per dimension"
    training_defaults: ClassVar = {"steps": 12_000, "learning_rate": 5e-3}
    config: Config
    in_loc: Tensor
    in_scale: Tensor
    out_loc: Tensor
    out_scale: Tensor
    noise_scale: Tensor | None
    """Deviation of each coordinate's noise at the lowest σ, where σ is an input of offsets."""

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        if self.context_shape is not None and len(self.context_shape) != 1:
            raise UsageError(f"MADE takes vector contexts, not shape {self.context_shape}.")
        dims, extra = self.event_shape[0], (self.context_shape or (0,))[0]
        self.offset = self.config.offset and self.context_shape == self.event_shape
        self.order = self.order_of(dims)
        self.activation = ACTIVATIONS[self.config.activation]
        self._build(dims, extra)
        for name, size in [("in", extra + dims), ("out", dims)]:
            self.register_buffer(f"{name}_loc", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))
        noise_scale = torch.ones(dims) if self.offset and self.lowest_sigma else None
        self.register_buffer("noise_scale", noise_scale)

    def _build(self, dims: int, extra: int) -> None:
        rank = torch.empty(dims, dtype=torch.int64)
        rank[self.order] = torch.arange(1, dims + 1)
        lowest = 0 if extra or dims == 1 else 1
        degrees = lowest + torch.arange(self.config.width) % max(1, dims - lowest)
        into = torch.cat([torch.zeros(extra, dtype=torch.int64), rank])
        into = into.repeat(1 + 2 * self.config.frequencies)
        outputs = rank.repeat_interleave(3 * self.config.mixtures)
        self.first = MaskedLinear((degrees[:, None] >= into).float())
        self.hidden = nn.ModuleList(
            MaskedLinear((degrees[:, None] >= degrees).float())
            for _ in range(self.config.layers - 1)
        )
        self.last = MaskedLinear((outputs[:, None] > degrees).float())
        width = self.config.width
        self.of_sigma = sigma_network(_SIGMA_UNITS, width) if self.lowest_sigma else None
        self._spread_means()

    def _spread_means(self) -> None:
        """Starts as a wide mixture without gaps, the same for every input."""
        k = self.config.mixtures
        with torch.no_grad():
            self.last.weight.mul_(self.config.output_gain * (0.1 if self.offset else 1.0))
            logits, means, log_scales = self.last.bias.view(-1, 3, k).unbind(1)
            logits.zero_()
            means.copy_(spread(k).expand_as(means))
            log_scales.fill_(log_scale_of(max(1 / k, _NARROWEST)))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardises the inputs, and the outputs by what they predict: x, or its offset."""
        inputs = x if context is None else torch.cat([context, x], dim=1)
        self.in_loc, self.in_scale = standardise(inputs)
        if self.noise_scale is not None and context is not None:
            _, self.noise_scale = standardise((context - x) / self.log_sigma(len(x), x).exp())
        origin, unit = self.frame(x, context)
        self.out_loc, self.out_scale = standardise((x - origin) / unit)

    def order_of(self, dims: int) -> Tensor:
        """Returns the order in which the dimensions are drawn, (dims,)."""
        if self.config.order == "natural":
            return torch.arange(dims)
        return torch.randperm(dims, generator=seeded_generator(self.config.order_seed, "order"))

    def frame(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        r"""Returns what the outputs are offsets from, and in units of, each (batch, D).

        A denoiser's are offsets from x̃. Where σ is an input they are so for small σ only: from
        m + s²/(s² + σ²) (x̃ − m), in units of σs/√(s² + σ²), which are mean and deviation of x
        given x̃ if x is Gaussian with the data's mean m and deviation s (Karras et al. 2022,
        table 1). σ is that of each coordinate, whose noise may be in units of its spread.
        """
        if not self.offset or context is None:
            return torch.zeros_like(x), torch.ones_like(x)
        if self.noise_scale is None:
            return context, torch.ones_like(x)
        mean, deviation = (each[-x.shape[1] :] for each in (self.in_loc, self.in_scale))
        noise = self.noise_scale * self.log_sigma(len(x), x).exp()
        share = deviation**2 / (deviation**2 + noise**2)
        return mean + share * (context - mean), noise * share.sqrt()

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Mixture:
        """Returns the mixture of each dimension given those before it: (batch, D, K)."""
        inputs = x if context is None else torch.cat([context, x], dim=1)
        standard = (inputs - self.in_loc) / self.in_scale
        hidden = self.first(_with_waves(standard, self.config.frequencies))
        if self.of_sigma is not None:
            hidden = hidden + self.of_sigma(self.log_sigma(len(x), x))
        for layer in self.hidden:
            hidden = hidden + layer(self.activation(hidden))
        outputs = self.last(self.activation(hidden)).view(len(x), *self.event_shape, 3, -1)
        logits, means, log_scales = outputs.unbind(2)
        log_scales = log_scales.clamp(self.config.min_log_scale, self.config.max_log_scale)
        means = self.out_loc[:, None] + self.out_scale[:, None] * means
        log_scales = log_scales + self.out_scale.log()[:, None]
        origin, unit = (each[..., None] for each in self.frame(x, context))
        return Mixture(logits, origin + unit * means, log_scales + unit.log())

    def log_probs(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(xᵢ | x₁ … xᵢ₋₁, context) in nats for every i: (batch, D)."""
        self.check_labels(labels, len(x))
        return self.conditionals(x, context).log_prob(x, self.levels)

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
        """Draws what is not known of x, each dimension given those before it in the order."""
        self.check_labels(labels, len(x))
        self.check_known(known, len(x))
        known = known.to(x.device)
        unknown = [i for i in self.order.tolist() if not known[:, i].all()]
        x = x.where(known, 0.0)
        for done, i in enumerate(unknown, start=1):
            mixture = self.conditionals(x, context)
            draws = Mixture(*(parameter[:, i] for parameter in mixture)).sample(generator)
            draws = draws if self.levels is None else to_grid(draws, self.levels)
            x[:, i] = x[:, i].where(known[:, i], draws)
            if progress is not None:
                progress(done, len(unknown))
        return x

    @classmethod
    def joint(cls, event_shape: Shape, config: Any = None) -> "JointMADE":
        """Returns one MADE over [x̃, x] (ARDS section 4.1).

        Raises:
            NotAvailable: it should take σ as an input.
        """
        if config is not None and config.lowest_sigma:
            raise NotAvailable("A joint model has one sigma: leave lowest_sigma out.")
        return JointMADE((2 * event_shape[0],), config=config)


class JointMADE(MADE):
    r"""p(x̃, x) = p(x̃) p(x|x̃) by one network over the 2D dimensions [x̃, x] (ARDS section 4.1).

    The first D conditionals are the prior, the last D the denoiser.
    """

    @property
    def dims(self) -> int:
        """The dimensions D of x."""
        return self.event_shape[0] // 2

    def order_of(self, dims: int) -> Tensor:
        """Returns an order in which all of x̃ comes before all of x, (dims,)."""
        half = super().order_of(dims // 2)
        return torch.cat([half, half + dims // 2])

    def frame(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns [0, x̃] and 1: the denoiser's means are offsets from x̃, the prior's are free."""
        x_smooth = x[:, : self.dims]
        offset = x_smooth if self.config.offset else torch.zeros_like(x_smooth)
        return torch.cat([torch.zeros_like(x_smooth), offset], 1), torch.ones_like(x)

    def prior(self) -> "JointPrior":
        """Returns p(x̃), sharing this network's weights."""
        return JointPrior(self)

    def denoiser(self) -> "JointDenoiser":
        """Returns p(x|x̃), sharing this network's weights."""
        return JointDenoiser(self)


class _Half(Autoregressive):
    """Half of a `JointMADE` as a density of its own, which shares its weights."""

    is_first: ClassVar[bool]
    """Whether it is the first half."""

    def __init__(self, joint: JointMADE, context_shape: Shape | None = None) -> None:
        super().__init__((joint.dims,), context_shape, config=joint.config)
        self.joint_density = joint

    def log_probs(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(xᵢ | x₁ … xᵢ₋₁, context) in nats for every i: (batch, D)."""
        return self._own(self.joint_density.log_probs(self._both(x, context), None, labels))

    def inpaint(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws what is not known of x, each dimension given those before it in the order."""
        self.check_known(known, len(x))
        both, mask = self._both(x, context), self._placed(known, torch.ones_like(known))
        filled = self.joint_density.inpaint(both, mask, None, labels, generator, progress)
        return self._own(filled)

    def _both(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Returns [x̃, x]: (batch, 2D); where x̃ is asked for alone, x does not matter to it."""
        if self.context_shape is None:
            return self._placed(x, torch.zeros_like(x))
        if context is None:
            raise UsageError("A denoiser needs the smoothed samples x̃ as its context.")
        return self._placed(x, context)

    def _placed(self, own: Tensor, other: Tensor) -> Tensor:
        return torch.cat([own, other] if self.is_first else [other, own], dim=1)

    def _own(self, both: Tensor) -> Tensor:
        first, last = both.chunk(2, dim=1)
        return first if self.is_first else last


class JointPrior(_Half):
    """p(x̃): the first half of a `JointMADE` as a density of its own."""

    summary = "the prior inside a joint MADE"
    is_first = True


class JointDenoiser(_Half):
    """p(x|x̃): the second half of a `JointMADE` as a conditional density of its own."""

    summary = "the denoiser inside a joint MADE"
    is_first = False

    def __init__(self, joint: JointMADE) -> None:
        super().__init__(joint, (joint.dims,))
