"""What the cached sampler keeps: each stream at one scale, and what goes between two scales."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothctl.architectures.pixelcnnpp.activations import elu_pair
from smoothctl.architectures.pixelcnnpp.network import Block, Condition, Network, Resample

__all__ = [
    "Grow",
    "HorizontalCache",
    "Seen",
    "Shrink",
    "VerticalCache",
    "bias",
    "convolve",
    "kernel",
    "last_rows",
    "matrix_kernel",
    "packed",
    "pair_of",
    "taps",
    "weight_of",
]

Seen = dict[nn.Module, Tensor]
"""Layer -> the last rows of what it saw (or, for a transposed convolution, gave), (rows, columns,
n, channels), padding included."""


@contextmanager
def last_rows(network: Network) -> Iterator[Seen]:
    """Records the last rows at each convolution while the network runs on an image."""
    seen: Seen = {}

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        grows = isinstance(layer, nn.ConvTranspose2d)
        rows = output[:, :, -2:] if grows else inputs[0][:, :, -1:]
        seen[layer] = rows.permute(2, 3, 0, 1).clone()

    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    layers = [layer for layer, _ in network.layers() if isinstance(layer, convolutions)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def pair_of(x: Tensor) -> Tensor:
    """Returns [x, −x]: (…, F) -> (…, 2, F)."""
    return torch.stack([x, -x], dim=-2)


def weight_of(layer: nn.Module | None) -> Tensor:
    """Returns a layer's effective weight."""
    weight = getattr(layer, "weight", None)
    assert isinstance(weight, Tensor)
    return weight


def taps(layer: nn.Module) -> Tensor:
    """Returns a convolution's weight as one matrix a tap: (rows, columns, in, out)."""
    order = (2, 3, 0, 1) if isinstance(layer, nn.ConvTranspose2d) else (2, 3, 1, 0)
    return weight_of(layer).permute(order).contiguous()


def kernel(layer: nn.Module) -> Tensor:
    """Returns a convolution's weight for `convolve`: (out, in, columns, rows)."""
    return packed(weight_of(layer).transpose(2, 3))


def packed(weight: Tensor) -> Tensor:
    """Returns a weight for `convolve` in the memory layout that suits it."""
    return weight.contiguous(memory_format=torch.channels_last)


def matrix_kernel(matrix: Tensor) -> Tensor:
    """Returns a matrix (in, out) as the weight of a convolution with one tap, for `convolve`."""
    return packed(matrix.mT[:, :, None, None])


def bias(layer: nn.Module | None) -> Tensor:
    """Returns a layer's bias, (out,)."""
    values = getattr(layer, "bias", None)
    assert isinstance(values, Tensor)
    return values


def convolve(x: Tensor, weight: Tensor, offset: Tensor | None = None, reach: int = 1) -> Tensor:
    """Convolves along the columns as one call of the convolution library.

    Args:
        x: (columns, rows · n, in): a channels-last image of one batch for the library.
        weight: (out, in, column taps, row taps).
        offset: (out,).
        reach: n, the distance between the row taps.

    Returns:
        Shape (columns − taps + 1, n, out).
    """
    image = x.permute(2, 0, 1).unsqueeze(0)
    mapped: Tensor = F.conv2d(image, weight, offset, dilation=(1, reach))
    return mapped.squeeze(0).permute(1, 2, 0)


def add_gated(pair: Tensor, both: Tensor, sign: Tensor) -> None:
    """Adds a · σ(b) to a pair, for both = [a, b] of shape (…, 2F)."""
    a, b = both.unflatten(-1, (2, -1)).split(1, dim=-2)
    pair.addcmul_(sign, torch.sigmoid(b).mul_(a))


class _Stack:
    """Weights of the blocks of one stream at one scale, in the order of the skips that they take.

    Args:
        blocks: the blocks.
        width: columns.
        n: images.
        condition: of each image.
        upward: whether the blocks run from the last to the first and take the skips of a way down.
    """

    def __init__(
        self, blocks: Sequence[Block], width: int, n: int, condition: Condition, upward: bool
    ) -> None:
        self.blocks, self.width, self.n, self.upward = len(blocks), width, n, upward
        self.filters = len(bias(blocks[0].conv_in))
        self.order = list(reversed(range(self.blocks))) if upward else list(range(self.blocks))
        self.w_in = [kernel(b.conv_in) for b in blocks]
        self.w_out = [kernel(b.conv_out) for b in blocks]
        self.b_in = [bias(b.conv_in) for b in blocks]
        self.b_out = [bias(b.conv_out) for b in blocks]
        if blocks[0].skip is not None:
            self.b_in = [b + bias(k.skip) for b, k in zip(self.b_in, blocks, strict=True)]
        added = [block.embedding(condition) for block in blocks]
        self.embedded = [each for each in added if each is not None] or None
        self.sign = self.b_in[0].new_tensor([[1.0], [-1.0]])

    def zeros(self, *shape: int) -> Tensor:
        """Returns zeros of the model's dtype and device."""
        return self.sign.new_zeros(shape)

    def skip_weights(self, blocks: Sequence[Block]) -> list[Tensor]:
        """Returns one (blocks, 2F, F) for each part of the skip: act([a, b]) = [a⁺, b⁺, a⁻, b⁻]."""
        stacked = torch.stack([weight_of(b.skip).mT for b in blocks])
        parts = stacked.unflatten(1, (2, -1, self.filters)).unbind(2)
        return [part.flatten(1, 2).contiguous() for part in parts]

    def gate_row(self, pair: Tensor, both: Tensor, i: int) -> None:
        """Adds a · σ(b) of a row, both = [a, b] of shape (width, n, 2F), to its pair."""
        if self.embedded is not None:
            both = both + self.embedded[i]
        add_gated(pair, both, self.sign)


class VerticalCache(_Stack):
    """The vertical stream of one scale, which is computed a row at a time; see `_Stack`.

    Activations are kept for two rows, the one above and the present one, side by side; even rows
    have one place and odd rows the other.
    """

    def __init__(
        self, blocks: Sequence[Block], width: int, n: int, condition: Condition, upward: bool
    ) -> None:
        super().__init__(blocks, width, n, condition, upward)
        self.e = self.zeros(self.blocks + 1, width + 2, 2, n, 2 * self.filters)
        self.m = self.zeros(self.blocks, width + 2, 2, n, 2 * self.filters)
        self.h_pair = self.zeros(width, n, 2, self.filters)
        self.now = 0
        self.kernels_in = [(packed(w.flip(3)), w) for w in self.w_in]
        self.kernels_out = [(packed(w.flip(3)), w) for w in self.w_out]
        if upward:
            (weights,) = self.skip_weights(blocks)
            self.w_skip = [matrix_kernel(weight) for weight in weights]

    @property
    def outputs(self) -> Tensor:
        """Activated outputs of the blocks: (blocks, width, n, 2F)."""
        return self.skips[:-1] if self.upward else self.skips[1:]

    @property
    def skips(self) -> Tensor:
        """Activated input of the first block and outputs of all: (blocks + 1, width, n, 2F)."""
        return self.e[:, 1:-1, self.now]

    def row(self, row: int, pair: Tensor, skips: Tensor | None = None) -> Tensor:
        """Advances by one row.

        Args:
            row: its number at this scale, of which only the parity matters.
            pair: the row's input, (width, n, 2, F); becomes its output.
            skips: activated skips of the way down, (≥ blocks, width, n, 2F).
        """
        self.now = row % 2
        inputs = self.e[1:] if self.upward else self.e[:-1]
        for i in self.order:
            self._activate(pair, inputs[i])
            w_in, w_out = self.kernels_in[i][self.now], self.kernels_out[i][self.now]
            h = convolve(inputs[i].flatten(1, 2), w_in, self.b_in[i], self.n)
            if skips is not None:
                h += convolve(skips[i], self.w_skip[i])
            torch.mul(h.unsqueeze(-2), self.sign, out=self.h_pair)
            self._activate(self.h_pair, self.m[i])
            both = convolve(self.m[i].flatten(1, 2), w_out, self.b_out[i], self.n)
            self.gate_row(pair, both, i)
        self._activate(pair, self.e[0 if self.upward else -1])
        return pair

    def load(self, row: int, blocks: Sequence[Block], seen: Seen) -> None:
        """Takes over the last row of a parallel pass, whose number at this scale is given."""
        self.now = row % 2
        inputs = self.e[1:] if self.upward else self.e[:-1]
        for i, block in enumerate(blocks):
            inputs[i, :, self.now] = seen[block.conv_in][-1]
            self.m[i, :, self.now] = seen[block.conv_out][-1]

    def _activate(self, pair: Tensor, rows: Tensor) -> None:
        elu_pair(pair, out=rows[1:-1, self.now].unflatten(-1, (2, -1)))


class HorizontalCache(_Stack):
    """The horizontal stream of one scale: a pixel costs one pixel's work; see `_Stack`.

    At the start of a row everything that comes from the row above and from the vertical stream is
    summed for the whole row; a pixel then adds what it contributes to itself and to its right
    neighbour, in one product.
    """

    def __init__(
        self, blocks: Sequence[Block], width: int, n: int, condition: Condition, upward: bool
    ) -> None:
        super().__init__(blocks, width, n, condition, upward)
        count, f = self.blocks, self.filters
        self.e = self.zeros(count + 1, width + 1, n, 2 * f)
        self.m = self.zeros(count, width + 1, n, 2 * f)
        self.h = self.zeros(count, width + 1, n, f)
        self.o = self.zeros(count, width + 1, n, 2 * f)
        self.h_pair = self.zeros(n, 2, f)
        self.s = self.zeros(n, 1, f)
        vertical, *rest = self.skip_weights(blocks)
        self.w_vertical = [matrix_kernel(weight) for weight in vertical]
        if upward:
            (self.w_skip,) = rest
        self.above_in = [packed(w[..., :1]) for w in self.w_in]
        self.above_out = [packed(w[..., :1]) for w in self.w_out]
        # what a pixel gives to itself, and to its right neighbour
        self.now_in = [torch.stack([w[:, :, 1, 1].mT, w[:, :, 0, 1].mT]) for w in self.w_in]
        self.now_out = [torch.stack([w[:, :, 1, 1].mT, w[:, :, 0, 1].mT]) for w in self.w_out]
        self._prepare_views()

    def _prepare_views(self) -> None:
        """Makes every view that a pixel needs, once: a view costs as much as a small product."""
        n, f = self.n, self.filters
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
                    self.o[i, c].view(n, 2, f)[:, :1],
                    self.o[i, c].view(n, 2, f)[:, 1:],
                )
                for i in self.order
            ]
            for c in range(self.width)
        ]
        self.h_at = [self.h[:, c] for c in range(self.width)]
        self.skips_at = [self.e[:, c + 1] for c in range(self.width)]
        self.last_at = [self.e[-1, c + 1].view(n, 2, f) for c in range(self.width)]

    def begin_row(self, vertical: Tensor) -> None:
        """Sums biases, the row above, and the vertical stream's outputs (blocks, width, n, 2F)."""
        w = self.width
        for i in range(self.blocks):
            above = convolve(self.e[i], self.above_in[i], self.b_in[i])
            torch.add(above, convolve(vertical[i], self.w_vertical[i]), out=self.h[i, :w])
            above = convolve(self.m[i], self.above_out[i], self.b_out[i])
            self.o[i, :w] = above if self.embedded is None else above + self.embedded[i]

    def pixel(self, column: int, pair: Tensor, skips: Tensor | None = None) -> Tensor:
        """Advances by one pixel.

        Args:
            column: its column.
            pair: the pixel's input, (n, 2, F); becomes its output.
            skips: activated skips of the way down, (blocks, n, 2F).
        """
        if skips is not None:
            self.h_at[column].baddbmm_(skips, self.w_skip)
        sign, h_pair, s = self.sign, self.h_pair, self.s
        for e, e_twice, w_in, h_twice, h, m, m_twice, w_out, o_twice, a, b in self.at[column]:
            elu_pair(pair, out=e)
            h_twice.baddbmm_(e_twice, w_in)
            torch.mul(h, sign, out=h_pair)
            elu_pair(h_pair, out=m)
            o_twice.baddbmm_(m_twice, w_out)
            torch.sigmoid(b, out=s)
            pair.addcmul_(sign, s.mul_(a))
        return pair

    def keep_output(self, column: int, pair: Tensor) -> None:
        """Keeps the activated output of the last block, a skip for the way up."""
        elu_pair(pair, out=self.last_at[column])

    def load(self, blocks: Sequence[Block], seen: Seen) -> None:
        """Takes over the last row of a parallel pass."""
        for i, block in enumerate(blocks):
            self.e[i], self.m[i] = seen[block.conv_in][-1], seen[block.conv_out][-1]


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
        self.above, self.own = self.b.new_zeros(2, width + 2, n, f)
        self.v = self.b.new_zeros(width + 2, n, f)
        self.partial = self.b.new_zeros(self.coarse, n, f)
        self.v_at, self.partial_at = self.v.unbind(), self.partial.unbind()

    def vertical_row(self, pair: Tensor, even: bool) -> Tensor | None:
        """Takes a fine row's output; returns the coarse row's input after an even one."""
        kept = self.own if even else self.above
        kept[1:-1] = pair[..., 0, :]
        if not even:
            return None
        span = 2 * self.coarse - 1
        parts = [
            row[tap : tap + span : 2] @ self.w_vertical[i, tap]
            for i, row in enumerate((self.above, self.own))
            for tap in range(3)
        ]
        return pair_of(torch.stack(parts).sum(0) + self.b_vertical)

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
