"""What each entry says of itself: kept in the cache, so that a list need not import it again."""

import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smoothctl.errors import RunError, UsageError
from smoothctl.registry.registry import Entry, Registry, printable
from smoothctl.storage.cache import cache_folder
from smoothctl.storage.files import read_json, write_json

__all__ = ["Described", "describe", "summary_of"]

_LONGEST, _ESCAPED, _LARGEST = 300, 12, 2**20
"""Characters of a summary, of one of them when escaped, and bytes of a file of summaries."""


@dataclass(frozen=True)
class Described:
    """An entry and, safe to print, what it says of itself or why it cannot be used.

    Args:
        entry: of a registry.
        summary: its own words; None if it is broken.
        error: what is wrong, in a sentence; else None.
    """

    entry: Entry
    summary: str | None = None
    error: str | None = None


def describe(registry: Registry[Any]) -> list[Described]:
    """Returns every entry of a registry with its summary; a broken one with its error.

    Metadata are checked each time. An entry is imported unless that succeeded before, with the
    same packages installed and the same source files.
    """
    kept = _Kept(registry.group)
    described = [_describe(registry, entry, kept) for entry in registry.entries()]
    kept.save()
    return described


def summary_of(loaded: Any) -> str:
    """Returns what a loaded entry says of itself, safe to print."""
    return printable(str(getattr(loaded, "summary", "")), _LONGEST)


def _describe(registry: Registry[Any], entry: Entry, kept: "_Kept") -> Described:
    try:
        registry.inspect(entry)
        return Described(entry, kept.get(entry, lambda: summary_of(registry.load_entry(entry))))
    except UsageError as error:
        return Described(entry, error=str(error))


class _Kept:
    """The summaries of one group and one Python, by a digest of all that they depend on.

    Args:
        group: the entry-point group, such as "smoothctl.kernels".
    """

    def __init__(self, group: str) -> None:
        self._file = _file(group)
        self._known, self._found = _read(self._file), dict[str, str]()
        self._code = cache(_code)
        self._common = [sys.version, *_installed(), *self._code("smoothctl")]

    def get(self, entry: Entry, load: Callable[[], str]) -> str:
        """Returns the summary of an entry whose metadata are in order; loads it if need be."""
        point = entry.entry_point
        own = [entry.package, entry.version, point.group, point.name, point.value]
        key = _digest([*self._common, *own, *self._code(point.module.partition(".")[0])])
        known = self._known.get(key)
        self._found[key] = load() if known is None else printable(known, _ESCAPED * _LONGEST)
        return self._found[key]

    def save(self) -> None:
        """Writes the summaries if one is new; where that cannot be, they are loaded again."""
        if self._file is not None and not self._found.items() <= self._known.items():
            with suppress(RunError):
                write_json(self._file, {"format": 1, "summaries": self._found})


def _file(group: str) -> Path | None:
    try:
        folder = cache_folder()
    except RuntimeError:  # a user without a home
        return None
    return folder / "summaries" / f"{group}-{_digest([sys.prefix])[:16]}.json"


def _read(file: Path | None) -> dict[str, str]:
    """Returns what a file has kept; of one that is not ours, nothing."""
    value = None
    if file is not None:
        with suppress(RunError):
            value = read_json(file, _LARGEST)
    summaries = value.get("summaries") if isinstance(value, dict) else None
    items = summaries.items() if isinstance(summaries, dict) else ()
    return {key: text for key, text in items if isinstance(text, str)}


def _installed() -> list[str]:
    """Returns the installed packages by their folders' names, which have the versions."""
    return sorted(info.name for folder in sys.path for info in Path(folder).glob("*-info"))


def _code(module: str) -> list[str]:
    """Returns path, size and time of each source file of a top-level module, not imported."""
    spec = find_spec(module)
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or () for path in Path(folder).rglob("*.py")]
    if spec and spec.origin and not files:
        files = [Path(spec.origin)]
    return sorted(filter(None, map(_stamp, files)))


def _stamp(file: Path) -> str | None:
    with suppress(OSError):
        status = file.stat()
        return f"{file} {status.st_size} {status.st_mtime_ns}"
    return None


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()
