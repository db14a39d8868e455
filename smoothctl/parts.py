"""What long work has given so far, part by part on disk, so that work that was stopped goes on."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from smoothctl.errors import RunError
from smoothctl.files import read_weights, remove, write_weights
from smoothctl.processes import ALONE, Processes

__all__ = ["NOWHERE", "Parts"]

_PART = "{}.safetensors"


class Parts:
    """Results of named parts of one piece of work, kept in a folder until the work is done.

    Args:
        folder: where they are; None keeps nothing.
        key: what the results are a function of; parts of another key are removed.
        note: told a sentence of parts that cannot be used.
        processes: those that do the work; the first alone reads and writes.
    """

    def __init__(
        self,
        folder: Path | None,
        key: Mapping[str, Any] | None = None,
        note: Callable[[str], None] = lambda _: None,
        processes: Processes = ALONE,
    ) -> None:
        self.folder, self.note, self.processes = folder, note, processes
        self.key = json.loads(json.dumps(key))

    def part(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Returns a part: from disk where it is, else computed, and kept.

        All processes must call it alike, and `compute` must give all of them the whole result.

        Args:
            name: of the part, a file's name.
            compute: makes the part; its tensors come back on the CPU where they were kept.

        Raises:
            RunError: the folder cannot be written.
        """
        if self.folder is None:
            return compute()
        first = self.processes.is_first
        found = self.processes.first(self._read(name) if first else None)
        if found is not None:
            return found
        found = compute()
        if first:
            write_weights(self._file(name), found, {"format": 1, "part": name, "key": self.key})
        return found

    def done(self) -> None:
        """Removes the parts, as the whole has been written."""
        if self.folder is not None and self.processes.is_first:
            remove(self.folder)

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / _PART.format(name)

    def _read(self, name: str) -> dict[str, Tensor] | None:
        file = self._file(name)
        if not file.is_file():
            return None
        try:
            tensors, metadata = read_weights(file)
            if metadata.get("part") != name or metadata.get("key") != self.key:
                raise RunError(f"{file} is of other work.")
        except RunError as error:
            self.note(f"Does a part again: {error}")
            return None
        return tensors


NOWHERE = Parts(None)
"""Keeps nothing."""
