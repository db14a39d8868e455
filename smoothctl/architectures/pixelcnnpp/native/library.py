"""What the compiled sampler takes and gives, as sampler.h declares it, and how it is found."""

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_float, c_int32, c_void_p
from functools import cache
from pathlib import Path

from smoothctl.architectures.pixelcnnpp.native.build import LIBRARY, fingerprint
from smoothctl.errors import NotAvailable

__all__ = ["NativeCanvas", "Processor", "Weights", "load", "processors"]


class Weights(Structure):
    """`Weights` of sampler.h."""

    _fields_ = (
        *((name, c_int32) for name in ("channels", "filters", "blocks", "scales", "mixtures")),
        ("layers", c_int32),
        *((name, c_void_p) for name in ("weights", "biases")),
    )


class NativeCanvas(Structure):
    """`Canvas` of sampler.h."""

    _fields_ = (
        *((name, c_int32) for name in ("height", "width", "images", "levels", "known_images")),
        ("first_row", c_int32),
        ("min_log_scale", c_float),
        ("noise", c_float),
        *((name, c_void_p) for name in ("first_rows_up", "pixels", "known", "gumbel", "standard")),
        *((name, c_void_p) for name in ("centre", "features", "embedded")),
    )


class Processor(Structure):
    """`Processor` of sampler.h."""

    _fields_ = (
        ("name", c_char_p),
        ("pack", CFUNCTYPE(c_void_p, POINTER(Weights), c_int32)),
        ("begin", CFUNCTYPE(c_void_p, c_void_p, POINTER(NativeCanvas), c_int32, c_int32)),
        ("row", CFUNCTYPE(None, c_void_p, c_int32)),
        ("free", CFUNCTYPE(None, c_void_p)),
    )


@cache
def processors(library: Path = LIBRARY) -> dict[str, Processor]:
    """Returns the samplers that this processor can run, by its kinds, the best one last.

    Raises:
        NotAvailable: the sampler was not compiled, or not from these sources.
    """
    again = "`pip install` of smoothctl compiles it where there is a C++ compiler"
    if not library.exists():
        raise NotAvailable(f"The sampler was not compiled: {again}.")
    try:
        opened = ctypes.CDLL(str(library))
        opened.smoothctl_fingerprint.restype = c_char_p
        compiled_from = opened.smoothctl_fingerprint().decode()
    except (OSError, AttributeError) as error:
        raise NotAvailable(f"The compiled sampler cannot be loaded ({error}); {again}.") from error
    if compiled_from != fingerprint():
        raise NotAvailable(f"The sampler was compiled from other sources than these; {again}.")
    found = (POINTER(Processor) * 3)()
    count = opened.smoothctl_processors(found)
    return {each[0].name.decode(): each[0] for each in found[:count]}


def load(processor: str | None = None, library: Path = LIBRARY) -> Processor:
    """Returns the sampler for a kind of processor, the best one if None.

    Raises:
        NotAvailable: see `processors`, or this is no such processor.
    """
    found = processors(library)
    if processor is not None and processor not in found:
        raise NotAvailable(f"This processor is {' and '.join(found)}, not {processor}.")
    return found[processor or list(found)[-1]]
