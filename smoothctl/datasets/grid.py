"""The trapezoid rule on a regular grid: exponentially accurate for smooth densities that decay."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """A regular grid in one or two dimensions.

    Args:
        axes: the coordinates along each dimension, float64.
        cell: the volume of one cell, in data units to the power of the dimensions.
    """

    axes: tuple[Tensor, ...]
    cell: float

    @classmethod
    def around(cls, points: Tensor, margin: float, spacing: float) -> "Grid":
        """Returns the grid around `points` (n, dims) with a margin, at most `spacing` apart."""
        low, high = points.double().amin(0) - margin, points.double().amax(0) + margin
        axes = tuple(
            torch.linspace(a, b, 1 + math.ceil((b - a) / spacing - 1e-9), dtype=torch.float64)
            for a, b in zip(low.tolist(), high.tolist(), strict=True)
        )
        return cls(axes, math.prod(float(axis[1] - axis[0]) for axis in axes))

    @property
    def points(self) -> Tensor:
        """All grid points, shape (n, dims), float64."""
        return torch.cartesian_prod(*self.axes).view(-1, len(self.axes))

    def integral(self, values: Tensor) -> float:
        """Returns Σ values · cell for values at `points`, shape (n,)."""
        return float(values.sum()) * self.cell

    def mass(self, log_prob: Callable[[Tensor], Tensor]) -> float:
        """Returns ∫ p: one for a density that the grid covers and resolves."""
        return self.integral(log_prob(self.points).exp())

    def entropy(self, log_prob: Callable[[Tensor], Tensor]) -> float:
        """Returns −∫ p log p in nats."""
        log_density = log_prob(self.points)
        return -self.integral(torch.special.xlogy(log_density.exp(), log_density.exp()))
