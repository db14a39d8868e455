"""Where this user's data lie: remembered outside run folders, which may be given to others.

A run names its data and their SHA-256, and never a place. What stands in a run folder is data and
no order: its files are looked for where the user of this machine has said that they are, and a host
is asked only for a dataset that the user has named.
"""

import os
from contextlib import suppress
from pathlib import Path

from smoothctl.errors import RunError
from smoothctl.storage.files import read_text, write_bytes

__all__ = ["recall", "remember"]

_LONGEST = 2**13
"""Bytes of a path, and more."""


def remember(sha256: str | None, place: str) -> None:
    """Keeps where data lie, for the verbs that open them later.

    Args:
        sha256: the data's fingerprint; None: they have none, and nothing is kept.
        place: an absolute path, the name of a dataset, or an id on the Hugging Face hub.

    Raises:
        RunError: it cannot be written.
    """
    file = _file(sha256)
    if file is not None and recall(sha256) != place:
        write_bytes(file, place.encode())


def recall(sha256: str | None) -> str | None:
    """Returns where data lay when they were last named on this machine; None if they were not."""
    file = _file(sha256)
    if file is not None:
        with suppress(RunError):
            return read_text(file, _LONGEST)
    return None


def _file(sha256: str | None) -> Path | None:
    """Returns the file of a fingerprint: one each, so that writers do not meet."""
    if sha256 is None or not (sha256.isalnum() and sha256.isascii()):
        return None
    given = os.environ.get("XDG_STATE_HOME")
    try:
        home = Path(given) if given else Path.home() / ".local" / "state"
    except RuntimeError:  # a user without a home
        return None
    return home / "smoothctl" / "places" / sha256[:64]
