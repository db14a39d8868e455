"""Every installed plugin, and whether it works: judged by metadata alone, or by trying it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from smoothctl.errors import near_misses
from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import (
    ALLOWED_PACKAGES,
    PREFIX,
    Entry,
    Fault,
    Unreadable,
    allowed,
    check_entry,
    check_package,
    printable,
    read,
)
from smoothctl.registry.trials import Trial, try_entries

__all__ = ["Plugin", "Status", "list_plugins"]


class Status(StrEnum):
    """What is known of a plugin."""

    BUILT_IN = "built-in"
    UNCHECKED = "not checked"
    OK = "ok"
    HIDDEN = "hidden"
    NOISY = "noisy"
    DUPLICATE = "duplicate"
    BROKEN = "broken"


@dataclass(frozen=True)
class Plugin:
    """One entry of one package; its texts are safe to print, odd characters are escaped.

    Args:
        package: the installed package that declares it.
        version: the package's version.
        group: the entry-point group, such as "smoothctl.kernels".
        name: on the command line.
        status: what is known of it.
        error: what is wrong or why it is hidden, in a sentence; else empty.
    """

    package: str
    version: str
    group: str
    name: str
    status: Status
    error: str = ""

    @property
    def faulty(self) -> bool:
        """Whether somebody has to mend it; what the allow-list hides is as wanted."""
        return self.status in (Status.NOISY, Status.DUPLICATE, Status.BROKEN)


def list_plugins(check: bool = False, timeout: float = 60.0) -> list[Plugin]:
    """Returns every entry of every smoothctl.* group, sorted by group, name and package.

    Args:
        check: import every plugin of other packages, in child processes; without it nothing is
            imported and metadata alone are read.
        timeout: seconds that one import may take, with check.
    """
    entries, unreadable = read()
    faults, rivals = _package_faults(entries), _rivals(entries)
    plugins = {entry: _judge(entry, faults, rivals) for entry in entries}
    if check:
        plugins |= _try(plugins, timeout)
    return [*plugins.values(), *map(_unreadable, unreadable)]


def _package_faults(entries: list[Entry]) -> dict[str, str]:
    """Returns package -> what is wrong with its metadata or requirements, told once for all."""
    first = {entry.package: entry for entry in entries if allowed(entry.package)}
    faults = {package: _fault(check_package, entry) for package, entry in first.items()}
    return {package: fault for package, fault in faults.items() if fault}


def _rivals(entries: list[Entry]) -> dict[tuple[str, str], list[str]]:
    """Returns (group, name) -> the packages that declare it."""
    packages: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if allowed(entry.package):
            packages.setdefault((entry.entry_point.group, entry.name), []).append(entry.package)
    return packages


def _judge(
    entry: Entry, faults: dict[str, str], rivals: dict[tuple[str, str], list[str]]
) -> Plugin:
    """Returns what metadata tell of an entry."""
    group = entry.entry_point.group
    status, error = Status.BUILT_IN if entry.built_in else Status.UNCHECKED, ""
    if not allowed(entry.package):
        status = Status.HIDDEN
        error = f"The environment variable {ALLOWED_PACKAGES} does not name its package."
    elif fault := _group_fault(group) or _fault(check_entry, entry) or faults.get(entry.package):
        status, error = Status.BROKEN, _it(fault)
    elif len(rivals[group, entry.name]) > 1:
        status, error = Status.DUPLICATE, _rivalry(entry, rivals[group, entry.name])
    package, version, name = map(printable, (entry.package, entry.version, entry.name))
    return Plugin(package, version, printable(group), name, status, error)


def _it(fault: str) -> str:
    """Returns a fault as a sentence."""
    return f"It {fault}" if fault.endswith("?") else f"It {fault}."


def _group_fault(group: str) -> str | None:
    if group in REGISTRIES:
        return None
    known = [known.removeprefix(PREFIX) for known in REGISTRIES]
    hint = near_misses(group.removeprefix(PREFIX), known)
    return f"stands in a group that smoothctl does not read{hint}"


def _fault(check: Callable[[Entry], None], entry: Entry) -> str | None:
    try:
        check(entry)
    except Fault as fault:
        return str(fault)
    return None


def _rivalry(entry: Entry, packages: list[str]) -> str:
    others = sorted({printable(package) for package in packages if package != entry.package})
    if not others:
        return "Its package declares the name twice; neither can be loaded."
    said = f"{' and '.join(others)} declare{'s' * (len(others) == 1)} the same name"
    if entry.built_in:
        return f"{said}, and '{entry.name}' means this one."
    return f"{said}: write {printable(entry.package)}:{entry.name} for this one."


def _try(plugins: dict[Entry, Plugin], timeout: float) -> dict[Entry, Plugin]:
    """Returns the entries of other packages that could be tried, as they proved to be."""
    tried = {}
    testable = (Status.UNCHECKED, Status.DUPLICATE)
    entries = [e for e, plugin in plugins.items() if plugin.status in testable and not e.built_in]
    for package in dict.fromkeys(entry.package for entry in entries):
        own = [entry for entry in entries if entry.package == package]
        for entry, trial in zip(own, try_entries(own, timeout), strict=True):
            tried[entry] = _tried(plugins[entry], trial)
    return tried


def _tried(plugin: Plugin, trial: Trial) -> Plugin:
    if trial.fault:
        return replace(plugin, status=Status.BROKEN, error=_it(trial.fault))
    if plugin.status is Status.DUPLICATE:
        return plugin
    if trial.noisy:
        error = "It prints when it is imported, which may spoil what smoothctl prints."
        return replace(plugin, status=Status.NOISY, error=error)
    return replace(plugin, status=Status.OK)


def _unreadable(package: Unreadable) -> Plugin:
    error = f"Its entry_points.txt cannot be read ({package.reason}): install the package again."
    name, version = printable(package.package), printable(package.version)
    return Plugin(name, version, "", "", Status.BROKEN, error)
