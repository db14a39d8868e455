"""A disk in a power cut: the record of what a process does to a folder, and what may be left of it.

What was synced is there. Of the rest anything may be: of each folder any of its changes, in their
order, and of each file any of its sectors, as they were, as they were written, or zeros; a name may
be on the disk before the bytes of its file. A file is moved from one folder into another by two
changes, of which the removal is never there without the other.
"""

import hashlib
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "Change",
    "Disk",
    "Lost",
    "Operation",
    "Record",
    "Recorder",
    "Sync",
    "Tree",
    "Write",
    "digest",
    "read",
    "states",
    "write",
]

Tree = dict[str, bytes | None]
"""Path below the root -> content; None of a folder."""

_SECTOR = 512
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_TICKS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


@dataclass(frozen=True)
class Change:
    """Names of a folder, changed at once: what each leads to, None where it goes."""

    folder: int
    names: Mapping[str, int | None]
    after: "Change | None" = None
    """Of another folder, without which this one is never on the disk."""


@dataclass(frozen=True)
class Write:
    """All that a file holds from now on."""

    file: int
    content: bytes


@dataclass(frozen=True)
class Sync:
    """A file or a folder is synced."""

    thing: int


Operation = Change | Write | Sync


@dataclass
class Record:
    """What there was, and what was done to it. Thing 0 is the root."""

    names: dict[int, dict[str, int]]
    data: dict[int, bytes]
    operations: list[Operation] = field(default_factory=list)


class Lost(AssertionError):
    """Something is gone that had been renamed into its place and synced."""


class Recorder:
    """Records what this process does below a folder, from its making on, until it ends.

    Before each call that could change a name, and before each sync, the folder is read and compared
    with what it was at the last one. So whatever wrote into it is in the record, also what went
    round Python; two changes between two calls are an error, as then a call was missed.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._ids, self._count = root, {root.stat().st_ino: 0}, 0
        names, data = self._read()
        self.record = Record(names, data)
        self._names, self._data = names, data
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._syncing(getattr(os, name)))
        sys.addaudithook(self._watch)

    def look(self) -> None:
        """Records what has happened since the last look."""
        names, data = self._read()
        new = [(file, held) for file, held in data.items() if self._data.get(file) != held]
        self.record.operations += [Write(file, content) for file, content in new]
        self.record.operations += self._changes(self._names, names)
        self._names, self._data = names, data

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _TICKS or (event == "open" and (arguments[2] or 0) & _WRITES):
            self.look()

    def _syncing(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def recorded(descriptor: int) -> None:
            self.look()
            sync(descriptor)
            thing = self._ids.get(os.fstat(descriptor).st_ino)
            if thing is not None:
                self.record.operations.append(Sync(thing))

        return recorded

    def _read(self) -> tuple[dict[int, dict[str, int]], dict[int, bytes]]:
        names: dict[int, dict[str, int]] = {}
        data: dict[int, bytes] = {}
        there = {self._root.stat().st_ino}
        for folder, folders, files in os.walk(self._root):
            inner = names[self._ids[Path(folder).stat().st_ino]] = {}
            for name in (*folders, *files):
                number = Path(folder, name).lstat().st_ino
                there.add(number)
                if number not in self._ids:
                    self._count += 1
                    self._ids[number] = self._count
                inner[name] = self._ids[number]
            for name in files:
                data[inner[name]] = Path(folder, name).read_bytes()
        self._ids = {number: thing for number, thing in self._ids.items() if number in there}
        return names, data

    @staticmethod
    def _changes(
        before: Mapping[int, Mapping[str, int]], now: Mapping[int, Mapping[str, int]]
    ) -> list[Change]:
        """Returns the one change between two looks, or its two halves, or none."""
        gone: list[tuple[int, str, int]] = []
        new: list[tuple[int, str, int]] = []
        for folder in before.keys() | now.keys():
            old, names = before.get(folder, {}), now.get(folder, {})
            gone += [(folder, n, t) for n, t in old.items() if names.get(n) is None]
            new += [(folder, n, t) for n, t in names.items() if old.get(n) != t]
        match gone, new:
            case [], []:
                return []
            case [], [(folder, name, thing)]:
                return [Change(folder, {name: thing})]
            case [(folder, name, _)], []:
                return [Change(folder, {name: None})]
            case [(folder, name, thing)], [(target, other, moved)] if thing == moved:
                if folder == target:
                    return [Change(folder, {name: None, other: thing})]
                added = Change(target, {other: thing})
                return [added, Change(folder, {name: None}, added)]
        raise AssertionError(f"A call was missed: {gone} went, {new} came.")


class Disk:
    """A folder as everybody sees it, and what of it is on the disk for certain."""

    def __init__(self, record: Record) -> None:
        self.names = {folder: dict(names) for folder, names in record.names.items()}
        self.data = dict(record.data)
        self._safe_names = {folder: dict(names) for folder, names in record.names.items()}
        self._safe_data = dict(record.data)
        self._pending: dict[int, list[Change]] = {}
        self._written: dict[int, list[bytes]] = {}
        self._kept: Tree = {}

    def do(self, operation: Operation) -> None:
        """Does one operation."""
        if isinstance(operation, Change):
            _apply(operation, self.names)
            self._pending.setdefault(operation.folder, []).append(operation)
        elif isinstance(operation, Write):
            self.data[operation.file] = operation.content
            self._written.setdefault(operation.file, []).append(operation.content)
        else:
            self._sync(operation.thing)
        now = self.tree()
        self._kept = {p: c for p, c in self._kept.items() if p in now and now[p] == c}

    def _sync(self, thing: int) -> None:
        if thing in self._written:
            self._safe_data[thing] = self._written.pop(thing)[-1]
        moved = [c for c in self._pending.pop(thing, []) for c in (c.after, c) if c is not None]
        for change in moved:
            _apply(change, self._safe_names)
            others = self._pending.get(change.folder, [])
            self._pending[change.folder] = [other for other in others if other is not change]
        paths = dict(_walk(0, self.names, ""))
        for change in moved:
            for name, new in change.names.items():
                if new is not None and len(change.names) == 2 and name[0] != ".":
                    place = f"{paths[change.folder]}/{name}" if change.folder else name
                    self._kept |= {
                        path: content
                        for path, content in self.tree().items()
                        if path == place or path.startswith(f"{place}/")
                    }

    def tree(self) -> Tree:
        """Returns the folder as everybody sees it."""
        return _tree(self.names, self.data)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to chance."""
        return not self._written and not any(self._pending.values())

    def crash(self, dice: random.Random) -> Tree:
        """Returns what a power cut may leave.

        Raises:
            Lost: what was renamed into its place, and synced with its folder, is not there.
        """
        names = {folder: dict(inner) for folder, inner in self._safe_names.items()}
        pending = [change for changes in self._pending.values() for change in changes]
        likely = {folder: dice.choice((0.0, 0.5, 0.5, 1.0)) for folder in self._pending}
        done = [change for change in pending if dice.random() < likely[change.folder]]
        for change in done:
            if (
                change.after is None
                or _among(change.after, done)
                or not _among(change.after, pending)
            ):
                _apply(change, names)
        data = {file: self._safe_data.get(file, b"") for file in self.data}
        for file, contents in self._written.items():
            data[file] = _torn(data[file], contents, dice)
        tree = _tree(names, data)
        for path, content in self._kept.items():
            if path not in tree or tree[path] != content:
                raise Lost(path)
        return tree


def _apply(change: Change, names: dict[int, dict[str, int]]) -> None:
    inner = names.setdefault(change.folder, {})
    for name, thing in change.names.items():
        inner.pop(name, None)
        if thing is not None:
            inner[name] = thing


def _among(change: Change, changes: Sequence[Change]) -> bool:
    return any(other is change for other in changes)


def _walk(
    folder: int, names: Mapping[int, Mapping[str, int]], path: str
) -> Iterator[tuple[int, str]]:
    for name, thing in names.get(folder, {}).items():
        yield thing, path + name
        yield from _walk(thing, names, f"{path}{name}/")


def _tree(names: Mapping[int, Mapping[str, int]], data: Mapping[int, bytes]) -> Tree:
    return {path: data.get(thing) for thing, path in _walk(0, names, "")}


def _torn(safe: bytes, contents: Sequence[bytes], dice: random.Random) -> bytes:
    """Returns what may be on the disk of a file that was written and not synced."""
    new = dice.choice(contents)
    grows = new.startswith(safe)  # then what was there stays
    kind = dice.choice(("old", "new", "zeros", "cut", "cut", *["sectors"] * 3))
    if kind == "old":
        return safe
    if kind == "cut":
        return new[: dice.randint(len(safe) if grows else 0, len(new))]
    if kind == "sectors":
        old = safe.ljust(len(new), b"\0")
        sources = (new, old, bytes(len(new)))[: 2 if grows else 3]
        starts = range(0, len(new), _SECTOR)
        new = b"".join(dice.choice(sources)[at : at + _SECTOR] for at in starts)
    if kind == "zeros":
        new = bytes(len(new))
    return safe + new[len(safe) :] if grows else new


def states(record: Record, draws: int, seed: int = 0) -> Iterator[Tree]:
    """Yields what power cuts before, between and after all operations may leave.

    Args:
        record: of a process.
        draws: how often chance is asked at each moment at which it has a say.
        seed: of chance.
    """
    disk, dice = Disk(record), random.Random(seed)
    yield disk.crash(dice)
    for operation in record.operations:
        disk.do(operation)
        for _ in range(1 if disk.settled else draws):
            yield disk.crash(dice)


def read(root: Path) -> Tree:
    """Returns all that is below a folder."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
    }


def write(tree: Tree, root: Path) -> None:
    """Makes a folder hold this and nothing else."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for path in sorted(tree):
        content = tree[path]
        (root / path).mkdir() if content is None else (root / path).write_bytes(content)


def digest(tree: Tree) -> bytes:
    """Returns what tells one state from another."""
    sha = hashlib.sha256()
    for path, content in sorted(tree.items()):
        inner = b"" if content is None else hashlib.sha256(content).digest()
        sha.update(path.encode() + b"\0" + inner)
    return sha.digest()
