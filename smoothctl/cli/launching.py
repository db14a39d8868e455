"""What a verb does in each of several processes that a launcher started."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from smoothctl.distributed.processes import is_first, started
from smoothctl.errors import UsageError

__all__ = ["by_first", "by_one"]

Command = Callable[..., Any]


def by_first(command: Command) -> Command:
    """Returns a verb that the first process does; the others have nothing to do."""

    @wraps(command)
    def done_by_first(*arguments: Any, **options: Any) -> Any:
        return command(*arguments, **options) if is_first() else None

    return done_by_first


def by_one(command: Command) -> Command:
    """Returns a verb that refuses to run beside other processes of a launch."""

    @wraps(command)
    def done_by_one(*arguments: Any, **options: Any) -> Any:
        if started() > 1:
            raise UsageError(
                f"'{command.__module__.rpartition('.')[2]}' does many things in turn and shares "
                "none of them: run it in one process, without the launcher."
            )
        return command(*arguments, **options)

    return done_by_one
