"""Figures as files: what scores.json holds, how it is read, and how an entry is added."""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl import __version__
from smoothctl.errors import RunError
from smoothctl.files import write_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["SCORES", "append_scores", "plain", "read_scores", "stamp"]

SCORES = "scores.json"
"""A run's figures, oldest first."""

_PACKAGES = ("torch", "numpy", "pillow", "clean-fid")


def plain(result: "DataclassInstance") -> dict[str, Any]:
    """Returns the values of a result for JSON; figures that are not finite become null."""
    values: dict[str, Any] = _finite(asdict(result))
    return values


def stamp() -> dict[str, Any]:
    """Returns when and with what versions figures are made."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": now, "smoothctl": __version__, "versions": _versions()}


def append_scores(run: Path, entry: Mapping[str, Any]) -> None:
    """Adds an entry to the run's scores.json; earlier ones stay.

    Raises:
        RunError: the file is there but is no list of scores, or cannot be written.
    """
    write_json(run / SCORES, [*read_scores(run), entry])


def read_scores(run: Path) -> list[Mapping[str, Any]]:
    """Reads a run's scores.json, oldest first; none where there is no file.

    Raises:
        RunError: it is no list of scores.
    """
    file = run / SCORES
    try:
        entries = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}): move it away and score again.") from error
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise RunError(f"{file} holds no list of scores: move it away and score again.")
    return entries


def _is_entry(entry: Any) -> bool:
    """Returns whether what an entry has of our keys is of the right kind."""
    if not isinstance(entry, dict):
        return False
    kinds = {"likelihood": list, "samples": list, "quality": dict, "not_available": dict}
    if not all(isinstance(entry.get(key, kind()), kind | None) for key, kind in kinds.items()):
        return False
    items = [*(entry.get("likelihood") or []), *(entry.get("samples") or [])]
    return all(isinstance(item, dict) for item in items)


def _versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
