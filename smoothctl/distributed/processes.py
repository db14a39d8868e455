"""The processes of one launch: which of them this is, and what they tell each other.

Accelerate takes seconds to import, so that one process by itself does without it.
"""

import os
import socket
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from smoothctl.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ALONE",
    "PATIENCE",
    "Processes",
    "check_launch",
    "check_variables",
    "end",
    "is_first",
    "joined",
    "launched",
    "leave",
    "lost",
    "patience",
    "started",
    "this_process",
]

T = TypeVar("T")

PATIENCE = "SMOOTHCTL_PATIENCE"
"""Environment variable: seconds that a process waits for the others before it gives up."""

_SECONDS = 600.0

_VARIABLES = {
    "WORLD_SIZE": range(1, 2**31),
    "RANK": range(2**31),
    "LOCAL_RANK": range(-1, 2**31),
    "MASTER_PORT": range(2**16),
}
"""What a launcher sets -> the numbers that it may be; −1: there was no launcher."""

_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection was likely closed",
    "Broken pipe",
    "No route to host",
    "Network is unreachable",
    "Timed out waiting",
    "Timed out after",
    "socket has timed out",
    "Socket Timeout",
    "Wait timeout",
    "wait timeout",
    "timeout caused pair closure",
    "ncclRemoteError",
    "ncclSystemError",
    "communicator was aborted",
    "collective operation timeout",
)
"""What gloo, NCCL and torch's store say when another process is gone."""


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

    @property
    def name(self) -> str:
        """What messages begin with: 'Process 1 on HOST'."""
        return f"Process {self.index} on {socket.gethostname()}"

    def span(self, total: int) -> tuple[int, int]:
        """Returns (start, stop) of this process's share of `total` rows; all shares are one cut."""
        return self.index * total // self.count, (self.index + 1) * total // self.count

    def total(self, tensor: "Tensor") -> "Tensor":
        """Returns the sum over all processes, which every one of them must call for."""
        if self.count == 1:
            return tensor
        from accelerate import PartialState
        from accelerate.utils import reduce

        total: Tensor = reduce(tensor.to(PartialState().device), "sum")
        return total.to(tensor.device)

    def first(self, value: T) -> T:
        """Returns the first process's value; every one of them must call for it."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        values: list[T] = broadcast_object_list([value])
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Returns the values of all processes by index; every one of them must call for them."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        values: list[T] = gather_object([value])
        return values


ALONE = Processes()
"""One process by itself."""


def is_first() -> bool:
    """Returns whether this is the process that prints and writes, before they see each other."""
    return started() == 1 or _number("RANK", 0) == 0


def started() -> int:
    """Returns how many processes the launcher started; 1 without a launcher."""
    return max(1, _number("WORLD_SIZE", 1))


def this_process() -> str:
    """Returns such as 'process 1 on HOST', for messages."""
    return f"process {_number('RANK', 0)} on {socket.gethostname()}"


def check_variables() -> None:
    """Checks the numbers that a launcher puts into the environment.

    Raises:
        UsageError: one is no such number.
    """
    for name, numbers in _VARIABLES.items():
        text = os.environ.get(name)
        if text is not None and _number(name, numbers.stop) not in numbers:
            raise UsageError(
                f"The environment variable {name} is '{text}' and must be a number that a launcher "
                "sets: unset it."
            )
    if started() > 1 and _number("RANK", 0) >= started():
        raise UsageError(
            f"The environment variable RANK is {_number('RANK', 0)}, and the processes of "
            f"WORLD_SIZE={started()} begin at 0: unset both, or start 'accelerate launch'."
        )


def _number(variable: str, otherwise: int) -> int:
    """Returns what the environment says; of no number `check_variables` tells."""
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):
        return otherwise


def patience() -> timedelta:
    """Returns how long a process waits for the others, whose host may be gone.

    Raises:
        UsageError: the environment says something else than a positive number.
    """
    text = os.environ.get(PATIENCE, str(_SECONDS))
    try:
        seconds = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        seconds = timedelta()
    if seconds <= timedelta():
        raise UsageError(f"{PATIENCE} is a positive number of seconds, not '{text}'.")
    return seconds


def lost(error: BaseException | None) -> bool:
    """Returns whether an error says that another process has ended or cannot be reached.

    Args:
        error: raised by something that all processes do together.
    """
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _LOST)


def check_launch(seen: int) -> None:
    """Checks that the processes of a launch see each other.

    Args:
        seen: how many this one believes there are.

    Raises:
        TrainingError: the launcher started more.
    """
    if started() != seen:
        raise TrainingError(
            f"The launcher started {started()} processes, but {this_process()} believes that it is "
            f"one of {seen}, as it sees no GPU (nvidia-smi and CUDA_VISIBLE_DEVICES say why); on "
            "CPUs set ACCELERATE_USE_CPU=true on every host and launch with "
            f"--multi_gpu --num_processes {started()}."
        )


def launched(device: str) -> Processes:
    """Returns this process among those of the launch, which then see each other.

    Args:
        device: "auto" (what Accelerate finds) or "cpu".

    Raises:
        TrainingError: several were started that do not see or cannot reach each other.
        UsageError: the environment says something else than numbers.
    """
    check_variables()
    if started() == 1:
        return ALONE
    if "MASTER_ADDR" not in os.environ:
        raise TrainingError(
            f"WORLD_SIZE={started()} says that there are other processes, but not MASTER_ADDR "
            "where: start them with 'accelerate launch', or unset WORLD_SIZE."
        )
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = device == "cpu" or bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    _check_gpus(cpu)
    try:
        state = PartialState(cpu=cpu, timeout=patience())
    except RuntimeError as error:
        if not lost(error):
            raise
        raise TrainingError(
            f"Not all {started()} processes met within {patience().total_seconds():g} seconds "
            f"({PATIENCE}): start the launcher on every host, check --main_process_ip, and name "
            "the network between them in GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME."
        ) from error
    check_launch(state.num_processes)
    return Processes(state.process_index, state.num_processes)


def _check_gpus(cpu: bool) -> None:
    """Checks that there is a GPU for this process, where there are any.

    Raises:
        TrainingError: more processes were started on this host than it has GPUs.
    """
    import torch

    count, index = torch.cuda.device_count(), _number("LOCAL_RANK", 0)
    if not cpu and 0 < count <= index:
        raise TrainingError(
            f"No GPU is left for {this_process()}, which has {count} (CUDA_VISIBLE_DEVICES may "
            "hide others): launch as many processes on a host as it has GPUs."
        )


def joined() -> bool:
    """Returns whether this process sees others.

    Asks what is imported already: a signal may have left half an import of torch behind.
    """
    dist = sys.modules.get("torch.distributed") if "torch" in sys.modules else None
    return dist is not None and dist.is_available() and dist.is_initialized()


def leave() -> None:
    """Leaves the other processes, at the end of the program; does nothing where there are none."""
    if joined():
        sys.modules["torch.distributed"].destroy_process_group()


def end(code: int) -> None:
    """Ends one of several processes at once, with all that was printed; alone it does nothing.

    An interpreter that ends in order tears down what torch's threads still use: with torch 2.14
    one of two processes aborted (exit code −6, after all work was done) in 5 of 85 launches.

    Args:
        code: the exit code.
    """
    if started() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
