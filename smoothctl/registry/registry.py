"""One registry over an entry-point group: metadata are judged first, one entry is imported."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distributions
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

from smoothctl.errors import UsageError, escaped, near_misses

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = [
    "ALLOWED_PACKAGES",
    "PREFIX",
    "Entry",
    "Fault",
    "Registry",
    "Unreadable",
    "allowed",
    "canonical",
    "check_entry",
    "check_package",
    "is_plain",
    "printable",
    "read",
    "reason",
]

PREFIX = "smoothctl."
"""What the name of every entry-point group starts with."""

ALLOWED_PACKAGES = "SMOOTHCTL_PLUGINS"
"""Environment variable: comma-separated packages that plugins may come from; unset means any."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VALUE = re.compile(r"(?P<top>[^\W\d]\w*)(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*(\s*\[.*\])?")


class Fault(Exception):
    """Why an entry cannot be used; the text goes on from 'the plugin', such as 'needs zuko'."""


@dataclass(frozen=True)
class Entry:
    """A registered name and the installed package that it comes from; nothing is imported."""

    name: str
    package: str
    version: str
    entry_point: EntryPoint

    @property
    def built_in(self) -> bool:
        """Whether it is smoothctl's own."""
        return canonical(self.package) == "smoothctl"


@dataclass(frozen=True)
class Unreadable:
    """A package whose entry_points.txt means smoothctl, and why it cannot be read."""

    package: str
    version: str
    reason: str


def read() -> tuple[list[Entry], list[Unreadable]]:
    """Returns every entry of every group smoothctl.*, and the packages that cannot be read.

    Of several installations of one package the first on the path counts, as it does on import; a
    package that cannot be read takes nothing from the others.
    """
    entries: dict[tuple[str, ...], Entry] = {}
    unreadable = []
    seen = set()
    for distribution in distributions():
        try:
            points = _points(distribution)
        except Exception as error:
            points = None
            fault = reason(error)
        if points == []:
            continue
        package, version = _identity(distribution)
        if canonical(package) in seen:
            continue
        seen.add(canonical(package))
        if points is None:
            unreadable.append(Unreadable(package, version, fault))
        for point in points or []:
            key = (point.group, point.name, package, point.value)
            entries[key] = Entry(point.name, package, version, point)
    return [entries[key] for key in sorted(entries)], unreadable


def allowed(package: str) -> bool:
    """Returns whether the allow-list, if there is one, lets a package's plugins in."""
    value = os.environ.get(ALLOWED_PACKAGES)
    if value is None:
        return True
    return canonical(package) in {"smoothctl", *map(canonical, value.split(","))}


def canonical(package: str) -> str:
    """Returns a package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", package.strip()).lower()


def is_plain(name: str) -> bool:
    """Returns whether a name is safe to type and to print: letters, digits, '-', '_' and '.'."""
    return _NAME.fullmatch(name) is not None


def printable(text: str, limit: int = 80) -> str:
    """Returns foreign text for a sentence: `escaped`, and cut where it is long."""
    return escaped(text if len(text) <= limit else text[: limit - 1] + "…")


def reason(error: BaseException) -> str:
    """Returns 'Type: message' of a foreign error on one line, whatever it holds."""
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "its message cannot be printed"
    return printable(f"{type(error).__name__}: {message}", 300)


def check_package(entry: Entry) -> None:
    """Checks what the package of an entry requires, by its metadata.

    Smoothctl's own entries pass: what one of them lacks, such as clean-fid, no other one misses.

    Raises:
        Fault: the metadata cannot be read, the package was written for another smoothctl, or a
            dependency is missing or has another version than the required ones.
    """
    if entry.built_in:
        return
    for requirement in _requirements(entry):
        _check_requirement(entry, requirement)


def check_entry(entry: Entry) -> None:
    """Checks how an entry is declared; only its top-level module is looked for, not imported.

    Raises:
        Fault: a name or value that is not well formed, or a module that is not there.
    """
    if not is_plain(entry.name):
        raise Fault(
            "has a name that is no plain one (letters, digits, '-', '_' and '.', 64 at most)"
        )
    value = _VALUE.fullmatch(entry.entry_point.value)
    if value is None:
        written = printable(entry.entry_point.value)
        raise Fault(f"says '{written}' where its pyproject.toml must say 'module:Class'")
    try:
        is_there = find_spec(value["top"]) is not None
    except Exception:
        is_there = False
    if not is_there:
        again = _pip("--force-reinstall", "--no-deps", entry.package)
        raise Fault(f"stands in a module '{value['top']}' that is not there: run {again}")


def _points(distribution: Distribution) -> list[EntryPoint]:
    """Returns a package's entry points in groups smoothctl.*."""
    try:
        text = distribution.read_text("entry_points.txt") or ""
    except UnicodeDecodeError as error:
        if PREFIX.encode() not in error.object:
            return []
        raise
    if PREFIX not in text:
        return []
    return [point for point in distribution.entry_points if point.group.startswith(PREFIX)]


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Returns a package's name and version; without readable metadata, as its folder has them."""
    folder = Path(str(getattr(distribution, "_path", ""))).stem.partition("-")
    name, version = folder[0], folder[2]
    with suppress(Exception):
        name = distribution.metadata["Name"] or name
        version = distribution.metadata["Version"] or version
    return name or "unknown", version or "unknown"


def _requirements(entry: Entry) -> Iterator["Requirement"]:
    """Yields what the package of an entry requires here, the extras' own requirements apart."""
    from packaging.requirements import Requirement

    try:
        distribution = entry.entry_point.dist
        metadata = None if distribution is None else distribution.metadata
        if distribution is None or metadata is None or metadata["Name"] is None:
            raise ValueError("no Name in METADATA")
        requirements = [Requirement(text) for text in distribution.requires or []]
        applying = [r for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    except Exception as error:
        again = _pip("--force-reinstall", "--no-deps", entry.package)
        raise Fault(f"has metadata that cannot be read ({reason(error)}): run {again}") from error
    yield from applying


def _check_requirement(entry: Entry, requirement: "Requirement") -> None:
    name, wanted = printable(requirement.name), printable(str(requirement.specifier))
    command = _pip(f"{name}{wanted}")
    try:
        version = installed_version(requirement.name)
    except PackageNotFoundError:
        raise Fault(f"needs {name}{wanted}, which is not installed: run {command}") from None
    if _satisfies(version, requirement):
        return
    if canonical(name) == "smoothctl":
        raise Fault(
            f"was written for smoothctl {wanted}, and this is smoothctl {version}: "
            f"run {_pip('--upgrade', entry.package, 'smoothctl')}"
        )
    raise Fault(f"needs {name}{wanted}, and {printable(str(version))} is installed: run {command}")


def _satisfies(version: str | None, requirement: "Requirement") -> bool:
    """Returns whether a version is among those required; one that nobody can read passes."""
    from packaging.version import InvalidVersion, Version

    try:
        return requirement.specifier.contains(Version(version or ""), prereleases=True)
    except InvalidVersion:
        return True


def _pip(*arguments: str) -> str:
    """Returns the command line that installs something, to paste into a shell."""
    return shlex.join(["pip", "install", *map(printable, arguments)])


T = TypeVar("T")


class Registry(Generic[T]):
    """The plugins, each a T, that installed packages declare in one entry-point group.

    Args:
        group: the entry-point group, such as "smoothctl.kernels".
        noun: what one entry is, for messages: "kernel".
        base: "module:Class", which every entry must extend; imported only on loading, so that a
            registry can be made without importing torch.
        instances: the entries are instances of the base class, not classes that extend it.
    """

    def __init__(self, group: str, noun: str, base: str, instances: bool = False) -> None:
        self.group = group
        self.noun = noun
        self._base = base
        self._instances = instances

    def contract(self) -> type:
        """Imports and returns the base class."""
        base: type = resolve_name(self._base)
        return base

    def entries(self) -> list[Entry]:
        """Returns every declared entry, sorted by name and package, without importing any."""
        entries, _ = read()
        return [e for e in entries if e.entry_point.group == self.group and allowed(e.package)]

    def names(self) -> list[str]:
        """Returns the names that `load` takes; package:name where the name means another one."""
        entries = [entry for entry in self.entries() if is_plain(entry.name)]
        plain = [entry.name for entry in entries]
        return [
            e.name if e.built_in or plain.count(e.name) == 1 else f"{e.package}:{e.name}"
            for e in entries
        ]

    def declares(self, name: str) -> bool:
        """Returns whether any package declares `name` or `package:name`."""
        return any(_is_called(entry, name) for entry in self.entries())

    def find(self, name: str) -> Entry:
        """Returns the entry called `name` or `package:name`, without importing it.

        A plain name means smoothctl's own entry, whoever else declares it.

        Raises:
            UsageError: no package declares it, or several do, or one does so twice.
        """
        entries = [entry for entry in self.entries() if _is_called(entry, name)]
        if not entries:
            missing = f"There is no {self.noun} '{printable(name)}'"
            raise UsageError(f"{missing}{near_misses(name, self.names())}")
        entries = [entry for entry in entries if entry.built_in] or entries
        packages = dict.fromkeys(printable(entry.package) for entry in entries)
        plain = printable(entries[0].name)
        if len(packages) > 1:
            choices = " or ".join(f"{package}:{plain}" for package in packages)
            raise UsageError(
                f"Several packages declare the {self.noun} '{plain}': write {choices}, or name one "
                f"of them in {ALLOWED_PACKAGES}, as for a run in which the plain name stands."
            )
        if len(entries) > 1:
            raise UsageError(f"{_origin(entries[0], self.noun)} is declared twice.")
        return entries[0]

    def qualified(self, name: str) -> str:
        """Returns what a run records of an entry, so that no package declares it away.

        Returns:
            The plain name of smoothctl's own, and package:name of another one.

        Raises:
            UsageError: see `find`.
        """
        entry = self.find(name)
        return entry.name if entry.built_in else f"{canonical(entry.package)}:{entry.name}"

    def same(self, one: str, other: str) -> bool:
        """Returns whether two recorded names mean one entry; older runs have plain names."""
        try:
            return one == other or self.qualified(one) == self.qualified(other)
        except UsageError:
            return False

    def load(self, name: str) -> T:
        """Imports and returns what is called `name` or `package:name`.

        Raises:
            UsageError: unknown or ambiguous name, or an entry that cannot be used: the message
                names the package, its version and the error.
        """
        return self.load_entry(self.find(name))

    def inspect(self, entry: Entry) -> None:
        """Checks an entry by its metadata alone; nothing is imported.

        Raises:
            UsageError: it cannot be used: the message names the package, its version and the error.
        """
        try:
            check_entry(entry)
            check_package(entry)
        except Fault as fault:
            raise UsageError(f"{_origin(entry, self.noun)} {fault}.") from fault

    def load_entry(self, entry: Entry) -> T:
        """Imports and returns what an entry stands for.

        What its package requires is checked before the import, and so is, in another process, that
        the import comes back, where it is the first one in this process and not smoothctl's own.

        Raises:
            UsageError: it cannot be used: the message names the package, its version and the error.
        """
        self.inspect(entry)
        try:
            if not entry.built_in and entry.entry_point.module not in sys.modules:
                self._try(entry)
            return self.resolve(entry, sys.stderr)
        except Fault as fault:
            raise UsageError(f"{_origin(entry, self.noun)} {fault}.") from fault

    def _try(self, entry: Entry) -> None:
        """Tries the import of an entry in another process.

        Raises:
            Fault: it ends that process, or takes too long.
        """
        from smoothctl.registry.trials import fault_of_import

        self.contract()
        if fault := fault_of_import(entry):
            raise Fault(fault)

    def resolve(self, entry: Entry, printed: TextIO) -> T:
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
                loaded: Any = entry.entry_point.load()
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
        plugin: T = loaded
        return plugin


def _is_called(entry: Entry, name: str) -> bool:
    package, _, plain = name.rpartition(":")
    if name == entry.name:
        return True
    return plain == entry.name and canonical(package) == canonical(entry.package)


def _origin(entry: Entry, noun: str) -> str:
    package, version = printable(entry.package), printable(entry.version)
    return f"The {noun} '{printable(entry.name)}' of {package} {version}"
