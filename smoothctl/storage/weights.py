"""Weights as bytes that are checked before they are believed: safetensors with a SHA-256."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl.errors import RunError
from smoothctl.storage.files import check_format, parse_json, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["METADATA_KEY", "packed", "read_metadata", "read_weights", "write_weights"]

METADATA_KEY = "smoothctl"
"""All our metadata is one sorted JSON string under this key, so that files are reproducible."""

_DIGEST = "content_sha256"
_LARGEST_HEADER = 2**24
"""Bytes: a hundred times the header of a thousand tensors."""

_MAGICS = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it",
    b"\x80": "a Python pickle",
}


def packed(tensors: Mapping[str, "Tensor"], metadata: Mapping[str, Any]) -> bytes:
    """Returns tensors and metadata as a safetensors file, with a SHA-256 of both among the latter.

    Args:
        tensors: by name.
        metadata: plain JSON values, "format" among them.
    """
    from safetensors.torch import save

    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    values = json.loads(json.dumps(metadata))
    values[_DIGEST] = _sha256(plain, values)
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return save(plain, metadata={METADATA_KEY: text})


def write_weights(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, Any]) -> None:
    """Writes tensors and one sorted JSON string of metadata as safetensors, atomically."""
    write_bytes(path, packed(tensors, metadata))


def read_weights(path: Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Returns the tensors and our metadata of a safetensors file; nothing in it can run code.

    Files from before there was a SHA-256 in them are read without that check.

    Raises:
        RunError: missing, empty, truncated, damaged, of another or a newer format, or not
            written by smoothctl; each has its own sentence.
    """
    with _opened(path) as file:
        ours = _ours(path, file.metadata() or {})
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    expected = ours.pop(_DIGEST, None)
    if expected is not None and expected != _sha256(tensors, ours):
        raise _damaged(path, "its SHA-256 is not the one that was written into it")
    return tensors, ours


def read_metadata(path: Path) -> dict[str, Any]:
    """Returns our metadata alone; their SHA-256 is checked where the tensors are read.

    Raises:
        RunError: see `read_weights`.
    """
    with _opened(path) as file:
        ours = _ours(path, file.metadata() or {})
    ours.pop(_DIGEST, None)
    return ours


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a safetensors file of full length; what is wrong with it is one sentence."""
    from safetensors import SafetensorError, safe_open

    _check_layout(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, str(error)) from error


def _ours(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns our metadata, the SHA-256 among them."""
    if METADATA_KEY not in metadata:
        raise RunError(f"{path} was not written by smoothctl: it has no '{METADATA_KEY}' metadata.")
    try:
        ours = parse_json(metadata[METADATA_KEY])
    except ValueError as error:
        raise _damaged(path, f"its metadata are no JSON: {error}") from error
    if not isinstance(ours, dict):
        raise _damaged(path, "its metadata are no table")
    check_format(ours.get("format"), str(path))
    return ours


def _check_layout(path: Path) -> None:
    """Tells apart what is no safetensors file of full length, before anything is made of it."""
    try:
        if not path.exists():
            raise RunError(f"There is no weights file {path}.")
        if not path.is_file():
            raise RunError(f"{path} is no plain file, so it holds no weights: remove it.")
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(9)
            length = int.from_bytes(start[:8], "little")
            header = start[8:] + file.read(max(0, min(length, _LARGEST_HEADER) - 1))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not size:
        raise RunError(f"{path} is empty: restore it, or fit the stage again.")
    for magic, kind in _MAGICS.items():
        if start.startswith(magic) and start[8:] != b"{":
            raise RunError(
                f"{path} is {kind}, and no safetensors file: it could run code and is never read."
            )
    if start[8:] not in (b"", b"{") or length > _LARGEST_HEADER:
        raise RunError(f"{path} is no safetensors file: restore it, or fit the stage again.")
    if size < 9 or size < 8 + length:
        raise _truncated(path, size, 8 + length)
    end = 8 + length + _length_of_values(path, header)
    if size < end:
        raise _truncated(path, size, end)
    if size > end:
        raise _damaged(path, f"it has {size:,} bytes, and its header speaks of {end:,}")


def _length_of_values(path: Path, header: bytes) -> int:
    """Returns how many bytes of values a header speaks of."""
    try:
        entries = parse_json(header)
        ends = [entry["data_offsets"][1] for key, entry in entries.items() if key[:2] != "__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _damaged(path, "its header cannot be read") from error
    if not all(type(end) is int and end >= 0 for end in ends):
        raise _damaged(path, "its header cannot be read")
    return max(ends, default=0)


def _sha256(tensors: Mapping[str, "Tensor"], metadata: Mapping[str, Any]) -> str:
    """Returns the SHA-256 over metadata and each tensor's name, type, shape and bytes."""
    import torch

    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), [*tensor.shape]]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _truncated(path: Path, size: int, expected: int) -> RunError:
    return RunError(
        f"{path} is truncated: it has {size:,} bytes of at least {expected:,}; restore it, or fit "
        "the stage again."
    )


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(f"{path} is damaged ({reason}): restore it, or fit the stage again.")
