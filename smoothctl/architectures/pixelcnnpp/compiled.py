"""The compiled sampler: hands a network and a canvas to native/sampler.cpp, a row at a time."""

import ctypes
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ctypes import POINTER, c_char_p, c_float, c_int32, c_void_p
from functools import cache
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothctl.architectures.base import Progress
from smoothctl.architectures.pixelcnnpp.caches import bias, taps, weight_of
from smoothctl.architectures.pixelcnnpp.native.build import LIBRARY, fingerprint
from smoothctl.architectures.pixelcnnpp.network import Block, Network, Resample, Scale
from smoothctl.architectures.pixelcnnpp.samplers import Canvas
from smoothctl.errors import NotAvailable

__all__ = ["CompiledSampler", "processors", "why_not"]

_IMAGES = 16
"""How many images go through the network together: their activations of a pixel fit the caches."""


class _Canvas(ctypes.Structure):
    """`Canvas` of native/sampler.h."""

    _fields_ = (
        *((name, c_int32) for name in ("channels", "height", "width", "filters", "blocks")),
        *((name, c_int32) for name in ("scales", "mixtures", "levels", "images", "known_images")),
        *((name, c_int32) for name in ("first_row", "layers")),
        ("min_log_scale", c_float),
        *((name, c_void_p) for name in ("first_rows_up", "pixels", "known", "gumbel", "logistic")),
        *((name, c_void_p) for name in ("centre", "features", "embedded", "weights", "biases")),
    )


class _Processor(ctypes.Structure):
    """`Processor` of native/sampler.h."""

    _fields_ = (
        ("name", c_char_p),
        ("pack", ctypes.CFUNCTYPE(c_void_p, POINTER(_Canvas), c_int32)),
        ("begin", ctypes.CFUNCTYPE(c_void_p, c_void_p, POINTER(_Canvas), c_int32, c_int32)),
        ("row", ctypes.CFUNCTYPE(None, c_void_p, c_int32)),
        ("free", ctypes.CFUNCTYPE(None, c_void_p)),
    )


class _Layer(NamedTuple):
    weight: Tensor
    """(inputs, outputs)"""

    bias: Tensor | None = None
    """(outputs,)"""


@cache
def _load() -> dict[str, _Processor]:
    """Returns the compiled samplers that this processor can run, the best one last.

    Raises:
        NotAvailable: there are none.
    """
    again = "`pip install` of smoothctl compiles it where there is a C++ compiler"
    if not LIBRARY.exists():
        raise NotAvailable(f"The sampler was not compiled: {again}.")
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise NotAvailable(f"The compiled sampler cannot be loaded ({error}); {again}.") from error
    library.smoothctl_fingerprint.restype = c_char_p
    if library.smoothctl_fingerprint().decode() != fingerprint():
        raise NotAvailable(f"The sampler was compiled from other sources than these: {again}.")
    found = (POINTER(_Processor) * 3)()
    count = library.smoothctl_processors(found)
    return {each[0].name.decode(): each[0] for each in found[:count]}


def processors() -> list[str]:
    """Returns the kinds of processor that this one is, the best one last.

    Raises:
        NotAvailable: the sampler was not compiled, or not from these sources.
    """
    return list(_load())


def why_not(canvas: Canvas) -> str | None:
    """Returns why images cannot be drawn by the compiled sampler, in a sentence; None if they can."""
    images = canvas.images
    if images.device.type != "cpu" or images.dtype != torch.float32:
        kind = str(images.dtype).removeprefix("torch.")
        return f"The compiled sampler draws float32 on the CPU, not {kind} on {images.device.type}."
    try:
        processors()
    except NotAvailable as error:
        return str(error)
    return None


class CompiledSampler:
    """Draws what `CachedSampler` draws, in native code.

    The images are cut into groups that go through the network one after another, or each in a
    thread of its own. An image does not depend on its group, to the last bit.

    Args:
        processor: one of `processors`; the best one if None.
    """

    def __init__(self, processor: str | None = None) -> None:
        self.processor = processor

    def __call__(
        self, network: Network, canvas: Canvas, progress: Progress | None = None
    ) -> Tensor:
        """Returns the filled images; see `Sampler`.

        Raises:
            NotAvailable: see `why_not`.
            MemoryError: of what the system has.
        """
        if reason := why_not(canvas):
            raise NotAvailable(reason)
        unknown = (~canvas.known[:, 0].all(0)).any(1).nonzero().flatten().tolist()
        if not unknown:
            return canvas.images
        native = _load()[self.processor or processors()[-1]]
        images = canvas.images.contiguous().clone()
        first, last = unknown[0], unknown[-1]
        threads = torch.get_num_threads()
        with torch.no_grad(), ExitStack() as stack:
            call = _Call(network, canvas, images, first)
            bounds = _bounds(len(images), threads)
            states = stack.enter_context(_states(native, call, bounds))
            pool = stack.enter_context(ThreadPoolExecutor(min(threads, len(states))))
            for row in range(last + 1):
                list(pool.map(native.row, states, [row] * len(states)))
                if progress is not None and row >= first:
                    progress(row - first + 1, last - first + 1)
        return images


def _bounds(n: int, threads: int) -> list[tuple[int, int]]:
    """Cuts n images into groups of nearly equal size, at least one for each thread."""
    groups = min(n, max(threads, -(-n // _IMAGES)))
    return list(pairwise(n * i // groups for i in range(groups + 1)))


@contextmanager
def _states(
    native: _Processor, call: "_Call", bounds: Sequence[tuple[int, int]]
) -> Iterator[list[int]]:
    """Packs the weights and lays out what is kept for each group of images; frees it afterwards."""
    with ExitStack() as stack:

        def kept(address: int | None) -> int:
            if address is None:
                raise MemoryError("There is not enough memory for the compiled sampler's caches.")
            stack.callback(native.free, address)
            return address

        smallest = min(stop - start for start, stop in bounds)
        packed = kept(native.pack(call.canvas, smallest))
        yield [kept(native.begin(packed, call.canvas, a, b - a)) for a, b in bounds]


class _Call:
    """The arguments of a call as native/sampler.h wants them; keeps alive what they point to.

    Args:
        network: in evaluation mode.
        canvas: what is to be filled.
        images: (n, C, H, W), to be written to.
        first_row: the first row with an unknown pixel.
    """

    def __init__(self, network: Network, canvas: Canvas, images: Tensor, first_row: int) -> None:
        self._kept: list[object] = []
        n, channels, height, width = images.shape
        layers = list(_layers(network))
        labels = canvas.labels
        embedded = None if labels is None else [_embed(b, labels) for b in _blocks(network)]
        features = [each.permute(2, 3, 0, 1) for each in canvas.features]
        up = torch.tensor(network.first_rows_up(first_row), dtype=torch.int32)
        self.canvas = _Canvas(
            channels=channels,
            height=height,
            width=width,
            filters=len(bias(network.stem.vertical)),
            blocks=len(cast(Scale, network.down[0]).vertical),
            scales=len(network.down),
            mixtures=canvas.noise[0].gumbel.shape[-1],
            levels=canvas.levels or 0,
            images=n,
            known_images=len(canvas.known),
            first_row=canvas.first_row,
            layers=len(layers),
            min_log_scale=canvas.min_log_scale,
            first_rows_up=self._pointer(up),
            pixels=self._pointer(images),
            known=self._pointer(canvas.known.to(torch.uint8)),
            gumbel=self._pointer(torch.stack([noise.gumbel for noise in canvas.noise])),
            logistic=self._pointer(torch.stack([noise.logistic for noise in canvas.noise])),
            centre=self._pointer(canvas.centre),
            features=self._pointers(features) if features else None,
            embedded=self._pointers(embedded) if embedded else None,
            weights=self._pointers([layer.weight for layer in layers]),
            biases=self._pointers([layer.bias for layer in layers]),
        )

    def _pointer(self, tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _pointers(self, tensors: Sequence[Tensor | None]) -> int:
        table = (c_void_p * len(tensors))(*map(self._pointer, tensors))
        self._kept.append(table)
        return ctypes.addressof(table)


def _embed(block: Block, labels: Tensor) -> Tensor:
    """Returns what a block adds for each image's class, (n, 2F)."""
    return F.embedding(labels, weight_of(block.label))


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
    left = taps(stem.left)
    yield _Layer(_matrix(taps(stem.vertical)), bias(stem.vertical))
    yield _Layer(_matrix(taps(stem.above)), bias(stem.above))
    yield _Layer(_matrix(left[0]), bias(stem.left))
    yield _Layer(_matrix(left[1]))
    for vertical, horizontal in _pairs(network):
        yield from _vertical(vertical)
        yield from _horizontal(horizontal)
    for shrink, grow in zip(network.shrink, network.grow, strict=True):
        yield from _shrink(cast(Resample, shrink))
        yield from _grow(cast(Resample, grow))
    yield _Layer(weight_of(network.out).mT, bias(network.out))


def _matrix(*parts: Tensor) -> Tensor:
    """Joins weights (…, in, out) to one matrix (inputs, outputs)."""
    return torch.cat([part.flatten(0, -2) for part in parts])


def _vertical(block: Block) -> Iterator[_Layer]:
    yield _Layer(_matrix(taps(block.conv_in), *_skips(block)), _bias_in(block))
    yield _Layer(_matrix(taps(block.conv_out)), bias(block.conv_out))


def _horizontal(block: Block) -> Iterator[_Layer]:
    first, second = taps(block.conv_in), taps(block.conv_out)
    vertical, *skip = _skips(block)
    yield _Layer(_matrix(first[0], vertical), _bias_in(block))
    yield _Layer(_matrix(first[1], *skip))
    yield _Layer(_matrix(second[0]), bias(block.conv_out))
    yield _Layer(_matrix(second[1]))


def _bias_in(block: Block) -> Tensor:
    """Returns the bias of a block's first layer, that of its skips included."""
    return bias(block.conv_in) if block.skip is None else bias(block.conv_in) + bias(block.skip)


def _skips(block: Block) -> list[Tensor]:
    """Returns one (2F, F) for each part of the skip: act([a, b]) = [a⁺, b⁺, a⁻, b⁻]."""
    if block.skip is None:
        return []
    weight = weight_of(block.skip).mT
    parts = weight.unflatten(0, (2, -1, weight.shape[1])).unbind(1)
    return [part.flatten(0, 1) for part in parts]


def _shrink(layers: Resample) -> Iterator[_Layer]:
    above, now = taps(layers.horizontal)
    yield _Layer(_matrix(taps(layers.vertical)), bias(layers.vertical))
    yield _Layer(_matrix(above), bias(layers.horizontal))
    yield _Layer(_matrix(now))


def _grow(layers: Resample) -> Iterator[_Layer]:
    for row in taps(layers.vertical):  # an odd column has its own coarse one and the next one's left
        yield _Layer(row[1], bias(layers.vertical))
        yield _Layer(_matrix(row[2], row[0]), bias(layers.vertical))
    fine = taps(layers.horizontal).permute(2, 0, 1, 3).flatten(1)
    yield _Layer(fine, bias(layers.horizontal).repeat(4))
