"""MADE of flattened images."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from smoothctl.architectures.autoregressive import Autoregressive
from smoothctl.architectures.base import Progress, Shape, to_grid
from smoothctl.architectures.made import MADE
from smoothctl.architectures.mixtures import Mixture
from smoothctl.config import config
from smoothctl.errors import UsageError
from smoothctl_rivals.autoregressive import row_uniforms

__all__ = ["ImageMADE"]


class ImageMADE(Autoregressive):
    """The built-in `made` of all values of an image, channel after channel (Germain et al. 2015).

    Each value is a mixture of logistics given those before it: a density on the reals, or the mass
    of values on a grid.
    """

    @config
    class Config(MADE.Config):
        """Settings of `image-made`."""

        mixtures: int = Field(5, ge=1, le=1000, description="logistics per value")
        width: int = Field(512, ge=1, le=65_536, description="units in each hidden layer")

    summary = "masked autoregressive network for flattened images, of mixtures of logistics (MADE)"
    domain = "image"
    training_defaults: ClassVar = {
        "steps": 600,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "validation_limit": 250,
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
        if self.context_shape not in (None, self.event_shape):
            raise UsageError(
                f"ImageMADE takes a context of the event's shape {self.event_shape}, not "
                f"{self.context_shape}."
            )
        flat = (torch.Size(self.event_shape).numel(),)
        given = None if self.context_shape is None else flat
        self.made = MADE(flat, given, levels, self.config)

    @property
    def _of_sigma(self) -> MADE:
        """The MADE, at the σ that was chosen by `at`."""
        return self.made if self.chosen_sigma is None else self.made.at(self.chosen_sigma)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardises every value; see `MADE.initialize`."""
        self._of_sigma.initialize(x.flatten(1), _flat(context))

    def log_probs(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p of every value given those before it in nats: (batch, C, H, W)."""
        return self._of_sigma.log_probs(x.flatten(1), _flat(context), labels).view_as(x)

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
        """Draws the values that are not known, each given those before it in the order."""
        self.check_labels(labels, len(x))
        self.check_known(known, len(x))
        known = known.to(x.device).expand(-1, len(x[0]), -1, -1).flatten(1)
        flat, given = x.flatten(1).where(known, 0.0), _flat(context)
        u = row_uniforms(len(x), (flat.shape[1], 2), x, generator)
        for done, i in enumerate(self.made.order.tolist(), start=1):
            mixture = Mixture(*(each[:, i] for each in self._of_sigma.conditionals(flat, given)))
            drawn = mixture.quantile(*u[:, i].unbind(1))
            drawn = drawn if self.levels is None else to_grid(drawn, self.levels)
            flat[:, i] = flat[:, i].where(known[:, i], drawn)
            if progress is not None:
                progress(done, flat.shape[1])
        return flat.view_as(x)


def _flat(context: Tensor | None) -> Tensor | None:
    return None if context is None else context.flatten(1)
