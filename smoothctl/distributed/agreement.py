"""What all processes of a launch decide alike, so that none stops while the others wait for it."""

import torch

from smoothctl.distributed.processes import Processes
from smoothctl.distributed.signals import SIGNALS, Received

__all__ = ["Agreement"]


class Agreement:
    """The processes' mean loss, and the signal that any of them has received.

    Args:
        processes: those that must agree.
        received: the signal that this process has received.
    """

    def __init__(self, processes: Processes, received: Received) -> None:
        self.processes, self.received = processes, received
        self._agreed = 0

    @property
    def signum(self) -> int:
        """The signal to stop for, 0 for none: of several processes, as of the last loss."""
        return self.received.signum if self.processes.count == 1 else self._agreed

    def mean(self, loss: float) -> float:
        """Returns the mean of all processes' losses: not finite where any is not."""
        mine = [loss, *(float(self.received.signum == known) for known in SIGNALS)]
        sums = self.processes.total(torch.tensor(mine, dtype=torch.float64)).tolist()
        self._agreed = next((s for s, n in zip(SIGNALS, sums[1:], strict=True) if n), 0)
        return float(sums[0]) / self.processes.count
