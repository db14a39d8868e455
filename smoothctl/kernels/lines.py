"""Integrals of a density along coordinate lines, for the empirical-Bayes estimators."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from smoothctl.kernels.base import LogProb

__all__ = ["antisymmetric_line_integral", "panels"]

_CHUNK = 2**18
"""Density evaluations a call, so that memory stays bounded."""


def panels(length: float, count: int, order: int = 8) -> tuple[Tensor, Tensor]:
    """Returns nodes and weights (float64) of composite Gauss-Legendre quadrature on [0, length]."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half = length / count / 2
    centres = half * (2 * np.arange(count) + 1)
    grid = centres[:, None] + half * nodes[None, :]
    return torch.from_numpy(grid.ravel()), torch.from_numpy(np.tile(half * weights, count))


def antisymmetric_line_integral(
    x_smooth: Tensor, log_prob: LogProb, offsets: Tensor, weights: Tensor
) -> Tensor:
    r"""Returns Σₜ wₜ [p(x̃ + t eᵢ) − p(x̃ − t eᵢ)] / p(x̃) for every coordinate i.

    Args:
        x_smooth: points x̃, (batch, *event).
        log_prob: log p in nats, (n, *event) -> (n,).
        offsets: the distances t, (nodes,).
        weights: the weights wₜ, (nodes,).

    Returns:
        The sums, shape of `x_smooth`.
    """
    batch, dims = x_smooth.shape[0], x_smooth[0].numel()
    signed = torch.cat([offsets, -offsets]).to(x_smooth)
    signed_weights = torch.cat([weights, -weights]).to(x_smooth)
    result = torch.zeros(batch, dims, dtype=x_smooth.dtype, device=x_smooth.device)
    with torch.no_grad():
        for rows in _row_chunks(batch, len(signed)):
            points = x_smooth[rows]
            here = log_prob(points)
            for i in range(dims):
                moved = points.flatten(1).repeat_interleave(len(signed), dim=0)
                moved[:, i] += signed.repeat(len(points))
                there = log_prob(moved.view(-1, *x_smooth.shape[1:])).view(len(points), -1)
                result[rows, i] = (signed_weights * torch.exp(there - here[:, None])).sum(1)
    return result.view_as(x_smooth)


def _row_chunks(batch: int, nodes: int) -> Iterator[slice]:
    step = max(1, _CHUNK // nodes)
    return (slice(start, start + step) for start in range(0, batch, step))
