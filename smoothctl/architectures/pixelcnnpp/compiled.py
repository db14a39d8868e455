"""The compiled sampler: hands a network and a canvas to native/sampler.cpp, a row at a time."""

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ctypes import c_void_p
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from smoothctl.architectures.base import Progress
from smoothctl.architectures.pixelcnnpp.caches import bias, weight_of
from smoothctl.architectures.pixelcnnpp.head import parameters_per_mixture
from smoothctl.architectures.pixelcnnpp.native.build import LIBRARY
from smoothctl.architectures.pixelcnnpp.native.library import NativeCanvas, Processor, Weights, load
from smoothctl.architectures.pixelcnnpp.network import Block, Network, Resample, Scale
from smoothctl.architectures.pixelcnnpp.samplers import Canvas
from smoothctl.errors import NotAvailable

__all__ = ["CompiledSampler"]

_IMAGES = 16
"""How many images go through the network together: their activations of a pixel fit the caches."""


class _Layer(NamedTuple):
    weight: Tensor
    """(outputs, inputs)"""

    bias: Tensor | None = None
    """(outputs,)"""


class CompiledSampler:
    """Draws what `CachedSampler` draws, in native code.

    The images are cut into groups that go through the network one after another, or each in a
    thread of its own. An image does not depend on its group, to the last bit.

    Args:
        processor: one of `library.processors`; the best one if None.
        library: the compiled file.
    """

    def __init__(self, processor: str | None = None, library: Path = LIBRARY) -> None:
        self.processor, self.library = processor, library
        self._packed: WeakKeyDictionary[Network, _Packed] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type["CompiledSampler"], tuple[str | None, Path]]:
        """A copy, as of a model that is copied, packs weights of its own."""
        return CompiledSampler, (self.processor, self.library)

    def why_not(self, network: Network) -> str | None:
        """Returns why it cannot draw a network's images, in a sentence; None if it can."""
        weight = bias(network.out)
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            kind = f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
            return f"The compiled sampler draws float32 on the CPU, not {kind}."
        try:
            load(self.processor, self.library)
        except NotAvailable as error:
            return str(error)
        return None

    def __call__(
        self, network: Network, canvas: Canvas, progress: Progress | None = None
    ) -> Tensor:
        """Returns the filled images; see `Sampler`.

        Raises:
            NotAvailable: see `why_not`.
            MemoryError: there is not enough of it.
        """
        if reason := self.why_not(network):
            raise NotAvailable(f"{reason} `sampler=cached` draws the same images.")
        unknown = (~canvas.known[:, 0].all(0)).any(1).nonzero().flatten().tolist()
        if not unknown:
            return canvas.images
        first, last = unknown[0], unknown[-1]
        threads = torch.get_num_threads()
        groups = _groups(len(canvas.images), threads)
        with torch.no_grad(), ExitStack() as stack:
            packed = self._pack(network, 4 if len(canvas.images) < 4 * len(groups) else 2)
            call = _Call(network, canvas, first)
            states = [stack.enter_context(packed.state(call, a, b - a)) for a, b in groups]
            pool = stack.enter_context(ThreadPoolExecutor(threads))
            run = pool.map if min(threads, len(states)) > 1 else map
            for row in range(last + 1):
                list(run(packed.native.row, states, [row] * len(states)))
                if progress is not None and row >= first:
                    progress(row - first + 1, last - first + 1)
        return call.images

    def _pack(self, network: Network, panel: int) -> "_Packed":
        """Returns packed weights: those of the last call, if the network is still the same."""
        packed = self._packed.get(network)
        if packed is None or packed.panel != panel or not packed.holds(network):
            native = load(self.processor, self.library)
            packed = self._packed[network] = _Packed(native, network, panel)
        return packed


def _groups(n: int, threads: int) -> list[tuple[int, int]]:
    """Cuts n images into groups of nearly equal size, at least one for each thread."""
    groups = min(n, max(threads, -(-n // _IMAGES)))
    return list(pairwise(n * i // groups for i in range(groups + 1)))


class _Pointers:
    """Addresses of tensors, which are kept alive as long as this."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def one(self, tensor: Tensor | None) -> int | None:
        """Returns the address of a tensor's numbers, laid out in its order."""
        if tensor is None:
            return None
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def table(self, tensors: Sequence[Tensor | None]) -> int | None:
        """Returns the address of a table of addresses; None for none."""
        if not tensors:
            return None
        table = (c_void_p * len(tensors))(*map(self.one, tensors))
        self._kept.append(table)
        return ctypes.addressof(table)


class _Packed:
    """A network's weights in the layout that native/products.h multiplies by.

    Args:
        native: the functions.
        network: the network.
        panel: how many vectors of outputs lie together: 2 for many images, 4 for few.

    Raises:
        MemoryError: there is not enough of it.
    """

    def __init__(self, native: Processor, network: Network, panel: int) -> None:
        self.native, self.panel = native, panel
        self._parameters = [each.detach().clone() for each in network.parameters()]
        layers, pointers = list(_layers(network)), _Pointers()
        stem, channels = network.stem, weight_of(network.stem.vertical).shape[1] - 1
        weights = Weights(
            channels=channels,
            filters=len(bias(stem.vertical)),
            blocks=len(cast(Scale, network.down[0]).vertical),
            scales=len(network.down),
            mixtures=len(bias(network.out)) // parameters_per_mixture(channels),
            layers=len(layers),
            weights=pointers.table([layer.weight for layer in layers]),
            biases=pointers.table([layer.bias for layer in layers]),
        )
        self._address = _found(native.pack(weights, panel))
        weakref.finalize(self, native.free, self._address)

    def holds(self, network: Network) -> bool:
        """Returns whether the network's parameters are still those that were packed."""
        return all(map(torch.equal, self._parameters, network.parameters()))

    @contextmanager
    def state(self, call: "_Call", first: int, images: int) -> Iterator[int]:
        """Lays out what is kept between the pixels of some images of a call."""
        address = _found(self.native.begin(self._address, call.canvas, first, images))
        try:
            yield address
        finally:
            self.native.free(address)


def _found(address: int | None) -> int:
    if address is None:
        raise MemoryError("There is not enough memory for the compiled sampler.")
    return address


class _Call:
    """A canvas as native/sampler.h wants it.

    Args:
        network: in evaluation mode.
        canvas: what is to be filled.
        first_row: the first row with an unknown pixel.
    """

    def __init__(self, network: Network, canvas: Canvas, first_row: int) -> None:
        self.images = canvas.images.float().contiguous().clone()
        self._pointers = pointers = _Pointers()
        features = [each.permute(2, 3, 0, 1) for each in canvas.features]
        added = (block.embedding(canvas.condition) for block in _blocks(network))
        embedded = [each for each in added if each is not None]
        up = torch.tensor(network.first_rows_up(first_row), dtype=torch.int32)
        n, _, height, width = self.images.shape
        self.canvas = NativeCanvas(
            height=height,
            width=width,
            images=n,
            levels=canvas.levels or 0,
            known_images=len(canvas.known),
            first_row=canvas.first_row,
            min_log_scale=canvas.components.min_log_scale,
            noise=canvas.components.noise,
            first_rows_up=pointers.one(up),
            pixels=self.images.data_ptr(),
            known=pointers.one(canvas.known.to(torch.uint8)),
            gumbel=pointers.one(canvas.noise.gumbel),
            standard=pointers.one(canvas.noise.standard),
            centre=pointers.one(canvas.centre),
            features=pointers.table(features),
            embedded=pointers.table(embedded),
        )


def _pairs(network: Network) -> Iterator[tuple[Block, Block]]:
    """Returns the blocks of both streams: the ways down, then the ways up from skip to skip."""
    for upward, way in ((False, network.down), (True, network.up)):
        for scale in cast(Sequence[Scale], way):
            pairs = list(zip(scale.vertical, scale.horizontal, strict=True))
            yield from cast(list[tuple[Block, Block]], pairs[::-1] if upward else pairs)


def _blocks(network: Network) -> Iterator[Block]:
    for pair in _pairs(network):
        yield from pair


def _layers(network: Network) -> Iterator[_Layer]:
    """Returns all weights in the order in which native/sampler.cpp reads them."""
    stem = network.stem
    left = _taps(stem.left)
    yield _Layer(_matrix(_taps(stem.vertical)), bias(stem.vertical))
    yield _Layer(_matrix(_taps(stem.above)), bias(stem.above))
    yield _Layer(_matrix(left[:, 0]), bias(stem.left))
    yield _Layer(_matrix(left[:, 1]))
    for vertical, horizontal in _pairs(network):
        yield from _vertical(vertical)
        yield from _horizontal(horizontal)
    for shrink, grow in zip(network.shrink, network.grow, strict=True):
        yield from _shrink(cast(Resample, shrink))
        yield from _grow(cast(Resample, grow))
    yield _Layer(weight_of(network.out), bias(network.out))


def _taps(layer: nn.Module) -> Tensor:
    """Returns a convolution's weight as (out, rows, columns, in), in which order it is stored."""
    order = (1, 2, 3, 0) if isinstance(layer, nn.ConvTranspose2d) else (0, 2, 3, 1)
    return weight_of(layer).permute(order)


def _matrix(*parts: Tensor) -> Tensor:
    """Joins weights (out, …) to one matrix (outputs, inputs)."""
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def _vertical(block: Block) -> Iterator[_Layer]:
    yield _Layer(_matrix(_taps(block.conv_in), *_skips(block)), _bias_in(block))
    yield _Layer(_matrix(_taps(block.conv_out)), bias(block.conv_out))


def _horizontal(block: Block) -> Iterator[_Layer]:
    first, second = _taps(block.conv_in), _taps(block.conv_out)
    vertical, *skip = _skips(block)
    yield _Layer(_matrix(first[:, 0], vertical), _bias_in(block))
    yield _Layer(_matrix(first[:, 1], *skip))
    yield _Layer(_matrix(second[:, 0]), bias(block.conv_out))
    yield _Layer(_matrix(second[:, 1]))


def _bias_in(block: Block) -> Tensor:
    """Returns the bias of a block's first layer, that of its skips included."""
    return bias(block.conv_in) if block.skip is None else bias(block.conv_in) + bias(block.skip)


def _skips(block: Block) -> list[Tensor]:
    """Returns one (F, 2, F) for each part of the skip: act([a, b]) = [a⁺, b⁺, a⁻, b⁻]."""
    if block.skip is None:
        return []
    weight = weight_of(block.skip)
    return list(weight.unflatten(1, (2, -1, len(weight))).unbind(2))


def _shrink(layers: Resample) -> Iterator[_Layer]:
    weight = _taps(layers.horizontal)
    yield _Layer(_matrix(_taps(layers.vertical)), bias(layers.vertical))
    yield _Layer(_matrix(weight[:, 0]), bias(layers.horizontal))
    yield _Layer(_matrix(weight[:, 1]))


def _grow(layers: Resample) -> Iterator[_Layer]:
    for row in _taps(layers.vertical).unbind(1):
        yield _Layer(_matrix(row[:, 1]), bias(layers.vertical))
        # an odd column has its own coarse one, and from the next one what that gives to its left
        yield _Layer(_matrix(row[:, 2], row[:, 0]), bias(layers.vertical))
    fine = _taps(layers.horizontal).permute(1, 2, 0, 3).flatten(0, 2)
    yield _Layer(_matrix(fine), bias(layers.horizontal).repeat(4))
