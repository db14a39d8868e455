"""TarFlow as a density of images, whose tokens are patches, and of vectors."""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from smoothctl_rivals.dequantised import DequantisedFlow
from smoothctl_rivals.invertible import squeeze, unsqueeze
from torch import Generator, Tensor

from smoothctl.architectures.any_sigma import AnySigma
from smoothctl.architectures.base import Density, Progress, Shape, standardise
from smoothctl.config import config
from smoothctl.errors import UsageError
from smoothctl.rng import generator as seeded_generator
from smoothctl.rng import normal
from smoothctl_tarflow.flow import TokenFlow

__all__ = ["TarFlow", "VectorTarFlow"]

_TRAINING = {
    "steps": 3000,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "beta2": 0.95,
    "warmup": 0.05,
    "clip": 1.0,
    "ema": 0.999,
}


@config
class Settings(AnySigma):
    """What both kinds have."""

    flows: int = Field(4, ge=1, le=64, description="autoregressive maps, in alternating order")
    layers: int = Field(2, ge=1, le=64, description="of each map's transformer")
    width: int = Field(96, ge=2, le=8192, description="of each map's transformer")
    heads: int = Field(4, ge=1, le=64, description="of attention; they divide the width")
    scale_cap: float = Field(2.0, ge=1e-3, le=10, description="bound of each map's |log-scale|")

    @model_validator(mode="after")
    def _heads_divide(self) -> "Settings":
        if self.width % self.heads:
            raise ValueError("heads must divide width")
        return self


def _flow(settings: Settings, tokens: int, dims: int, context: int) -> TokenFlow:
    s, leveled = settings, settings.lowest_sigma > 0
    sizes = (s.flows, s.width, s.layers, s.heads, s.scale_cap)
    return TokenFlow(tokens, dims, context, leveled, *sizes)


class TarFlow(DequantisedFlow):
    r"""z = f_T ∘ … ∘ f₁(x), each an affine map of patches in order (Zhai et al. 2024, section 2).

    log p(x) = log N(z; 0, I) − Σₜ Σᵢ αᵗᵢ, exactly. Patches are standardised by the data first. A
    denoiser's maps see x̃ in place: at a patch, that of x̃ at the same place and those before it, and
    with alternating order those after it in the next map.
    """

    @config
    class Config(Settings):
        """Settings of `tarflow`."""

        patch: int = Field(
            2, ge=1, le=64, description="side of a patch; the largest divisor of a side up to it"
        )

    summary = "flow of causal transformers over patches (TarFlow); 8-bit data by a bound"
    training_defaults: ClassVar = _TRAINING
    presets: ClassVar = {
        "digits": {},
        "mnist": {"patch": 4, "width": 128},
        "32x32": {"patch": 4, "width": 256, "flows": 6, "layers": 4, "heads": 8},
        "paper-imagenet64": {"patch": 2, "width": 768, "flows": 8, "layers": 8, "heads": 12},
    }
    first_batch = 256
    config: Config
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        if self.context_shape is not None and self.context_shape[1:] != self.event_shape[1:]:
            raise UsageError(
                "TarFlow sees a context in place: it must be an image of the size of those "
                f"modelled, not of shape {'×'.join(map(str, self.context_shape))}."
            )
        channels, *sides = self.event_shape
        height, width = (_divisor(side, self.config.patch) for side in sides)
        self.patch = (height, width)
        cells = height * width
        self.dims, self.tokens = channels * cells, math.prod(sides) // cells
        seen = 0 if self.context_shape is None else self.context_shape[0] * cells
        self.flow = _flow(self.config, self.tokens, self.dims, seen)
        self.register_buffer("loc", torch.zeros(self.dims))
        self.register_buffer("scale", torch.ones(self.dims))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardises each coordinate of a patch."""
        draws = seeded_generator("initialize")
        y = x if self.levels is None else self._dequantised(x, draws)[0]
        self.loc, self.scale = standardise(self._tokens(y).flatten(0, 1))

    def to_noise(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns f(x; c), (batch, C·H·W), and log |det ∂f/∂x|, (batch,), exactly."""
        given = None if context is None else self._tokens(context)
        tokens = (self._tokens(x) - self.loc) / self.scale
        z, log_determinant = self.flow(tokens, given, self._log_sigma(len(x)))
        return z.flatten(1), log_determinant - self.tokens * self.scale.log().sum()

    def from_noise(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Undoes `to_noise`: returns x, (batch, C, H, W)."""
        given = None if context is None else self._tokens(context)
        tokens = z.view(-1, self.tokens, self.dims)
        x = self.flow.inverse(tokens, given, self._log_sigma(len(z)))
        cells = (x * self.scale + self.loc).transpose(1, 2)
        rows = self.event_shape[1] // self.patch[0]
        return unsqueeze(cells.unflatten(2, (rows, -1)), self.patch)

    def bytes_per_example(self) -> int:
        """Returns about how much memory one example takes in `log_prob` without gradients."""
        return 2**12 + 4 * self.tokens * (10 * int(self.config.width) + self.tokens)

    def _log_sigma(self, n: int) -> Tensor | None:
        return self.log_sigma(n, self.loc) if self.lowest_sigma else None

    def _tokens(self, x: Tensor) -> Tensor:
        """Returns patches in raster order: (batch, C, H, W) -> (batch, tokens, C·h·w)."""
        return squeeze(x, self.patch).flatten(2).transpose(1, 2)


class VectorTarFlow(Density):
    """The same of vectors, each of whose coordinates is a token; a context is seen by all."""

    @config
    class Config(Settings):
        """Settings of `tarflow-vector`."""

        width: int = Field(32, ge=2, le=8192, description="of each map's transformer")

    summary = "flow of causal transformers over coordinates (TarFlow)"
    training_defaults: ClassVar = {**_TRAINING, "batch_size": 512, "learning_rate": 2e-3}
    config: Config
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        if levels is not None:
            raise UsageError("TarFlow models vectors of real numbers, not those of levels.")
        dims, extra = self.event_shape[0], math.prod(self.context_shape or (0,))
        self.flow = _flow(self.config, dims, 1, extra)
        for name, size in (("loc", dims), ("scale", dims)):
            self.register_buffer(name, torch.full((size,), float(name == "scale")))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardises each coordinate."""
        self.loc, self.scale = standardise(x)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x | context) in nats: (batch, D) -> (batch,)."""
        self.check_labels(labels, len(x))
        tokens = ((x - self.loc) / self.scale)[..., None]
        z, log_determinant = self.flow(tokens, *self._given(len(x), context))
        log_normal = -0.5 * (z.flatten(1).square().sum(1) + x.shape[1] * math.log(2 * math.pi))
        density: Tensor = log_normal + log_determinant - self.scale.log().sum()
        return density

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draws n samples through the inverse flow: (n, D)."""
        self.check_labels(labels, n)
        z = normal((n, *self.event_shape), self.loc, generator)
        x: Tensor = self.flow.inverse(z[..., None], *self._given(n, context))[..., 0]
        return x * self.scale + self.loc

    def _given(self, n: int, context: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Returns the whole context at each coordinate, (n, D, dims of it), and log σ, (n, 1)."""
        if context is not None:
            context = context.flatten(1)[:, None].expand(-1, self.event_shape[0], -1)
        return context, self.log_sigma(n, self.loc) if self.lowest_sigma else None


def _divisor(side: int, most: int) -> int:
    """Returns the largest divisor of a side up to `most`."""
    return next(size for size in range(min(most, side), 0, -1) if side % size == 0)
