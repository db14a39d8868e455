"""Count, mean and covariance of features that come in blocks."""

from collections.abc import Mapping

import torch
from torch import Tensor

from smoothctl.errors import DataError

__all__ = ["Moments"]

_UNSOUND = "These are not the stored moments of features: remove them, and they are made anew."


class Moments:
    """Mean and covariance in float64, gathered a block at a time.

    Holds the mean m and the scatter S = Σᵢ (xᵢ − m)(xᵢ − m)ᵀ of what it has seen. Two sets a and b
    are joined by the pairwise update of Chan, Golub & LeVeque (1983), which loses no digits however
    far the mean lies from zero:

    m = m_a + δ n_b/n,  S = S_a + S_b + δδᵀ n_a n_b/n,  δ = m_b − m_a,  n = n_a + n_b.

    Memory: d² numbers for features of width d, whatever their number.

    Example:
        >>> moments = Moments()
        >>> for block in torch.tensor([[1.0], [3.0], [5.0]]).split(2):
        ...     moments.update(block)
        >>> moments.count, moments.mean.item(), moments.covariance.item()
        (3, 3.0, 4.0)
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Returns the moments of features (n, d).

        Raises:
            DataError: see `update`.
        """
        moments = cls()
        moments.update(features)
        return moments

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Moments":
        """Returns what `tensors` gave.

        Raises:
            DataError: a tensor is missing, has another shape or type, or is not finite.
        """
        moments = cls()
        try:
            moments._count = int(tensors["count"])
            moments._mean, moments._scatter = tensors["mean"].clone(), tensors["scatter"].clone()
        except (KeyError, OverflowError, RuntimeError, ValueError):
            raise DataError(_UNSOUND) from None
        if not moments._is_sound():
            raise DataError(_UNSOUND)
        return moments

    def tensors(self) -> dict[str, Tensor]:
        """Returns what recreates these moments: count (), mean (d,), scatter (d, d).

        Copies, to be stored: a later `update` does not change them.
        """
        count = torch.tensor(self._count)
        return {"count": count, "mean": self._mean.clone(), "scatter": self._scatter.clone()}

    @property
    def count(self) -> int:
        """How many feature vectors were seen."""
        return self._count

    @property
    def width(self) -> int:
        """Length d of a feature vector; 0 before the first block."""
        return len(self._mean)

    @property
    def mean(self) -> Tensor:
        """The mean, float64 (d,)."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance (division by n − 1), float64 (d, d).

        Raises:
            DataError: fewer than two feature vectors were seen.
        """
        if self._count < 2:
            raise DataError(f"A covariance needs at least two feature vectors, not {self._count}.")
        return self._scatter / (self._count - 1)

    def update(self, block: Tensor) -> None:
        """Takes in a block of features (k, d), of any floating type; k may be 0.

        Raises:
            DataError: another width than before, or values that are not finite; the message
                names the first such image. Nothing of the block is taken in then.
        """
        self._check(block)
        if len(block):
            block = block.detach().cpu().double()
            mean = block.mean(0)
            self._join(len(block), mean)
            block = block - mean
            self._scatter.addmm_(block.T, block)

    def _join(self, count: int, mean: Tensor) -> None:
        """Takes in `count` vectors that all lie at `mean`."""
        if not self._count:
            self._mean = torch.zeros_like(mean)
            self._scatter = mean.new_zeros(len(mean), len(mean))
        total = self._count + count
        delta = mean - self._mean
        self._scatter.addr_(delta, delta, alpha=self._count * count / total)
        self._mean = self._mean + delta * (count / total)
        self._count = total

    def _check(self, block: Tensor) -> None:
        if block.ndim != 2 or not block.is_floating_point():
            raise DataError(f"Features are real numbers (n, d), not {tuple(block.shape)}.")
        self._check_width(block.shape[1])
        bad = (~block.isfinite()).any(1).nonzero()
        if len(bad):
            raise DataError(f"The features of image {self._count + int(bad[0])} are not finite.")

    def _check_width(self, width: int) -> None:
        if self._count and width != self.width:
            raise DataError(f"Features of width {width} do not go with those of {self.width}.")

    def _is_sound(self) -> bool:
        tensors = (self._mean, self._scatter)
        whole = all(t.dtype == torch.float64 and bool(t.isfinite().all()) for t in tensors)
        shaped = self._mean.ndim == 1 and self._scatter.shape == (self.width, self.width)
        return self._count >= 0 and whole and shaped
