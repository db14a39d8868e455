"""Atomic, verified files: written beside, synced, renamed; weights as safetensors only."""

import errno
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
from smoothctl.storage.reading import check_format, check_inside, read_json
from smoothctl.storage.weights import packed, read_weights

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
_LARGEST_MANIFEST = 2**20


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees either the old or the whole new content.

    Raises:
        RunError: the folder cannot be written or the disk is full; the old file is untouched.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        _make_folder(path.parent)
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
    """Adds one line to a text file, all of it or nothing.

    Raises:
        RunError: it cannot be written, or is a link, which is not followed.
    """
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, how, 0o666)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            before, content = file.tell(), (line + "\n").encode()
            if file.write(content) != len(content):  # a disk that is nearly full takes a part
                file.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RunError(f"{path} is a link, and not followed: remove it.") from error
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
    name = f".{path.name}.{uuid.uuid4().hex[:8]}"
    beside, old = path.with_name(f"{name}.tmp"), path.with_name(f"{name}.old.tmp")
    try:
        _make_folder(beside)
        yield beside
        hashes = {file.name: _sha256(file) for file in sorted(beside.iterdir())}
        write_json(beside / MANIFEST, {"format": 1, "sha256": hashes})
        _sync_folder(beside)
        with suppress(FileNotFoundError):
            path.replace(old)
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    except RunError as error:
        raise RunError(str(error).replace(str(beside), str(path))) from error
    finally:
        if os.path.lexists(old) and not os.path.lexists(path):
            old.replace(path)
        with suppress(RunError):
            remove(beside)
            remove(old)


def verify_manifest(folder: Path, *required: str) -> None:
    """Checks every file of a folder against its manifest.

    Args:
        folder: made by `new_folder`.
        required: names that the manifest must list.

    Raises:
        RunError: the manifest or a file is missing, damaged, of a newer format, or a link out.
    """
    try:
        manifest = read_json(check_inside(folder / MANIFEST, folder.parent), _LARGEST_MANIFEST)
    except RunError as error:
        raise RunError(f"{folder} is incomplete: its manifest cannot be read: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("sha256"), dict):
        raise RunError(f"{folder} is incomplete: its manifest lists no files.")
    check_format(manifest.get("format"), str(folder / MANIFEST))
    expected = manifest["sha256"]
    for name in required:
        if name not in expected:
            raise RunError(f"{folder} is incomplete: its manifest does not list {name}.")
    for name, value in expected.items():
        if name in ("", ".", "..") or {"/", "\0"} & set(name):
            raise RunError(f"{folder} is damaged: its manifest lists {name!r:.80}, no file of it.")
        if not check_inside(folder / name, folder.parent).is_file():
            raise RunError(f"{folder} is incomplete: {name} is missing.")
        try:
            digest = _sha256(folder / name)
        except OSError as error:
            raise RunError(f"{folder / name} cannot be read: {error.strerror}.") from error
        if digest != value:
            raise RunError(f"{folder / name} is damaged: its SHA-256 is not the manifest's.")


def write_weights(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, Any]) -> None:
    """Writes tensors and one sorted JSON string of metadata as safetensors, atomically."""
    write_bytes(path, packed(tensors, metadata))


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


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it; each one's name is on the disk when it returns."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
