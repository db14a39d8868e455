"""What long work has given so far, part by part on disk, so that work that was stopped goes on."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.errors import RunError
from smoothctl.storage.files import remove
from smoothctl.storage.weights import read_weights, write_weights

__all__ = ["PartialResults"]

_PART = "{}.safetensors"


class PartialResults:
    """Results of named parts of one piece of work, kept in a folder until the work is done.

    Every part is a file that appears when it is whole, and that names itself and the work's key,
    so that a kill at any moment loses at most the part that was being computed.

    Args:
        folder: where they are.
        key: what the results are a function of; parts of another key are removed.
        note: told a sentence of parts that cannot be used.
        processes: those that do the work; the first alone reads and writes.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any] | None = None,
        note: Callable[[str], None] = lambda _: None,
        processes: Processes = ALONE,
    ) -> None:
        self.folder, self.note, self.processes = folder, note, processes
        self.key = json.loads(json.dumps(key))

    def get(self, name: str) -> dict[str, Tensor] | None:
        """Returns a part from disk, its tensors on the CPU; None where it is not there.

        All processes must call it alike, and all get what the first one reads.
        """
        return self.processes.first(self._read(name) if self.processes.is_first else None)

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keeps a part, of which the first process must have the whole.

        Raises:
            RunError: the folder cannot be written.
        """
        if self.processes.is_first:
            write_weights(self._file(name), tensors, {"format": 1, "part": name, "key": self.key})

    def mark(self, name: str) -> None:
        """Keeps an empty part, as a sign that the work came so far.

        Raises:
            RunError: the folder cannot be written.
        """
        self.put(name, {})

    def has(self, name: str) -> bool:
        """Returns whether a part is there and usable; nothing is said or removed."""
        metadata = self._load(name)[1]
        return (metadata.get("part"), metadata.get("key")) == (name, self.key)

    def names(self) -> list[str]:
        """Returns the names of the parts that there seem to be, sorted."""
        return sorted(file.stem for file in self.folder.glob(_PART.format("[!.]*")))

    def done(self) -> None:
        """Removes the parts, as the whole has been written."""
        if self.processes.is_first:
            remove(self.folder)

    def _file(self, name: str) -> Path:
        return self.folder / _PART.format(name)

    def _read(self, name: str) -> dict[str, Tensor] | None:
        """Returns a part if it can be used, and says why not."""
        file = self._file(name)
        if not file.is_file():
            return None
        tensors, metadata = self._load(name)
        if metadata.get("part") != name:
            self.note(f"Does a part again, as its file is damaged: {file}.")
        elif metadata.get("key") != self.key:
            self.note(f"Starts anew: {self.folder} is of other weights, versions or settings.")
            self.done()
        else:
            return tensors
        return None

    def _load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns tensors and metadata of a part; none of one that is damaged."""
        try:
            return read_weights(self._file(name))
        except RunError:
            return {}, {}
