"""The Fréchet distance between two sets of features."""

import torch
from torch import Tensor

from smoothctl.errors import DataError
from smoothctl.metrics.moments import Moments
from smoothctl.metrics.two_sample import check_pair

__all__ = ["frechet_between", "frechet_distance", "frechet_error"]

_LEAST = 1e-12
"""Of the largest eigenvalue: what is below is rounding."""


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Returns the Fréchet distance of Gaussians fitted to two sets of features.

    See `frechet_between`. Where features are no fewer than examples, the covariances are singular
    and larger than the sets themselves: with the centred sets A = (x − μₓ)/√(n − 1) and
    B = (y − μᵧ)/√(m − 1), so that Σₓ = AᵀA and Σᵧ = BᵀB, the trace of (ΣₓΣᵧ)^½ is the nuclear norm
    of the n × m matrix ABᵀ.

    Args:
        x: features, (n, d).
        y: features, (m, d).

    Raises:
        DataError: fewer than two examples, unequal widths, or values that are not finite.
    """
    check_pair(x, y)
    if max(len(x), len(y)) > x.shape[1]:
        return frechet_between(Moments.of(x), Moments.of(y))
    x, y = x.double(), y.double()
    a, b = (z.sub(z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    trace = torch.linalg.svdvals(a @ b.T).sum()
    return _assemble(x.mean(0) - y.mean(0), a.square().sum() + b.square().sum(), trace)


def frechet_between(a: Moments, b: Moments) -> float:
    r"""Returns |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) (Heusel et al. 2017, eq. 6).

    The squared 2-Wasserstein distance between two Gaussians with these moments, in squared units
    of the features. The trace of the root is the sum of the roots of the eigenvalues of the
    symmetric matrix Rᵀ Σ_b R with R Rᵀ = Σ_a: a symmetric eigenproblem in float64, which needs
    neither complex numbers nor a general matrix root. Of n examples at most n − 1 eigenvalues
    differ from zero; the others are rounding and are left out.

    Biased upwards for few examples, so compare only at equal numbers.

    Args:
        a: moments of one set.
        b: moments of the other.

    Raises:
        DataError: fewer than two examples in a set, or unequal widths.
    """
    if a.width != b.width:
        raise DataError(f"Features of width {a.width} cannot be compared with those of {b.width}.")
    if b.count < a.count:
        a, b = b, a  # the smaller rank makes the smaller second problem
    first, second = a.covariance, b.covariance
    root = _root(first, a.count - 1)
    eigenvalues = torch.linalg.eigvalsh(root.T @ second @ root)
    return _assemble(
        a.mean - b.mean, first.trace() + second.trace(), eigenvalues.clamp(min=0).sqrt().sum()
    )


def frechet_error(samples: Tensor, a: Moments, b: Moments) -> float | None:
    r"""Returns the standard error of `frechet_between` for how the samples happened to be drawn.

    By the delta method, which is what a bootstrap over samples comes to without drawing any: the
    distance changes with a sample x = μ_a + z by h(x)/n, with δ = μ_a − μ_b, R Rᵀ = Σ_b and

    h(x) = 2 δᵀz + zᵀz − zᵀ R (Rᵀ Σ_a R)^{−½} Rᵀ z  up to a constant,

    so that its error is the deviation of h over √n. It says nothing of the bias.

    Args:
        samples: features of the samples, or of some at random, (m, d).
        a: moments of all samples.
        b: moments of the reference, which counts as known.

    Returns:
        None where there are fewer than two samples for each feature: too few to tell.
    """
    if a.count < 2 * a.width or len(samples) < 2:
        return None
    z, shift = samples.double() - a.mean, a.mean - b.mean
    root = _root(b.covariance, b.count - 1)
    values, vectors = torch.linalg.eigh(root.T @ a.covariance @ root)
    kept = values > values.max() * _LEAST
    scaled = vectors[:, kept] / values[kept].sqrt().sqrt()
    change = 2 * z @ shift + z.square().sum(1) - (z @ root @ scaled).square().sum(1)
    return float(change.std() / a.count**0.5)


def _root(covariance: Tensor, rank: int) -> Tensor:
    """Returns R (d, min(rank, d)) with R Rᵀ = covariance: of Cholesky where that exists."""
    if rank >= len(covariance):
        root: Tensor
        root, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            return root
    values, vectors = torch.linalg.eigh(covariance)  # in ascending order
    root = vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()
    return root


def _assemble(shift: Tensor, traces: Tensor, cross: Tensor) -> float:
    """Returns the distance; rounding may take that of equal sets a little below zero."""
    return float((shift.square().sum() + traces - 2 * cross).clamp(min=0))
