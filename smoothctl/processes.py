"""The processes of one launch: which of them this is, and sums over all of them."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor

from smoothctl.errors import TrainingError

__all__ = ["ALONE", "Processes", "check_launch", "is_first", "launched"]

T = TypeVar("T")

_PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others, whose network may be gone, before it gives up."""


@dataclass(frozen=True)
class Processes:
    """This process among those that `accelerate launch` started.

    Args:
        index: its number, from 0.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that draws, prints and writes."""
        return self.index == 0

    def span(self, total: int) -> tuple[int, int]:
        """Returns (start, stop) of this process's share of `total` rows; all shares are one cut."""
        return self.index * total // self.count, (self.index + 1) * total // self.count

    def total(self, tensor: Tensor) -> Tensor:
        """Returns the sum over all processes, which every one of them must call for."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def first(self, value: T) -> T:
        """Returns the first process's value; every one of them must call for it."""
        values = [value]
        if self.count > 1:
            torch.distributed.broadcast_object_list(values)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Returns the values of all processes by index; every one of them must call for them."""
        values = [value] * self.count
        if self.count > 1:
            torch.distributed.all_gather_object(values, value)
        return values


ALONE = Processes()
"""One process by itself."""


def is_first() -> bool:
    """Returns whether this is the process that prints and writes, before they see each other."""
    return os.environ.get("RANK", "0") == "0"


def check_launch(seen: int) -> None:
    """Checks that the processes of a launch see each other.

    Args:
        seen: how many this one believes there are.

    Raises:
        TrainingError: the launcher started more.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != seen:
        raise TrainingError(
            f"The launcher started {started} processes, but each believes that it is one of "
            f"{seen}; on CPUs set ACCELERATE_USE_CPU=true and launch with "
            f"--multi_gpu --num_processes {started}."
        )


def launched(device: str) -> Processes:
    """Returns this process among those of the launch, which then see each other.

    Args:
        device: "auto" (what Accelerate finds) or "cpu".

    Raises:
        TrainingError: several were started that do not see each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    check_launch(state.num_processes)
    return Processes(state.process_index, state.num_processes)
