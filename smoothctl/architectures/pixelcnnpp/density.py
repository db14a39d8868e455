"""PixelCNN++ as a density of images, and as a denoiser of smoothed ones."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median_low
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from smoothctl.architectures.any_sigma import AnySigma
from smoothctl.architectures.autoregressive import Autoregressive
from smoothctl.architectures.base import Progress, Shape, to_grid
from smoothctl.architectures.mixtures import LARGEST_LOG_SCALE
from smoothctl.architectures.pixelcnnpp.choice import SAMPLERS
from smoothctl.architectures.pixelcnnpp.head import (
    Components,
    CoupledMixture,
    PixelNoise,
    initial_bias,
    parameters_per_mixture,
)
from smoothctl.architectures.pixelcnnpp.initialization import normalise_layers
from smoothctl.architectures.pixelcnnpp.network import Condition, Encoder, Network, layers_of
from smoothctl.architectures.pixelcnnpp.parallel import ParallelSampler
from smoothctl.architectures.pixelcnnpp.samplers import Canvas
from smoothctl.config import config
from smoothctl.errors import UsageError

__all__ = ["PixelCNNpp"]

_FEW_EPOCHS: Mapping[str, float] = {"baseline": 10, "denoiser": 20, "prior": 60}
"""Up to so many a network does not learn the examples by heart: noise makes each of them anew."""

_PAPER_TRAINING: Mapping[str, Any] = {
    "training.learning_rate": 2e-4,
    "training.decay": "exponential",
    "training.decay_rate": 0.999995,
    "training.beta2": 0.999,
    "training.warmup": 0,
    "training.clip": 0.0,
    "training.ema": 0.0,
    "training.batch_size": 80,
}
"""1,000 epochs of 80 images follow, without an average of the weights."""


class PixelCNNpp(Autoregressive):
    r"""p(x | x̃) = Πᵢ p(xᵢ | x₁ … xᵢ₋₁, x̃) over pixels in raster order (Salimans et al. 2017).

    Each pixel is a mixture of logistics whose channels are linearly coupled: a density on the
    reals for smoothed images, which are never clamped, or the mass of values on a grid. Of images
    that normal noise smoothed it is one of normals, none of which is narrower than the noise.

    A denoiser sees x̃ in place, by an encoder whose features are added to both streams at each
    scale (`conditioning=aligned`), or stacked above x along the height, of which it then models
    the lower half (`stacked`, ARDS appendix C).
    """

    @config
    class Config(AnySigma):
        """Settings of `pixelcnnpp`."""

        blocks: int = Field(
            2,
            ge=1,
            le=12,
            description="gated blocks of each stream and scale; 1 suits an aligned denoiser",
        )
        filters: int = Field(32, ge=1, le=4096, description="channels of each stream")
        mixtures: int = Field(5, ge=1, le=1000, description="components of each pixel's mixture")
        scales: int = Field(3, ge=1, le=8, description="resolutions, each half of the one before")
        dropout: float = Field(
            0.0,
            ge=0,
            lt=1,
            description="probability that a channel is dropped inside a block; 0.5 suits more than "
            "10 epochs of a plain model, 20 of a denoiser and 60 of a prior",
        )
        classes: int = Field(
            0, ge=0, le=1_000_000, description="number of classes to condition on; 0: unconditional"
        )
        offset: bool = Field(
            False, description="a denoiser's means are offsets from x̃ rather than free"
        )
        min_log_scale: float = Field(
            -7.0,
            ge=-LARGEST_LOG_SCALE,
            le=LARGEST_LOG_SCALE,
            description="floor of log-scales, in data units",
        )
        noise: float = Field(
            0.0,
            ge=0,
            le=1e15,
            description="of a prior: deviation of the normal noise in x̃, by which mixtures of "
            "normals are smoothed; 0: mixtures of logistics",
        )
        conditioning: Literal["aligned", "stacked"] = Field(
            "aligned",
            description="how a denoiser sees x̃: in place, by an encoder, or stacked above x as in "
            "the paper",
        )
        encoder_blocks: int = Field(
            1, ge=0, le=100, description="gated blocks of the encoder at each scale"
        )
        encoder_filters: int = Field(
            0, ge=0, le=4096, description="channels of the encoder; 0: as many as of the streams"
        )
        sampler: Literal["auto", "compiled", "cached", "graphed", "parallel", "naive"] = Field(
            "auto",
            description="how samples are drawn, which are the same: pixel by pixel with caches (in "
            "native code, in torch, by CUDA graphs), by passes over whole images until nothing "
            "changes, or by a pass for each pixel; auto: in native code where it can",
        )

    summary = "convolutional autoregressive network for images (PixelCNN++)"
    domain = "image"
    training_defaults: ClassVar = {
        "steps": 4000,
        "batch_size": 8,
        "learning_rate": 6e-3,
        "beta2": 0.999,
        "warmup": 0.05,
        "ema": 0.9995,
        "clip": 1000.0,
        "validation_limit": 250,
    }
    presets: ClassVar = {
        "small": {"filters": 32, "mixtures": 5},
        "large": {
            **_PAPER_TRAINING,
            "training.ema": 0.9995,
            "training.steps": 250_000,
            "blocks": 5,
            "filters": 160,
            "mixtures": 10,
            "dropout": 0.5,
        },
        "paper-mnist": {
            **_PAPER_TRAINING,
            "training.steps": 750_000,
            "conditioning": "stacked",
            "blocks": 5,
            "filters": 40,
            "mixtures": 10,
            "noise": 0.0,
            "dropout": 0.5,
        },
        "paper-cifar10": {
            **_PAPER_TRAINING,
            "training.steps": 625_000,
            "conditioning": "stacked",
            "blocks": 5,
            "filters": 160,
            "mixtures": 10,
            "noise": 0.0,
            "dropout": 0.5,
        },
    }
    sampler_settings = frozenset({"sampler"})
    noise_setting = "noise"
    first_batch = 128
    config: Config

    @classmethod
    def suited(cls, stage: str, epochs: float, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns dropout for many epochs, none for few; and a shallow denoiser that is aligned.

        x̃ carries most of what there is to know of x, and half the depth takes twice the steps in
        the time (docs/measurements.md has the figures).
        """
        aligned = stage == "denoiser" and chosen.get("conditioning", "aligned") == "aligned"
        few = epochs <= _FEW_EPOCHS.get(stage, 0)
        return {"blocks": 1 if aligned else 2, "dropout": 0.0 if few else 0.5}

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        if self.context_shape not in (None, self.event_shape):
            raise UsageError(
                f"PixelCNN++ takes a context of the event's shape {self.event_shape}, "
                f"not {self.context_shape}."
            )
        c = self.config
        if c.noise and self.levels is not None:
            raise UsageError(
                f"`noise={c.noise:g}` is in smoothed images: leave it out for values on a grid."
            )
        self.components = Components(c.min_log_scale, c.noise)
        self.sampler = SAMPLERS[c.sampler]()
        self.classes = c.classes or None
        channels, self.height, self.width = self.event_shape
        self.network = Network(
            channels,
            c.mixtures * parameters_per_mixture(channels),
            c.filters,
            c.blocks,
            c.scales,
            c.dropout,
            self.classes,
            self.lowest_sigma > 0,
        )
        self.encoder: Encoder | None = None
        if self.context_shape is not None and c.conditioning == "aligned":
            self.encoder = Encoder(
                channels,
                c.filters,
                c.encoder_filters or c.filters,
                c.encoder_blocks,
                c.scales,
                c.dropout,
            )

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Normalises every layer on a first batch; the outputs start as a wide mixture."""
        labels = x.new_zeros(len(x), dtype=torch.int64) if self.classes else None
        with self._without_dropout():
            layers = self.network.layers() + (
                [] if self.encoder is None else layers_of(self.encoder)
            )
            normalise_layers(layers, lambda: self._outputs(x, context, labels))
        centred = x - context if self._offset and context is not None else x
        by_channel = centred.transpose(0, 1).flatten(1)
        mean, sd = by_channel.mean(1), by_channel.std(1).clamp(min=1e-3)
        with torch.no_grad():
            bias = initial_bias(self.config.mixtures, mean, sd, self.components)
            self.network.out.bias.copy_(bias)

    def log_probs(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p of every pixel given those before it: (batch, 1, H, W).

        Args:
            x: images; on the reals with `levels=None`, else on the grid v · 2/(levels − 1) − 1.
            context: x̃ for a denoiser, shape of x.
            labels: classes, int64 (batch,), for a class-conditional model.

        Raises:
            UsageError: labels are missing or not classes.
        """
        mixture = self._mixture(self._outputs(x, context, labels), context)
        return mixture.log_prob(x.permute(0, 2, 3, 1), self.levels)[:, None]

    def prior_loss(
        self,
        x: Tensor,
        x_smooth: Tensor,
        sigma: float,
        labels: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        r"""Returns −Σᵢ ½ [log p(x̃ᵢ | x̃_<i) + log p(2xᵢ − x̃ᵢ | x̃_<i)]: (batch,).

        q is symmetric and its coordinates are independent, so that 2xᵢ − x̃ᵢ given x̃_<i is drawn as
        often as x̃ᵢ: the expectation is that of −log p(x̃). Its gradient varies less, as the noise
        of a pixel's value and that of its mirror image cancel, and one pass serves both.
        """
        mixture = self._mixture(self._outputs(x_smooth, None, labels), None)
        both = torch.stack([x_smooth, 2 * x - x_smooth]).permute(0, 1, 3, 4, 2)
        return -mixture.log_prob(both, self.levels).flatten(2).sum(2).mean(0)

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
        """Draws the pixels that are not known, each given all pixels before it in raster order.

        Args:
            x: images, (n, C, H, W); what is not known is ignored.
            known: bool, (n or 1, 1, H, W); True where x is kept exactly.
            context: x̃ for a denoiser, shape of x.
            labels: classes, int64 (n,), for a class-conditional model.
            generator: the source of the images' seeds.
            progress: told (rows done, rows).

        Raises:
            UsageError: a mask of another shape, or labels that are missing or not classes.
        """
        with self._without_dropout():
            canvas = self._canvas(x, known, context, labels, generator)
            return canvas.image(self.sampler(self.network, canvas, progress))

    @property
    def passes(self) -> list[int]:
        """Passes through the network that each image took which was drawn so far.

        Empty where they were not drawn by passes over whole images (`sampler=parallel`).
        """
        return self.sampler.passes if isinstance(self.sampler, ParallelSampler) else []

    def sampling_note(self) -> str | None:
        """Returns how many passes the images so far took, where they were drawn by passes."""
        if not self.passes:
            return None
        typical, pixels = median_low(self.passes), self.height * self.width
        fewest, most = min(self.passes), max(self.passes)
        return f"images of {pixels:,} pixels in {typical} passes (median; {fewest} to {most})"

    def _canvas(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | None,
        labels: Tensor | None,
        generator: Generator | None,
    ) -> Canvas:
        """Returns what a sampler fills in: x, of a stacked denoiser below x̃; without dropout."""
        self.check_known(known, len(x))
        self.check_labels(labels, len(x))
        known = known.to(x.device)
        images, first_row = torch.where(known, x, self._start(context)), 0
        if context is not None and self.encoder is None:
            images, first_row = torch.cat([context, images], dim=2), self.height
            known = torch.cat([torch.ones_like(known), known], dim=2)
        return Canvas(
            images,
            known,
            PixelNoise.of_images(x, self.config.mixtures, self.components, generator),
            self.components,
            self.levels,
            self._condition(len(x), labels),
            self._features(context),
            context if self._offset else None,
            first_row,
        )

    def _start(self, context: Tensor | None) -> Tensor | float:
        """Returns what a sampler that starts somewhere starts from: x̃, brought to the values of x.

        From there a denoiser takes the fewest passes, fewer than from its single-step mean.
        """
        if context is None:
            return 0.0
        return context if self.levels is None else to_grid(context, self.levels)

    def bytes_per_example(self) -> int:
        """Returns the size of the two streams' activations in a pass without gradients."""
        c = self.config
        stacked = self.context_shape is not None and self.encoder is None
        rows = self.height * (2 if stacked else 1)
        tensors = 2 * (c.blocks + 2) * 4 / 3 + 16
        size = self.network.out.bias.element_size()
        return int(
            rows * self.width * size * (c.filters * tensors + 8 * self.network.out.out_features)
        )

    @contextmanager
    def _without_dropout(self) -> Iterator[None]:
        """Puts the model into evaluation mode for the time of the block."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    @property
    def _offset(self) -> bool:
        return self.config.offset and self.context_shape is not None

    def _outputs(self, x: Tensor, context: Tensor | None, labels: Tensor | None) -> Tensor:
        """Returns the parameters of every pixel of x: (batch, H, W, K·P)."""
        self.check_labels(labels, len(x))
        condition = self._condition(len(x), labels)
        if context is None or self.encoder is not None:
            features = self._features(context)
            parameters: Tensor = self.network(x, condition, features=features)
        else:
            both = torch.cat([context, x], dim=2)
            parameters = self.network(both, condition, first_row=self.height)
        return parameters

    def _condition(self, n: int, labels: Tensor | None) -> Condition:
        """Returns what n images are conditioned on beside their context."""
        like = self.network.out.bias
        return Condition(labels, self.log_sigma(n, like) if self.lowest_sigma else None)

    def _features(self, context: Tensor | None) -> Sequence[Tensor]:
        """Returns what an aligned denoiser adds to its streams for x̃; nothing without one."""
        if context is None or self.encoder is None:
            return ()
        features: list[Tensor] = self.encoder(context)
        return features

    def _mixture(self, parameters: Tensor, context: Tensor | None) -> CoupledMixture:
        centre = context.permute(0, 2, 3, 1) if self._offset and context is not None else None
        return self._of(parameters, centre)

    def _of(self, parameters: Tensor, centre: Tensor | None) -> CoupledMixture:
        mixture = CoupledMixture.of(parameters, self.event_shape[0], self.components)
        if centre is None:
            return mixture
        return mixture._replace(means=mixture.means + centre[..., None])
