"""Files that a user names by a folder or a glob: the search has a bound, and leaves nothing out."""

import os
import re
import stat
from collections.abc import Iterator
from fnmatch import translate
from glob import has_magic
from pathlib import Path

from smoothctl.datasets.base import Note
from smoothctl.errors import DataError

__all__ = ["MOST_ENTRIES", "MOST_MATCHES", "is_folder", "listed"]

MOST_ENTRIES = 10_000_000
"""Files and folders that a search looks at."""

MOST_MATCHES = 100_000
"""Files that a glob may match: it is for tables, each of which holds many images."""

_LEFT_OUT = (".", "__MACOSX")


def is_folder(name: str) -> bool | None:
    """Returns whether a name is of a folder, rather than of a file; None where nothing is there.

    Raises:
        DataError: it cannot be looked at, or is a pipe or a device, which would keep its reader
            waiting.
    """
    try:
        mode = Path(name).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no path at all
        return None
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}).") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise DataError(f"{name} is no plain file: name a file or a folder.")
    return stat.S_ISDIR(mode)


def listed(name: str, note: Note | None = None) -> list[Path]:
    """Returns the files that a name means, in no order.

    Args:
        name: a folder, for what is in it at any depth but hidden; a file; or a glob, in which **
            is folders at any depth. Links to folders below these are not followed.
        note: told of folders that cannot be read; they are an error if None.

    Raises:
        DataError: nothing is called so; a folder cannot be read; or there is far too much in it.
    """
    search, folder = _Search(name, note), is_folder(name)
    if folder:
        return list(search.below(Path(name)))
    if folder is False:
        return [Path(name)]
    matches = search.matching(Path(name).parts) if has_magic(name) else []
    if not matches:
        raise DataError(f"There is no file or folder {name}.")
    return matches


class _Search:
    """Looks at one entry of a folder after another, up to a bound."""

    def __init__(self, name: str, note: Note | None) -> None:
        self._name, self._note, self._seen = name, note, 0
        self._left_out: set[Path] = set()

    def below(self, folder: Path) -> Iterator[Path]:
        """Yields the files of a folder at any depth."""
        folders = [folder]
        while folders:
            for entry in self._entries(folders.pop()):
                if entry.name.startswith(_LEFT_OUT):
                    continue
                if not _leads_to_folder(entry):
                    yield Path(entry.path)
                elif not entry.is_symlink():
                    folders.append(Path(entry.path))

    def matching(self, parts: tuple[str, ...]) -> list[Path]:
        """Returns what matches a glob that is given by its parts."""
        parts = (*parts, "*") if parts[-1] == "**" else parts
        found: set[Path] = set()
        begun = [(Path(), 0)]
        while begun:
            path, done = begun.pop()
            for inner, step in self._next(path, parts[done:]):
                if done + step < len(parts):
                    begun.append((inner, done + step))
                    continue
                found.add(inner)
                if len(found) > MOST_MATCHES:
                    raise DataError(
                        f"{self._name} matches more than {MOST_MATCHES:,} files: name a folder."
                    )
        return list(found)

    def _next(self, path: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, int]]:
        """Yields what the first of the parts makes of a path, and how many parts that takes."""
        part, last, deep = parts[0], len(parts) == 1, parts[0] == "**"
        if not has_magic(part):
            if self._is_there(path / part):
                yield path / part, 1
            return
        if deep:
            yield path, 1
        matches = re.compile(translate(part)).match
        for entry in self._entries(path):
            hidden = entry.name.startswith(".") and not part.startswith(".")
            wanted = last or (_leads_to_folder(entry) and not (deep and entry.is_symlink()))
            if wanted and not hidden and matches(entry.name):
                yield path / entry.name, 1 - deep

    def _entries(self, folder: Path) -> Iterator["os.DirEntry[str]"]:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._seen += 1
                    if self._seen > MOST_ENTRIES:
                        raise DataError(
                            f"{self._name} leads to more than {MOST_ENTRIES:,} files and folders: "
                            "name a smaller part of them."
                        )
                    yield entry
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._leave_out(folder, error)

    def _is_there(self, path: Path) -> bool:
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._leave_out(path, error)
            return False
        return True

    def _leave_out(self, path: Path, error: OSError) -> None:
        """Says that what a path leads to is left out.

        Raises:
            DataError: nothing may be.
        """
        said = f"{path} cannot be read ({error.strerror})"
        if self._note is None:
            raise DataError(
                f"{said}: get the right to read it, or leave it out with `skip_corrupt`."
            ) from error
        if path not in self._left_out:
            self._left_out.add(path)
            self._note(f"Leaves out what is in {path}: it cannot be read ({error.strerror}).")


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    """Returns whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False
