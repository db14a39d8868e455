"""Files: written whole or not at all, and read with suspicion, as others may have made them."""

import errno
import hashlib
import json
import os
import re
import shutil
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from smoothctl.errors import RunError

__all__ = [
    "MANIFEST",
    "append_line",
    "cannot_write",
    "check_format",
    "check_inside",
    "make_folder",
    "move",
    "new_folder",
    "parse_json",
    "read_json",
    "read_text",
    "read_toml",
    "remove",
    "remove_leftovers",
    "said_without_folders",
    "sha256_of",
    "sync",
    "verify_manifest",
    "without_folders",
    "write_bytes",
    "write_json",
]

_REMEDY = "restore it, or move it away"
_DEEPEST = 40
"""Levels of nesting: far more than we write, far fewer than Python's recursion takes."""

_WIDEST = 1000
"""Bits of a whole number: any that has fewer becomes a float without overflow."""


def read_text(path: Path, most: int, remedy: str = _REMEDY) -> str:
    """Returns the text of a plain file.

    Args:
        path: the file.
        most: bytes that it may have.
        remedy: what a person can do about a file that is wrong.

    Raises:
        RunError: missing, no plain file, empty, larger, or no UTF-8.
    """
    if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
        raise RunError(f"{path} is no plain file: {remedy}.")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
        text = content.decode()
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: {remedy}.") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged, no text: {remedy}.") from error
    if len(content) > most:
        raise RunError(f"{path} is larger than {most:,} bytes, so it is not ours: {remedy}.")
    if not text.strip():
        raise RunError(f"{path} is empty: {remedy}.")
    return text


def read_json(path: Path, most: int, remedy: str = _REMEDY) -> Any:
    """Returns the value of a JSON file of at most so many bytes.

    Raises:
        RunError: see `read_text`, or no JSON that we would write.
    """
    text = read_text(path, most, remedy)
    try:
        return parse_json(text)
    except ValueError as error:
        raise RunError(f"{path} is damaged, no JSON ({error}): {remedy}.") from error


def read_toml(path: Path, most: int, remedy: str = _REMEDY) -> dict[str, Any]:
    """Returns the values of a TOML file of at most so many bytes.

    Raises:
        RunError: see `read_text`, or no TOML that we would write.
    """
    text = read_text(path, most, remedy)
    try:
        with _deep_is_wrong():
            values = tomllib.loads(text)
            _check(values)
    except ValueError as error:
        raise RunError(f"{path} is damaged, no TOML ({error}): {remedy}.") from error
    return values


def parse_json(text: str | bytes) -> Any:
    """Returns a JSON value.

    Raises:
        ValueError: no JSON, nested too deeply, or with a number that no float can hold.
    """
    with _deep_is_wrong():
        value = json.loads(text)
        _check(value)
    return value


def check_format(version: Any, where: str) -> None:
    """Checks a file's format version, which is 1.

    Raises:
        RunError: it is another; a newer one asks for an upgrade.
    """
    if type(version) is int and version == 1:
        return
    if type(version) is int and version > 1:
        raise RunError(
            f"{where} was written by a newer smoothctl: it has format {version}; this version "
            "reads format 1: upgrade smoothctl."
        )
    raise RunError(f"{where} has format {version!r:.80}; this version reads format 1.")


def check_inside(path: Path, folder: Path) -> Path:
    """Returns a path unless a link on its way leads out of a folder that others may have made.

    Args:
        path: below the folder, there or not.
        folder: may itself be reached by a link.

    Raises:
        RunError: it leads out, or in a circle.
    """
    try:
        target = path.resolve()
        if target.is_relative_to(folder.resolve()):
            return path
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle, before Python 3.13
        raise RunError(f"{path} is a link that leads nowhere: remove it.") from error
    raise RunError(f"{path} is a link out of {folder}, to {target}, and not followed: remove it.")


@contextmanager
def _deep_is_wrong() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check(value: Any, deepest: int = _DEEPEST) -> None:
    if isinstance(value, int) and value.bit_length() > _WIDEST:
        raise ValueError("it holds an absurdly large number")
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if items and not deepest:
        raise RecursionError
    for item in items:
        _check(item, deepest - 1)


_FOLDERS = re.compile(r"(?<![^\s('\"=])/(?:[^/\s]+/)+")
"""The folders of an absolute path in a sentence."""

MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 2**20


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees either the old or the whole new content.

    Raises:
        RunError: the folder cannot be written or the disk is full; the old file is untouched.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        make_folder(path.parent)
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Adds one line to a text file, all of it or nothing; `sync` makes it last.

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


def sync(path: Path) -> None:
    """Makes what was appended to a file outlast a power cut, and the file's name with it.

    Raises:
        RunError: the file is not there, or the disk is full.
    """
    try:
        _sync(path)
        _sync(path.parent)
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
    name = f".{path.name}.{uuid.uuid4().hex[:8]}"
    beside, old = path.with_name(f"{name}.tmp"), path.with_name(f"{name}.old.tmp")
    try:
        make_folder(beside)
        yield beside
        hashes = {file.name: sha256_of(file) for file in sorted(beside.iterdir())}
        write_json(beside / MANIFEST, {"format": 1, "sha256": hashes})
        _sync(beside)
        with suppress(FileNotFoundError):
            path.replace(old)
        beside.replace(path)
        _sync(path.parent)
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


def without_folders(name: str) -> str:
    """Returns what may be given to others of a name: of an absolute path ./NAME, else all of it."""
    path = Path(name)
    return f"./{path.name}" if path.is_absolute() else name


def said_without_folders(sentence: str) -> str:
    """Returns a sentence that names files by ./NAME, and not the folders above them."""
    return _FOLDERS.sub("./", sentence)


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
    there = _files_of(folder)
    for name, value in expected.items():
        if name not in there:
            raise RunError(f"{folder} is incomplete: it has no file {name!r:.80} of its manifest.")
        path = check_inside(folder / name, folder.parent)
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}.") from error
        if digest != value:
            raise RunError(f"{path} is damaged: its SHA-256 is not the manifest's.")


def _files_of(folder: Path) -> set[str]:
    """Returns the names of a folder's files, so that no foreign name is looked up."""
    try:
        return {path.name for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise RunError(f"{folder} cannot be read: {error.strerror}.") from error


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was writing: hidden .tmp files and folders, at any depth."""
    for path in sorted(folder.rglob(".*.tmp"), reverse=True):
        remove(path)


def move(path: Path, target: Path) -> None:
    """Renames a file or folder, before anything that is done after it.

    Raises:
        RunError: it cannot be done.
    """
    try:
        path.rename(target)
        _sync(target.parent)
        _sync(path.parent)
    except OSError as error:
        raise cannot_write(target, error) from error


def remove(path: Path) -> None:
    """Removes a file or folder if it is there; a power cut does not bring it back."""
    if not os.path.lexists(path):
        return
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise RunError(f"Cannot remove {path}: {error.strerror or error}.") from error


def cannot_write(path: Path, error: OSError) -> RunError:
    """Returns the error that says in a sentence why a path cannot be written."""
    return RunError(f"Cannot write {path}: {error.strerror or error}.")


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; each one's name is on the disk when it returns.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
