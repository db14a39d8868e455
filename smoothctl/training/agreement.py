"""What all processes of a launch decide alike, so that none stops while the others wait for it."""

import socket

import torch

from smoothctl.distributed.processes import Processes
from smoothctl.distributed.signals import SIGNALS, Received
from smoothctl.errors import TrainingError
from smoothctl.runs.config import StageConfig
from smoothctl.runs.run import Stage

__all__ = ["Agreement", "check_same_config", "check_same_folder"]


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
        if self.processes.count == 1:
            return loss
        mine = [loss, *(float(self.received.signum == known) for known in SIGNALS)]
        sums = self.processes.total(torch.tensor(mine, dtype=torch.float64)).tolist()
        self._agreed = next((s for s, n in zip(SIGNALS, sums[1:], strict=True) if n), 0)
        return float(sums[0]) / self.processes.count


def check_same_config(processes: Processes, config: StageConfig) -> None:
    """Checks that all processes fit the same to the same data.

    Raises:
        TrainingError: one of them does not.
    """
    everyone = processes.gather((socket.gethostname(), config))
    for index, (host, other) in enumerate(everyone):
        changed = everyone[0][1].differences(other)
        if changed:
            raise TrainingError(
                f"Process {index} on {host} would fit something else than process 0 "
                f"({'; '.join(changed)}): all hosts need the same command and the same data."
            )


def check_same_folder(processes: Processes, stage: Stage, step: int) -> None:
    """Checks that all processes see the same files of a stage, on whatever host they are.

    Args:
        processes: those that fit.
        stage: whose configuration the first has written.
        step: of the checkpoint that this process would go on from.

    Raises:
        TrainingError: one of them sees another folder.
    """
    found = f"a checkpoint of step {step}" if step else "no checkpoint"
    mine = found if stage.started else "no config.toml"
    everyone = processes.gather((socket.gethostname(), mine))
    for index, (host, other) in enumerate(everyone):
        if other != everyone[0][1]:
            raise TrainingError(
                f"Process {index} on {host} does not see the run folder of {stage.path} as process "
                f"0 does: it finds {other} there, and not {everyone[0][1]}; all hosts need a "
                "folder that they share."
            )
