"""One generic registry over an entry-point group; listing reads metadata, loading imports one."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, Generic, TextIO, TypeVar

from smoothctl.errors import UsageError, near_misses
from smoothctl.registry.entries import (
    ALLOWED_PACKAGES,
    Entry,
    Fault,
    allowed,
    canonical,
    check_entry,
    check_package,
    is_plain,
    printable,
    read,
    reason,
)

__all__ = ["ALLOWED_PACKAGES", "Entry", "Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """The plugins that installed packages declare in one entry-point group.

    Args:
        group: the entry-point group, such as "smoothctl.kernels".
        noun: what one entry is, for messages: "kernel".
        contract: returns the base class that every entry must extend; called only on loading, so
            that a registry can be made without importing torch.
        instances: the entries are instances of the contract, not classes that extend it.
    """

    def __init__(
        self, group: str, noun: str, contract: Callable[[], type[T]], instances: bool = False
    ) -> None:
        self.group = group
        self.noun = noun
        self.contract = contract
        self._instances = instances

    def entries(self) -> list[Entry]:
        """Returns every declared entry, sorted by name and package, without importing any."""
        found, _ = read()
        return [e for e in found if e.entry_point.group == self.group and allowed(e.package)]

    def names(self) -> list[str]:
        """Returns the names that `load` takes; a name of several packages is package:name."""
        entries = [entry for entry in self.entries() if is_plain(entry.name)]
        plain = [entry.name for entry in entries]
        return [e.name if plain.count(e.name) == 1 else f"{e.package}:{e.name}" for e in entries]

    def find(self, name: str) -> Entry:
        """Returns the entry called `name` or `package:name`, without importing it.

        Raises:
            UsageError: no package declares it, or several do, or one does so twice.
        """
        entries = [entry for entry in self.entries() if _is_called(entry, name)]
        if not entries:
            missing = f"There is no {self.noun} '{printable(name)}'"
            raise UsageError(f"{missing}{near_misses(name, self.names())}")
        packages = dict.fromkeys(printable(entry.package) for entry in entries)
        plain = printable(entries[0].name)
        if len(packages) > 1:
            choices = " or ".join(f"{package}:{plain}" for package in packages)
            raise UsageError(
                f"Several packages declare the {self.noun} '{plain}': write {choices}."
            )
        if len(entries) > 1:
            raise UsageError(f"{_origin(entries[0], self.noun)} is declared twice.")
        return entries[0]

    def load(self, name: str) -> type[T]:
        """Imports and returns the class called `name` or `package:name`.

        Raises:
            UsageError: unknown or ambiguous name, or an entry that cannot be used: the message
                names the package, its version and the error.
        """
        loaded: type[T] = self.load_entry(self.find(name))
        return loaded

    def load_entry(self, entry: Entry) -> Any:
        """Imports and returns what an entry stands for.

        What its package requires is checked before the import.

        Raises:
            UsageError: it cannot be used: the message names the package, its version and the error.
        """
        try:
            check_entry(entry)
            check_package(entry)
            return self.resolve(entry, sys.stderr)
        except Fault as fault:
            raise UsageError(f"{_origin(entry, self.noun)} {fault}.") from fault

    def resolve(self, entry: Entry, printed: TextIO) -> Any:
        """Imports and returns what an entry stands for, its metadata unchecked.

        Args:
            entry: of this group.
            printed: takes what the import prints, so that results on stdout stay clean.

        Raises:
            Fault: the import fails or tries to end the process, or the object breaks the contract.
        """
        contract = self.contract()
        try:
            with redirect_stdout(printed):
                loaded = entry.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise Fault(f"cannot be imported ({reason(error)})") from error
        is_class = isinstance(loaded, type)
        fits = is_class and issubclass(loaded, contract)
        if self._instances:
            fits = isinstance(loaded, contract)
        if not fits:
            what = f"the class {loaded.__name__}" if is_class else f"a {type(loaded).__name__}"
            raise Fault(f"is no {contract.__name__}: it is {printable(what)}")
        if missing := getattr(loaded, "__abstractmethods__", None):
            raise Fault(f"is no whole {contract.__name__}: it lacks {', '.join(sorted(missing))}")
        return loaded


def _is_called(entry: Entry, name: str) -> bool:
    package, _, plain = name.rpartition(":")
    if name == entry.name:
        return True
    return plain == entry.name and canonical(package) == canonical(entry.package)


def _origin(entry: Entry, noun: str) -> str:
    package, version = printable(entry.package), printable(entry.version)
    return f"The {noun} '{printable(entry.name)}' of {package} {version}"
