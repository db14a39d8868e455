"""Out of memory: fewer rows in a pass, and more passes."""

import socket
from collections.abc import Callable
from typing import TypeVar

from accelerate.utils import find_executable_batch_size
from accelerate.utils.memory import should_reduce_batch_size

from smoothctl.distributed.processes import Processes
from smoothctl.errors import TrainingError

__all__ = ["Room"]

T = TypeVar("T")


class Room:
    """How many rows a pass may take: halved whenever memory runs out, for the rest of the run.

    Of several processes each would have to halve at once, so there it is an error.

    Args:
        rows: at the start.
        accumulate: the parts that a step is split into, for the message.
        processes: those that share a step.
        note: told a sentence where rows are halved.
    """

    def __init__(
        self, rows: int, accumulate: int, processes: Processes, note: Callable[[str], None]
    ) -> None:
        self.rows, self.accumulate = rows, accumulate
        self.processes, self.note = processes, note

    def within(self, work: Callable[[int], T]) -> T:
        """Returns what the work gives, begun again with half the rows until it fits.

        Args:
            work: takes the number of rows, and can be begun again.

        Raises:
            TrainingError: one row does not fit, or another process shares the step.
        """
        try:
            return work(self.rows)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            self._check_alone(error)
        rows = self.rows
        result = self._halved(work)
        self.note(
            f"Out of memory with {rows} examples in a pass: goes on with {self.rows}, which add up "
            f"to the same steps; --set training.accumulate={self.accumulate * rows // self.rows} "
            "says so from the start."
        )
        return result

    def _halved(self, work: Callable[[int], T]) -> T:
        def halve() -> int:
            self.rows //= 2
            if self.rows == 0:
                raise TrainingError(
                    "Out of memory with a single example: take a smaller model or another device."
                )
            return self.rows

        found: Callable[[], T] = find_executable_batch_size(work, halve(), halve)
        return found()

    def _check_alone(self, error: RuntimeError) -> None:
        if self.processes.count > 1:
            raise TrainingError(
                f"Process {self.processes.index} on {socket.gethostname()} is out of memory with "
                f"{self.rows} examples in a pass: --set training.accumulate={2 * self.accumulate} "
                "takes half as many, for the same steps."
            ) from error
