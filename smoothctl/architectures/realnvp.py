"""RealNVP: affine couplings, conditional where there is a context."""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from smoothctl.architectures.any_sigma import AnySigma
from smoothctl.architectures.base import Progress, Shape
from smoothctl.architectures.layers import mlp
from smoothctl.architectures.standardised import StandardisedDensity
from smoothctl.config import config
from smoothctl.errors import UsageError
from smoothctl.rng import normal

__all__ = ["Coupling", "RealNVP"]


class Coupling(nn.Module):
    r"""x_b ↦ x_b · exp(s(x_a, c)) + t(x_a, c), given x_a (Dinh et al. 2017, eq. 7).

    The log-scale s is softly capped: s = cap · tanh(raw/cap).

    Args:
        given: coordinates of x_a and of the context together.
        moved: coordinates of x_b.
        width: units in each hidden layer.
        layers: hidden layers.
        cap: the bound of |s|.
    """

    def __init__(self, given: int, moved: int, width: int, layers: int, cap: float) -> None:
        super().__init__()
        self.cap = cap
        self.network = mlp(given, width, layers, 2 * moved)
        for parameter in self.network[-1].parameters():  # starts as the identity
            nn.init.zeros_(parameter)

    def _scale_and_shift(self, given: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        inputs = given if context is None else torch.cat([given, context], dim=1)
        raw, shift = self.network(inputs).chunk(2, dim=1)
        return self.cap * torch.tanh(raw / self.cap), shift

    def forward(
        self, given: Tensor, moved: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the transformed x_b, (batch, moved), and the log-determinant, (batch,)."""
        log_scale, shift = self._scale_and_shift(given, context)
        return moved * log_scale.exp() + shift, log_scale.sum(1)

    def inverse(self, given: Tensor, moved: Tensor, context: Tensor | None = None) -> Tensor:
        """Undoes `forward`: returns x_b, (batch, moved)."""
        log_scale, shift = self._scale_and_shift(given, context)
        return (moved - shift) * (-log_scale).exp()


class RealNVP(StandardisedDensity):
    r"""log p(x | c) = log N(f(x; c); 0, I) + log |det ∂f/∂x| (Dinh et al. 2017, eq. 3).

    f standardises and then alternates couplings between the even and the odd coordinates; the
    two halves stay apart throughout, which saves an indexing a coupling. With a context every
    coupling sees it, and a denoiser models x − x̃, so that the identity is already a fair guess.
    """

    @config
    class Config(AnySigma):
        """Settings of `realnvp`."""

        couplings: int = Field(8, ge=2, le=256, description="number of affine couplings")
        width: int = Field(64, ge=1, le=65_536, description="units in each hidden layer")
        layers: int = Field(2, ge=1, le=20, description="hidden layers of each coupling's network")
        scale_cap: float = Field(
            3.0, ge=1e-3, le=20, description="bound of each coupling's |log-scale|"
        )
        offset: bool = Field(True, description="a denoiser models x − x̃ rather than x")

    summary = "flow of affine couplings, conditional ones for the denoiser"
    training_defaults: ClassVar = {"steps": 12_000, "learning_rate": 2e-3, "beta2": 0.999}
    config: Config

    def __init__(
        self,
        event_shape: Shape,
        context_shape: Shape | None = None,
        levels: int | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(event_shape, context_shape, levels, config)
        dims, extra = self.event_shape[0], self.context_dims
        if dims < 2:
            raise UsageError(
                "RealNVP splits the coordinates in two and cannot model one dimension: "
                "use logistic-mixture or made."
            )
        c = self.config
        even, odd = (dims + 1) // 2, dims // 2
        sizes = [(even, odd) if k % 2 == 0 else (odd, even) for k in range(c.couplings)]
        self.couplings = nn.ModuleList(
            Coupling(given + extra, moved, c.width, c.layers, c.scale_cap) for given, moved in sizes
        )

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Returns log p(x | context) in nats: (batch, D) -> (batch,)."""
        self.check_labels(labels, len(x))
        z, given = self.to_standard(x, context)
        kept, moved = z[:, ::2], z[:, 1::2]
        log_determinant = -self.log_volume.expand(len(x))
        for coupling in self.couplings:
            changed, log_scale = coupling(kept, moved, given)
            kept, moved = changed, kept
            log_determinant = log_determinant + log_scale
        squared = (kept**2).sum(1) + (moved**2).sum(1)
        return log_determinant - 0.5 * squared - 0.5 * z.shape[1] * math.log(2 * math.pi)

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
        given = self.standard_context(context, n)
        z = normal((n, *self.event_shape), self.loc, generator)
        kept, moved = z[:, ::2], z[:, 1::2]
        if len(self.couplings) % 2 == 1:
            kept, moved = moved, kept
        for coupling in reversed(list(self.couplings)):
            assert isinstance(coupling, Coupling)
            kept, moved = moved, coupling.inverse(moved, kept, given)
        z = torch.empty_like(z)
        z[:, ::2], z[:, 1::2] = kept, moved
        return self.from_standard(z, context)
