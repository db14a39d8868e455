"""One generic registry over an entry-point group; listing reads metadata, loading imports one."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from smoothctl.errors import UsageError, near_misses

__all__ = ["ALLOWED_PACKAGES", "Entry", "Registry"]

T = TypeVar("T")

ALLOWED_PACKAGES = "SMOOTHCTL_PLUGINS"
"""Environment variable: comma-separated packages that plugins may come from; unset means any."""


@dataclass(frozen=True)
class Entry:
    """A registered name and the installed package that it comes from; nothing is imported."""

    name: str
    package: str
    version: str
    entry_point: EntryPoint


class Registry(Generic[T]):
    """The plugins that installed packages declare in one entry-point group.

    Args:
        group: the entry-point group, such as "smoothctl.kernels".
        noun: what one entry is, for messages: "kernel".
        contract: returns the base class that every entry must extend; called only on loading, so
            that a registry can be made without importing torch.
    """

    def __init__(self, group: str, noun: str, contract: Callable[[], type[T]]) -> None:
        self.group = group
        self.noun = noun
        self._contract = contract

    def entries(self) -> list[Entry]:
        """Returns every declared entry, sorted by name and package, without importing any."""
        found = {
            (point.name, package, point.value): Entry(point.name, package, version, point)
            for point, package, version in map(_origin, entry_points(group=self.group))
            if _allowed(package)
        }
        return [found[key] for key in sorted(found)]

    def names(self) -> list[str]:
        """Returns the names that `load` takes; a name of several packages is package:name."""
        entries = self.entries()
        plain = [entry.name for entry in entries]
        return [e.name if plain.count(e.name) == 1 else f"{e.package}:{e.name}" for e in entries]

    def find(self, name: str) -> Entry:
        """Returns the entry called `name` or `package:name`, without importing it.

        Raises:
            UsageError: no package declares it, or several do.
        """
        package, _, plain = name.rpartition(":")
        entries = [e for e in self.entries() if e.name == plain and package in ("", e.package)]
        if not entries:
            raise UsageError(f"There is no {self.noun} '{name}'{near_misses(name, self.names())}")
        if len(entries) > 1:
            choices = " or ".join(f"{e.package}:{e.name}" for e in entries)
            raise UsageError(f"Several packages declare the {self.noun} '{name}': write {choices}.")
        return entries[0]

    def load(self, name: str) -> type[T]:
        """Imports and returns the class called `name` or `package:name`.

        Raises:
            UsageError: unknown or ambiguous name, an import that fails, or a class of another
                contract; the message names the package, its version and the error.
        """
        entry = self.find(name)
        origin = f"The {self.noun} '{name}' of {entry.package} {entry.version}"
        try:
            loaded = entry.entry_point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"{origin} cannot be imported ({reason}).") from error
        contract = self._contract()
        if not (isinstance(loaded, type) and issubclass(loaded, contract)):
            raise UsageError(f"{origin} is no {contract.__name__}: it is {loaded!r}.")
        return loaded


@cache
def _allow_list(value: str) -> frozenset[str]:
    return frozenset(name.strip() for name in value.split(",") if name.strip()) | {"smoothctl"}


def _allowed(package: str) -> bool:
    value = os.environ.get(ALLOWED_PACKAGES)
    return value is None or package in _allow_list(value)


def _origin(point: EntryPoint) -> tuple[EntryPoint, str, str]:
    distribution = point.dist
    if distribution is None:
        return point, "unknown", "unknown"
    return point, distribution.name, distribution.version
