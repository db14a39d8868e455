"""Atomic, verified files: written beside, synced, renamed; weights as safetensors only."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MANIFEST",
    "append_line",
    "cannot_write",
    "move",
    "new_folder",
    "read_weights",
    "remove",
    "remove_leftovers",
    "verify_manifest",
    "write_bytes",
    "write_json",
    "write_weights",
]

MANIFEST = "manifest.json"
METADATA_KEY = "smoothctl"
"""All our metadata is one sorted JSON string under this key, so that files are reproducible."""


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees either the old or the whole new content.

    Raises:
        RunError: the folder cannot be written or the disk is full; the old file is untouched.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Adds one line to a text file.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a hidden sibling to fill; on success it gets a manifest and becomes `path`.

    Raises:
        RunError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        beside.mkdir(parents=True)
        yield beside
        hashes = {file.name: _sha256(file) for file in sorted(beside.iterdir())}
        write_json(beside / MANIFEST, {"format": 1, "sha256": hashes})
        _sync_folder(beside)
        if path.exists():
            shutil.rmtree(path)
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    except RunError as error:
        raise RunError(str(error).replace(str(beside), str(path))) from error
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)


def verify_manifest(folder: Path, *required: str) -> None:
    """Checks every file of a folder against its manifest.

    Args:
        folder: made by `new_folder`.
        required: names that the manifest must list.

    Raises:
        RunError: the manifest or a file is missing, or a file was changed.
    """
    try:
        hashes = json.loads((folder / MANIFEST).read_text())["sha256"]
        expected = {Path(name).name: str(value) for name, value in hashes.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder} is incomplete: its manifest cannot be read.") from error
    for name in required:
        if name not in expected:
            raise RunError(f"{folder} is incomplete: its manifest does not list {name}.")
    for name, value in expected.items():
        if not (folder / name).is_file():
            raise RunError(f"{folder} is incomplete: {name} is missing.")
        if _sha256(folder / name) != value:
            raise RunError(f"{folder / name} is damaged: its SHA-256 is not the manifest's.")


def write_weights(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, Any]) -> None:
    """Writes tensors and one sorted JSON string of metadata as safetensors, atomically."""
    from safetensors.torch import save

    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    write_bytes(path, save(plain, metadata={METADATA_KEY: text}))


def read_weights(path: Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Returns the tensors and our metadata of a safetensors file; nothing in it can run code.

    Raises:
        RunError: missing, truncated, of another format, or not written by smoothctl.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunError(f"There is no weights file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(
            f"{path} is no complete safetensors file ({error}); it may be truncated: "
            "restore it, or fit the stage again."
        ) from error
    try:
        ours = json.loads(metadata[METADATA_KEY])
    except (KeyError, ValueError) as error:
        raise RunError(
            f"{path} was not written by smoothctl: it has no '{METADATA_KEY}' metadata."
        ) from error
    if not isinstance(ours, dict) or ours.get("format") != 1:
        found = ours.get("format") if isinstance(ours, dict) else None
        raise RunError(f"{path} has format {found!r}; this version reads format 1.")
    return tensors, ours


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was writing: hidden .tmp files and folders, at any depth."""
    for path in sorted(folder.rglob(".*.tmp"), reverse=True):
        remove(path)


def move(path: Path, target: Path) -> None:
    """Renames a file or folder.

    Raises:
        RunError: it cannot be done.
    """
    try:
        path.rename(target)
    except OSError as error:
        raise cannot_write(target, error) from error


def remove(path: Path) -> None:
    """Removes a file or folder if it is there."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"Cannot remove {path}: {error.strerror or error}.") from error


def cannot_write(path: Path, error: OSError) -> RunError:
    """Returns the error that says in a sentence why a path cannot be written."""
    return RunError(f"Cannot write {path}: {error.strerror or error}.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
