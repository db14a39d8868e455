"""The cached activations of one scale, and what a row or a pixel adds to them.

Layout: activations of a row are (columns, n, channels), so that a shifted convolution is a shifted
view, and one pixel and a whole row use the same matrix product. A running value x is kept as the
pair [x, −x], shape (…, n, 2, F), which both the next concat-ELU and the residual sum want.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothctl.architectures.pixelcnnpp.activations import elu_pair_
from smoothctl.architectures.pixelcnnpp.network import Block, Resample

__all__ = ["Grow", "HorizontalCache", "Shrink", "VerticalCache", "pair_of"]


def pair_of(x: Tensor) -> Tensor:
    """Returns [x, −x]: (…, F) -> (…, 2, F)."""
    return torch.stack([x, -x], dim=-2)


def taps(layer: nn.Module) -> Tensor:
    """Returns a convolution's weight as one matrix a tap: (rows, columns, in, out)."""
    weight = cast(Tensor, layer.weight)
    order = (2, 3, 0, 1) if isinstance(layer, nn.ConvTranspose2d) else (2, 3, 1, 0)
    return weight.permute(order).contiguous()


def bias(layer: nn.Module) -> Tensor:
    """Returns a layer's bias, (out,)."""
    return cast(Tensor, layer.bias)


class _Stack:
    """Weights of the blocks of one stream at one scale, stacked over the blocks.

    Args:
        blocks: in the order of the skips that they take.
        labels: classes, (n,), or None.
    """

    def __init__(self, blocks: Sequence[Block], labels: Tensor | None) -> None:
        self.blocks = len(blocks)
        self.filters = len(bias(blocks[0].conv_in))
        self.w_in = torch.stack([taps(b.conv_in) for b in blocks])
        self.w_out = torch.stack([taps(b.conv_out) for b in blocks])
        self.b_in = torch.stack([bias(b.conv_in) for b in blocks])[:, None]
        if blocks[0].skip is not None:
            self.b_in = self.b_in + torch.stack([bias(cast(nn.Linear, b.skip)) for b in blocks])[:, None]
        self.b_out = torch.stack([bias(b.conv_out) for b in blocks])[:, None]
        if labels is not None:
            embedded = [cast(nn.Embedding, b.label)(labels) for b in blocks]
            self.b_out = self.b_out + torch.stack(embedded)
        self.sign = self.b_in.new_tensor([[1.0], [-1.0]])

    def skip_weights(self, blocks: Sequence[Block]) -> list[Tensor]:
        """Returns one (blocks, 2F, F) for each part of the skip: act([a, b]) = [a⁺, b⁺, a⁻, b⁻]."""
        stacked = torch.stack([cast(Tensor, cast(nn.Linear, b.skip).weight).mT for b in blocks])
        parts = stacked.unflatten(1, (2, -1, self.filters)).unbind(2)
        return [part.flatten(1, 2).contiguous() for part in parts]


class VerticalCache(_Stack):
    """The vertical stream of one scale, which is computed a row at a time.

    Args:
        blocks: in the order of the skips that they take.
        width: columns.
        n: images.
        labels: classes, (n,), or None.
        upward: whether the blocks run from the last to the first and take skips.
    """

    def __init__(
        self, blocks: Sequence[Block], width: int, n: int, labels: Tensor | None, upward: bool
    ) -> None:
        super().__init__(blocks, labels)
        self.width, self.upward = width, upward
        count, f = self.blocks, self.filters
        self.e = self.b_in.new_zeros(count + 1, width + 2, n, 2 * f)
        self.m = self.b_in.new_zeros(count, width + 2, n, 2 * f)
        self.h = self.b_in.new_empty(count, width, n, f)
        self.o = self.b_in.new_empty(count, width, n, 2 * f)
        if upward:
            (self.w_skip,) = self.skip_weights(blocks)

    @property
    def inputs(self) -> Tensor:
        """Activated inputs of the blocks: (blocks, width + 2, n, 2F)."""
        return self.e[1:] if self.upward else self.e[:-1]

    @property
    def outputs(self) -> Tensor:
        """Activated outputs of the blocks, flat: (blocks, width · n, 2F)."""
        e = self.e[:-1] if self.upward else self.e[1:]
        return e[:, 1:-1].flatten(1, 2)

    @property
    def skips(self) -> Tensor:
        """Activated input of the first block and outputs of all: (blocks + 1, width · n, 2F)."""
        return self.e[:, 1:-1].flatten(1, 2)

    def row(self, pair: Tensor, skips: Tensor | None = None) -> Tensor:
        """Advances by one row.

        Args:
            pair: the row's input, (width, n, 2, F); becomes its output.
            skips: activated skips of the way down, (≥ blocks, width · n, 2F).
        """
        self._look_up()
        if skips is not None:
            self.h.flatten(1, 2).baddbmm_(skips[: self.blocks], self.w_skip)
        order = range(self.blocks)
        for i in reversed(order) if self.upward else order:
            e, m = self.inputs[i], self.m[i]
            elu_pair_(pair, out=e[1:-1].view_as(pair))
            h = self._look_sideways(e, self.h[i], self.w_in[i, 1])
            h_pair = h.unsqueeze(-2) * self.sign
            elu_pair_(h_pair, out=m[1:-1].view_as(pair))
            both = self._look_sideways(m, self.o[i], self.w_out[i, 1])
            pair.addcmul_(self.sign, F.glu(both.view_as(pair), dim=-2))
        last = self.e[0] if self.upward else self.e[-1]
        elu_pair_(pair, out=last[1:-1].view_as(pair))
        return pair

    def _look_up(self) -> None:
        """Sums what the row above contributes, for all blocks at once."""
        for x, total, weight, offset in [
            (self.inputs, self.h, self.w_in, self.b_in),
            (self.m, self.o, self.w_out, self.b_out),
        ]:
            total.copy_(offset[:, None])
            for tap in range(3):
                seen = x[:, tap : tap + self.width].flatten(1, 2)
                total.flatten(1, 2).baddbmm_(seen, weight[:, 0, tap])

    def _look_sideways(self, x: Tensor, total: Tensor, weight: Tensor) -> Tensor:
        flat = total.flatten(0, 1)
        for tap in range(3):
            flat.addmm_(x[tap : tap + self.width].flatten(0, 1), weight[tap])
        return total


class HorizontalCache(_Stack):
    """The horizontal stream of one scale: a pixel costs one pixel's work.

    At the start of a row everything that comes from the row above and from the vertical stream is
    summed for the whole row; a pixel then adds what it contributes to itself and to its right
    neighbour, in one product.

    Args:
        blocks, width, n, labels, upward: see `VerticalCache`.
    """

    def __init__(
        self, blocks: Sequence[Block], width: int, n: int, labels: Tensor | None, upward: bool
    ) -> None:
        super().__init__(blocks, labels)
        self.width, self.upward, self.n = width, upward, n
        count, f = self.blocks, self.filters
        self.e = self.b_in.new_zeros(count + 1, width + 1, n, 2 * f)
        self.m = self.b_in.new_zeros(count, width + 1, n, 2 * f)
        self.h = self.b_in.new_zeros(count, width + 1, n, f)
        self.o = self.b_in.new_zeros(count, width + 1, n, 2 * f)
        self.h_pair = self.b_in.new_empty(n, 2, f)
        skip_weights = self.skip_weights(blocks)
        self.w_vertical = skip_weights[0]
        if upward:
            self.w_skip = skip_weights[1]
        # the tap on the pixel itself, then what the pixel gives to its right neighbour
        self.now_in = self.w_in[:, 1].flip(1).contiguous()
        self.now_out = self.w_out[:, 1].flip(1).contiguous()
        self._prepare_views()

    def _prepare_views(self) -> None:
        """Makes every view that a pixel needs, once: views cost as much as small products."""
        count, n, f = self.blocks, self.n, self.filters
        order = list(reversed(range(count))) if self.upward else list(range(count))
        self.at = [
            [
                (
                    self.e[i, c + 1].view(n, 2, f),
                    self.e[i, c + 1].expand(2, n, 2 * f),
                    self.now_in[i],
                    self.h[i, c : c + 2],
                    self.h[i, c].unsqueeze(1),
                    self.m[i, c + 1].view(n, 2, f),
                    self.m[i, c + 1].expand(2, n, 2 * f),
                    self.now_out[i],
                    self.o[i, c : c + 2],
                    self.o[i, c].view(n, 2, f),
                )
                for i in order
            ]
            for c in range(self.width)
        ]
        self.h_at = [self.h[:, c] for c in range(self.width)]
        self.skips_at = [self.e[:, c + 1] for c in range(self.width)]
        self.last_at = [self.e[-1, c + 1].view(n, 2, f) for c in range(self.width)]

    def begin_row(self, vertical: Tensor) -> None:
        """Sums biases, the row above, and the vertical stream's outputs (blocks, width · n, 2F)."""
        w = self.width
        for x, total, weight, offset in [
            (self.e[: self.blocks], self.h, self.w_in, self.b_in),
            (self.m, self.o, self.w_out, self.b_out),
        ]:
            total[:, :w] = offset[:, None]
            total[:, w] = 0
            for tap in range(2):
                seen = x[:, tap : tap + w].flatten(1, 2)
                total[:, :w].flatten(1, 2).baddbmm_(seen, weight[:, 0, tap])
        self.h[:, :w].flatten(1, 2).baddbmm_(vertical, self.w_vertical)

    def pixel(self, column: int, pair: Tensor, skips: Tensor | None = None) -> Tensor:
        """Advances by one pixel.

        Args:
            column: its column.
            pair: the pixel's input, (n, 2, F); becomes its output.
            skips: activated skips of the way down, (blocks, n, 2F).
        """
        if skips is not None:
            self.h_at[column].baddbmm_(skips, self.w_skip)
        sign, h_pair = self.sign, self.h_pair
        for e, e_twice, w_in, h_twice, h, m, m_twice, w_out, o_twice, o in self.at[column]:
            elu_pair_(pair, out=e)
            h_twice.baddbmm_(e_twice, w_in)
            torch.mul(h, sign, out=h_pair)
            elu_pair_(h_pair, out=m)
            o_twice.baddbmm_(m_twice, w_out)
            pair.addcmul_(sign, F.glu(o, dim=1))
        return pair

    def keep_output(self, column: int, pair: Tensor) -> None:
        """Keeps the activated output of the last block, a skip for the way up."""
        elu_pair_(pair, out=self.last_at[column])

    def row(self, pair: Tensor, skips: Tensor | None = None) -> Tensor:
        """Advances by a whole row of known pixels.

        Args:
            pair: the row's input, (width, n, 2, F); becomes its output.
            skips: activated skips of the way down, (blocks, width · n, 2F).
        """
        w = self.width
        if skips is not None:
            self.h[:, :w].flatten(1, 2).baddbmm_(skips, self.w_skip)
        order = range(self.blocks)
        for i in reversed(order) if self.upward else order:
            elu_pair_(pair, out=self.e[i, 1:].view_as(pair))
            h = self._look_left(self.e[i], self.h[i], self.now_in[i])
            elu_pair_(h.unsqueeze(-2) * self.sign, out=self.m[i, 1:].view_as(pair))
            both = self._look_left(self.m[i], self.o[i], self.now_out[i])
            pair.addcmul_(self.sign, F.glu(both.view_as(pair), dim=-2))
        if not self.upward:
            elu_pair_(pair, out=self.e[-1, 1:].view_as(pair))
        return pair

    @property
    def skips(self) -> Tensor:
        """Activated inputs of all blocks and the last output: (blocks + 1, width · n, 2F)."""
        return self.e[:, 1:].flatten(1, 2)

    def _look_left(self, x: Tensor, total: Tensor, weight: Tensor) -> Tensor:
        flat = total[: self.width].flatten(0, 1)
        flat.addmm_(x[1:].flatten(0, 1), weight[0])
        flat.addmm_(x[: self.width].flatten(0, 1), weight[1])
        return total[: self.width]


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
        self.partial = self.v[:span:2] @ self.w[0, 0] + self.v[1 : 1 + span : 2] @ self.w[0, 1]
        self.partial += self.b

    def keep(self, column: int, pair: Tensor) -> None:
        """Takes a fine pixel's output, (n, 2, F)."""
        self.v[column + 1].copy_(pair[:, 0])

    def pixel(self, column: int) -> Tensor:
        """Returns the coarse pixel's input after its fine pixel, at an even column, was kept."""
        total = self.partial[column // 2]
        total.addmm_(self.v[column], self.w[1, 0]).addmm_(self.v[column + 1], self.w[1, 1])
        return pair_of(total)

    def keep_row(self, pair: Tensor) -> None:
        """Takes a fine row's output, (width, n, 2, F)."""
        self.v[1:-1] = pair[..., 0, :]

    def row(self) -> Tensor:
        """Returns the coarse row's input after its fine row was kept."""
        span = 2 * self.coarse - 1
        left, own = self.v[:span:2] @ self.w[1, 0], self.v[1 : 1 + span : 2] @ self.w[1, 1]
        return pair_of(self.partial + left + own)


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
        flat = self.horizontal[column].view(self.n, -1)
        torch.addmm(self.b, pair[:, 0], self.w, out=flat)

    def pixel(self, row: int, column: int) -> Tensor:
        """Returns the fine pixel's input, (n, 2, F)."""
        return self.horizontal[column // 2, :, 2 * (row % 2) + column % 2].clone()

    def keep_row(self, pair: Tensor) -> None:
        """Takes a coarse row's output, (coarse, n, 2, F)."""
        self.horizontal = (pair[..., 0, :] @ self.w + self.b).view_as(self.horizontal)

    def row(self, row: int) -> Tensor:
        """Returns the fine row's input, (width, n, 2, F)."""
        first = 2 * (row % 2)
        fine = self.horizontal[:, :, first : first + 2].permute(0, 2, 1, 3, 4)
        return fine.flatten(0, 1)[: self.width].clone()
