"""What the sampler keeps between two scales."""

import torch
import torch.nn.functional as F
from torch import Tensor

from smoothctl.architectures.pixelcnnpp.layout import Seen, bias, pair_of, taps
from smoothctl.architectures.pixelcnnpp.network import Resample

__all__ = ["Grow", "Shrink"]


class Shrink:
    """Halves the resolution: keeps the last row of both streams.

    Args:
        layers: the convolutions of stride two.
        width: columns of the finer scale.
        n: images.
    """

    def __init__(self, layers: Resample, width: int, n: int) -> None:
        self.w_vertical, self.b_vertical = taps(layers.vertical), bias(layers.vertical)
        self.w, self.b = taps(layers.horizontal), bias(layers.horizontal)
        f = len(self.b)
        self.coarse = (width + 1) // 2
        self.above = self.b.new_zeros(width + 2, n, f)
        self.v = self.b.new_zeros(width + 2, n, f)
        self.partial = self.b.new_zeros(self.coarse, n, f)
        self.v_at, self.partial_at = self.v.unbind(), self.partial.unbind()

    def vertical_row(self, pair: Tensor, even: bool) -> Tensor | None:
        """Takes a fine row's output; returns the coarse row's input after an even one."""
        x = F.pad(pair[..., 0, :], (0, 0, 0, 0, 1, 1))
        total = None
        if even:
            span = 2 * self.coarse - 1
            parts = [
                row[tap : tap + span : 2] @ self.w_vertical[i, tap]
                for i, row in enumerate((self.above, x))
                for tap in range(3)
            ]
            total = torch.stack(parts).sum(0) + self.b_vertical
        self.above = x
        return None if total is None else pair_of(total)

    def begin_row(self) -> None:
        """Sums what the fine row above contributes to the coarse row's horizontal stream."""
        span = 2 * self.coarse - 1
        left, own = self.v[:span:2] @ self.w[0, 0], self.v[1 : 1 + span : 2] @ self.w[0, 1]
        torch.add(left + own, self.b, out=self.partial)

    def keep(self, column: int, pair: Tensor) -> None:
        """Takes a fine pixel's output, (n, 2, F)."""
        self.v_at[column + 1].copy_(pair.select(1, 0))

    def pixel(self, column: int) -> Tensor:
        """Returns the coarse pixel's input after its fine pixel, at an even column, was kept."""
        total = self.partial_at[column // 2]
        total.addmm_(self.v_at[column], self.w[1, 0]).addmm_(self.v_at[column + 1], self.w[1, 1])
        return pair_of(total)

    def load(self, layers: Resample, seen: Seen) -> None:
        """Takes over the last row of a parallel pass."""
        self.above.copy_(seen[layers.vertical][-1])
        self.v[:-1] = seen[layers.horizontal][-1]


class Grow:
    """Doubles the resolution: keeps two fine rows of both streams until they are due.

    Args:
        layers: the transposed convolutions of stride two.
        width: columns of the finer scale.
        n: images.
    """

    def __init__(self, layers: Resample, width: int, n: int) -> None:
        self.w_vertical, self.b_vertical = taps(layers.vertical), bias(layers.vertical)
        f = len(self.b_vertical)
        self.width, self.coarse, self.n = width, (width + 1) // 2, n
        # one product gives the four fine pixels of a coarse one, each as the pair [x, −x]
        matrix = taps(layers.horizontal).flatten(0, 1).permute(1, 0, 2)
        self.w = pair_of(matrix).flatten(1).contiguous()
        self.b = pair_of(bias(layers.horizontal).expand(4, f)).flatten()
        self.vertical = self.b.new_zeros(2, 2 * self.coarse, n, f)
        self.horizontal = self.b.new_zeros(self.coarse, n, 4, 2, f)
        self.flat_at = self.horizontal.flatten(2).unbind()
        self.fine_at = [coarse.unbind(1) for coarse in self.horizontal]

    def vertical_row(self, pair: Tensor) -> None:
        """Takes a coarse row's output, (coarse, n, 2, F)."""
        x = pair[..., 0, :]
        for i in range(2):
            left, own, right = (x @ self.w_vertical[i, tap] for tap in range(3))
            self.vertical[i, 0::2] = own
            self.vertical[i, 1::2] = right
            self.vertical[i, 1:-1:2] += left[1:]
        self.vertical += self.b_vertical

    def vertical_input(self, row: int) -> Tensor:
        """Returns the fine row's input, (width, n, 2, F)."""
        return pair_of(self.vertical[row % 2, : self.width])

    def keep(self, column: int, pair: Tensor) -> None:
        """Takes a coarse pixel's output, (n, 2, F)."""
        torch.addmm(self.b, pair.select(1, 0), self.w, out=self.flat_at[column])

    def pixel(self, row: int, column: int) -> Tensor:
        """Returns the fine pixel's input, (n, 2, F)."""
        fine: Tensor = self.fine_at[column // 2][2 * (row % 2) + column % 2]
        return fine  # read once: its slot may change

    def load(self, layers: Resample, seen: Seen) -> None:
        """Takes over the last two fine rows of a parallel pass."""
        self.vertical.copy_(seen[layers.vertical][:, 1:])
        fine = seen[layers.horizontal].unflatten(1, (self.coarse, 2))  # (2, coarse, 2, n, F)
        self.horizontal.copy_(pair_of(fine.permute(1, 3, 0, 2, 4).flatten(2, 3)))
