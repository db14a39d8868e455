"""The errors that a user can cause, each one sentence that says what, where and what to do."""

import json
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "DataError",
    "Interrupted",
    "NotAvailable",
    "RunError",
    "SmoothctlError",
    "TrainingError",
    "UsageError",
    "escaped",
    "near_misses",
]


class SmoothctlError(Exception):
    """Base of all errors that are reported as one sentence; `exit_code` is the process's."""

    exit_code = 1


class UsageError(SmoothctlError):
    """The command or the call asks for something that does not exist or makes no sense."""

    exit_code = 2


class NotAvailable(SmoothctlError):
    """The quantity has no usable form for this model, kernel or dataset; the message says why."""


class DataError(SmoothctlError):
    """A dataset is missing, empty, malformed or holds values that are not finite."""


class RunError(SmoothctlError):
    """A run folder or one of its files is missing, damaged, foreign or in the way."""


class TrainingError(SmoothctlError):
    """Training cannot go on: a loss or gradient is not finite, or the processes do not fit."""


class Interrupted(SmoothctlError):
    """A signal stopped the work after it was saved.

    Args:
        message: one sentence that says what was saved and how to go on.
        signum: the signal's number; the process exits with 128 + signum.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


def escaped(text: str) -> str:
    """Returns text as one line that changes nothing but what is read, whoever wrote it.

    What is no letter, mark, sign or space, such as a control character, one that turns the
    direction of writing, or half a character, stands as JSON writes it: \\u001b.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return json.dumps(character)[1:-1]


def near_misses(name: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean …?' or ' Known: …' for a name that is not among the known ones."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(known) if known else 'none'}"
