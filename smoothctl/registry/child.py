"""The child process that imports entries one after another and writes down how each one went."""

import json
import os
import sys
from contextlib import suppress
from importlib.metadata import EntryPoint
from typing import Any, NoReturn

from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Entry, Fault, reason

__all__ = ["READY", "main"]

READY = "ready"
"""First line of the log: smoothctl itself is imported, and what happens now is the plugins'."""


def main(asked: dict[str, Any]) -> NoReturn:
    """Imports what is asked for and ends the process, whatever the plugins left running in it.

    Args:
        asked: "log", the file to write to; "package" and "version"; "entries", the (group, name,
            value) of each one.
    """
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for group in sorted({group for group, _, _ in asked["entries"]}):
        REGISTRIES[group].contract()
    _write(log, READY)
    for group, name, value in asked["entries"]:
        point = EntryPoint(name=name, value=value, group=group)
        _write(log, _try(group, Entry(name, asked["package"], asked["version"], point)))
    os._exit(0)


def _try(group: str, entry: Entry) -> dict[str, Any]:
    """Returns how the import of one entry went."""
    before, fault = _printed(), None
    try:
        REGISTRIES[group].resolve(entry, sys.stdout)
    except Fault as error:
        fault = str(error)
    except BaseException as error:
        fault = f"cannot be imported ({reason(error)})"
    return {"fault": fault, "noisy": _printed() != before}


def _printed() -> int:
    """Returns how many bytes stdout, which is a file, holds; -1 if a plugin closed it."""
    with suppress(Exception):
        sys.stdout.flush()
        return os.fstat(1).st_size
    return -1


def _write(log: int, line: Any) -> None:
    os.write(log, (json.dumps(line) + "\n").encode())
