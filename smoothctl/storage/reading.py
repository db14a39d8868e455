"""Reading what others may have written: kind, size, links and nesting are looked at first."""

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smoothctl.errors import RunError

__all__ = ["check_format", "check_inside", "parse_json", "read_json", "read_text", "read_toml"]

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


def check_format(found: Any, where: str) -> None:
    """Checks a file's format version, which is 1.

    Raises:
        RunError: it is another; a newer one asks for an upgrade.
    """
    if type(found) is int and found == 1:
        return
    if type(found) is int and found > 1:
        raise RunError(
            f"{where} was written by a newer smoothctl: it has format {found}; this version reads "
            "format 1: upgrade smoothctl."
        )
    raise RunError(f"{where} has format {found!r:.80}; this version reads format 1.")


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
