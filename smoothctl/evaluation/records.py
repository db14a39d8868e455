"""Figures as files: what scores.json holds, how it is read, and how an entry is added."""

import math
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl.errors import RunError
from smoothctl.storage.files import (
    check_inside,
    read_json,
    remove,
    said_without_folders,
    write_json,
)
from smoothctl.storage.locks import hold

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["SCORES", "append_scores", "plain", "read_scores", "stamp"]

SCORES = "scores.json"
"""A run's figures, oldest first."""

_LARGEST = 2**24
_MOST_ENTRIES = 10_000
_REMEDY = "move it away and score again"
_ENTRY = {
    **dict.fromkeys(("quality", "not_available", "sampler", "versions", "gain", "annealing"), dict),
    **dict.fromkeys(("limit", "quadrature", "samples_each", "seed"), int),
}
_ESTIMATE = {"examples": int}
_QUALITY = {"rows": list, "not_available": dict, "warnings": list}
_PACKAGES = ("torch", "numpy", "pillow", "clean-fid")
"""What figures depend on."""


def plain(result: "DataclassInstance") -> dict[str, Any]:
    """Returns the values of a result for JSON; figures that are not finite become null."""
    values: dict[str, Any] = _finite(asdict(result))
    return values


def stamp() -> dict[str, Any]:
    """Returns when and with what versions figures are made."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": now, "smoothctl": version("smoothctl"), "versions": _versions()}


def append_scores(run: Path, entry: Mapping[str, Any]) -> None:
    """Adds an entry to the run's scores.json; earlier ones, and those of other processes, stay.

    Raises:
        RunError: the file is there but is no list of scores, or cannot be written.
    """
    with hold(run / f".{SCORES}.lock", str(run / SCORES), wait=True):
        for leftover in run.glob(f".{SCORES}.*.tmp"):
            remove(leftover)
        write_json(run / SCORES, [*read_scores(run), _shareable(entry)])


def read_scores(run: Path) -> list[Mapping[str, Any]]:
    """Reads a run's scores.json, oldest first; none where there is no file.

    Raises:
        RunError: it is no list of scores.
    """
    file = check_inside(run / SCORES, run)
    there = os.path.lexists(file)
    entries = read_json(file, _LARGEST, _REMEDY) if there else []
    if (
        not isinstance(entries, list)
        or len(entries) > _MOST_ENTRIES
        or not all(map(_is_entry, entries))
    ):
        raise RunError(f"{file} holds no list of scores: {_REMEDY}.")
    return entries


def _is_entry(entry: Any) -> bool:
    """Returns whether what an entry has of our keys is of the right kind."""
    return (
        _is_of(_ENTRY, entry)
        and all(isinstance(entry.get(key, []), list) for key in ("likelihood", "samples"))
        and all(_is_of(_ESTIMATE, item) for item in entry.get("likelihood", []))
        and all(_is_of({}, item) for item in entry.get("samples", []))
        and _is_of(_QUALITY, entry.get("quality") or {})
        and all(_is_of({}, row) for row in (entry.get("quality") or {}).get("rows") or [])
    )


def _is_of(kinds: Mapping[str, type], values: Any) -> bool:
    """Returns whether values are a table whose known keys are of these kinds, or null."""
    return isinstance(values, dict) and all(
        isinstance(values.get(key), kind | None) for key, kind in kinds.items()
    )


def _versions() -> dict[str, str]:
    """Returns the versions of Python and, as far as they are installed, of _PACKAGES."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _shareable(value: Any) -> Any:
    """Returns an entry whose reasons name no folder of this machine."""
    if isinstance(value, Mapping):
        return {key: _shareable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shareable(item) for item in value]
    return said_without_folders(value) if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
