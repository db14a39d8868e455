"""The Fréchet distance between two sets of features."""

import torch
from torch import Tensor

from smoothctl.errors import DataError

__all__ = ["frechet_distance"]


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Returns |μₓ − μᵧ|² + tr(Σₓ + Σᵧ − 2 (Σₓ^½ Σᵧ Σₓ^½)^½) (Heusel et al. 2017, eq. 6).

    Both roots by symmetric eigendecomposition in float64. Biased upwards for few examples, so
    compare only at equal numbers.

    Args:
        x: features, (n, d).
        y: features, (m, d).

    Raises:
        DataError: fewer than two examples, unequal widths, or values that are not finite.
    """
    if min(len(x), len(y)) < 2 or x.shape[1:] != y.shape[1:] or x.ndim != 2:
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise DataError(f"Two sets of at least two feature vectors are needed, not {shapes}.")
    x, y = x.double(), y.double()
    if not (x.isfinite().all() and y.isfinite().all()):
        raise DataError("The features are not all finite.")
    root = _root(x.T.cov())
    product = torch.linalg.eigvalsh(root @ y.T.cov() @ root).clamp(min=0).sqrt().sum()
    total = (x.mean(0) - y.mean(0)).square().sum() + x.var(0).sum() + y.var(0).sum()
    return float(total - 2 * product)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
