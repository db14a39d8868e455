"""The registered architectures: NCSN of images and NCSN of vectors."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from smoothctl.architectures.base import Shape
from smoothctl.config import config
from smoothctl.errors import UsageError
from smoothctl_ncsn.base import ScoreModel
from smoothctl_ncsn.langevin import ImageNoise, Noise, vector_noise
from smoothctl_ncsn.mlp import Activation, LevelMLP
from smoothctl_ncsn.refinenet import RefineNet

__all__ = ["ImageNCSN", "VectorNCSN"]

_PAPER: Mapping[str, Any] = {
    "sigma_begin": 2.0,
    "sigma_end": 0.02,
    "noise_levels": 10,
    "output": "raw",
    "steps": 100,
    "step_size": 0.2,
    "denoise": False,
    "start": "uniform",
    "training.learning_rate": 1e-3,
    "training.decay": "constant",
    "training.beta2": 0.999,
    "training.warmup": 0,
    "training.clip": 0.0,
    "training.ema": 0.0,
    "training.batch_size": 128,
    "training.steps": 200_000,
}
"""Levels from 1 to 0.01 and ε = 2·10⁻⁵ in images on [0, 1]: twice the levels in ours on [−1, 1]."""


class ImageNCSN(ScoreModel):
    """NCSN of images: a conditional RefineNet (Song & Ermon 2019, appendix A)."""

    @config
    class Config(ScoreModel.Config):
        """Settings of `ncsn`."""

        filters: int = Field(
            32, ge=1, le=4096, description="channels of the first cascade; the others have twice"
        )
        start: Literal["gaussian", "uniform"] = Field(
            "gaussian",
            description="where annealed sampling begins: noise of σ₁ about the mean, or uniform "
            "pixels as published",
        )

    summary = "noise conditional score network for images, sampled by Langevin dynamics (NCSN)"
    domain = "image"
    suggested_sigma = 0.02
    first_batch = 2048
    sampler_settings = ScoreModel.sampler_settings | {"start"}
    training_defaults: ClassVar = {
        "steps": 5000,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "warmup": 100,
        "ema": 0.999,
        "clip": 1000.0,
        "validation_limit": 500,
    }
    presets: ClassVar = {
        "small": {"filters": 32},
        "paper-mnist": {**_PAPER, "filters": 64},
        "paper-cifar10": {**_PAPER, "filters": 128},
    }
    config: Config

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        channels, height, width = self.event_shape
        if min(height, width) < 2:
            raise UsageError(
                f"NCSN halves the sides of an image: {height}×{width} pixels are too few; it "
                "takes 2×2 and more."
            )
        self.network = RefineNet(channels, self.config.filters, len(self.sigmas))

    def resize(self, count: int) -> None:
        """Makes room for so many levels; the weights of single levels start anew."""
        super().resize(count)
        self.network.resize(count)

    def network_output(self, x: Tensor, index: Tensor) -> Tensor:
        """Returns the RefineNet's map of each image."""
        out: Tensor = self.network(x, index)
        return out

    def start(self, noise: Noise, spread: Tensor) -> Tensor:
        """Returns images of noise, normal about the mean or uniform on [−1, 1]."""
        if self.config.start == "uniform":
            uniform: Tensor = 2 * torch.special.ndtr(noise()) - 1
            return uniform
        return super().start(noise, spread)

    def noise_like(self, x: Tensor, generator: Generator | None) -> Noise:
        """Returns noise that is drawn image by image."""
        return ImageNoise(x, generator)

    def bytes_per_example(self) -> int:
        """Returns about the size of the feature maps that live at the same time."""
        _, height, width = self.event_shape
        return 16 * self.config.filters * height * width * self.centre.element_size()


class VectorNCSN(ScoreModel):
    """NCSN of vectors: a perceptron that sees the level (NCSN section 3 on toy data)."""

    @config
    class Config(ScoreModel.Config):
        """Settings of `ncsn-mlp`."""

        steps: int = Field(50, ge=1, le=1_000_000, description="T, Langevin steps at each level")
        step_size: float = Field(
            0.1,
            ge=0,
            le=1e10,
            description="ε in units of the last level's σ²; 0: by technique 4 of NCSNv2",
        )
        width: int = Field(128, ge=1, le=65_536, description="units in each hidden layer")
        layers: int = Field(3, ge=1, le=1000, description="hidden layers")
        octaves: int = Field(
            5, ge=0, le=12, description="waves sin 2ᵏx and cos 2ᵏx of each coordinate that it sees"
        )
        activation: Activation = Field(
            "relu",
            description="relu or, smooth as sliced score matching needs it, silu or softplus",
        )

    summary = "noise conditional score network for vectors, sampled by Langevin dynamics (NCSN)"
    suggested_sigma = 0.02
    training_defaults: ClassVar = {"learning_rate": 2e-3, "batch_size": 1024, "ema": 0.999}
    config: Config

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        c = self.config
        if c.loss == "sliced" and c.activation == "relu":
            raise UsageError(
                "Sliced score matching differentiates the network twice, and relu has no second "
                "derivative: set activation=silu."
            )
        self.network = LevelMLP(self.event_shape[0], c.width, c.layers, c.octaves, c.activation)

    def network_output(self, x: Tensor, index: Tensor) -> Tensor:
        """Returns the perceptron's vector of each x, which it sees at unit scale."""
        if self.config.output == "raw":
            x = (x - self.centre) / self.spread
        out: Tensor = self.network(x, self.sigmas[index][:, None])
        return out

    def noise_like(self, x: Tensor, generator: Generator | None) -> Noise:
        """Returns noise that is drawn for all vectors at once."""
        return vector_noise(x, generator)

    def bytes_per_example(self) -> int:
        """Returns the size of two hidden layers."""
        return 2 * 4 * self.config.width * self.centre.element_size()
