"""A base for continuous densities of vectors, which sees data and context standardised."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from smoothctl.architectures.base import Density, Shape, standardise
from smoothctl.config import config
from smoothctl.errors import UsageError

__all__ = ["StandardisedDensity"]


class StandardisedDensity(Density):
    r"""Models z = (x − m)/s given a standardised context: log p(x | c) = log p(z | c) − Σ log s.

    m is the data's mean; a denoiser models x − x̃, so that its m is x̃ plus the mean difference.
    A subclass defines `log_prob` and `sample` by way of `to_standard`, `log_volume` and
    `from_standard`.
    """

    @config
    class Config:
        """Settings of every such density."""

        offset: bool = Field(True, description="a denoiser models x − x̃ rather than x")

    config: Any
    loc: Tensor
    scale: Tensor
    context_loc: Tensor
    context_scale: Tensor

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        if levels is not None:
            name = type(self).__name__
            raise UsageError(f"{name} has no likelihood of 8-bit values: it is continuous.")
        self.offset = self.config.offset and self.context_shape == self.event_shape
        context = (self.context_shape or (0,))[0]
        for name, size in [("", self.event_shape[0]), ("context_", context)]:
            self.register_buffer(f"{name}loc", torch.zeros(size))
            self.register_buffer(f"{name}scale", torch.ones(size))

    @property
    def context_dims(self) -> int:
        """Coordinates of what `standard_context` returns; 0 where that is None."""
        return (self.context_shape or (0,))[0] + bool(self.lowest_sigma)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardises the context and the data, or x − x̃ for a denoiser."""
        if context is not None:
            self.context_loc, self.context_scale = standardise(context)
        self.loc, self.scale = standardise(
            x - context if self.offset and context is not None else x
        )

    def to_standard(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns data (batch, D) and context (batch, C) as the network sees them."""
        return (x - self._centre(context)) / self.scale, self.standard_context(context, len(x))

    def from_standard(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Undoes `to_standard`: returns x, (batch, D)."""
        return self._centre(context) + self.scale * z

    def standard_context(self, context: Tensor | None, n: int = 1) -> Tensor | None:
        """Returns the context of n rows, (n, C), as the network sees it; with log σ after it."""
        given = None if context is None else (context - self.context_loc) / self.context_scale
        if not self.lowest_sigma:
            return given
        level = self.log_sigma(n, self.loc)
        return level if given is None else torch.cat([given, level], dim=1)

    @property
    def log_volume(self) -> Tensor:
        """Σ log s, a scalar: what log p(z) exceeds log p(x) by."""
        return self.scale.log().sum()

    def _centre(self, context: Tensor | None) -> Tensor:
        return self.loc if not self.offset or context is None else self.loc + context
