"""Workers as jobs of a cluster, by submitit. Extra `[sweep]`."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoothctl.errors import NotAvailable, UsageError

__all__ = ["Job", "submit"]


@dataclass
class Job:
    """What a node of the cluster does: the same command as a person would type.

    Args:
        arguments: of `smoothctl`.
    """

    arguments: Sequence[str]
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def __call__(self) -> int:
        """Runs the command to its end.

        Returns:
            Its exit code.
        """
        command = [sys.executable, "-m", "smoothctl", *self.arguments]
        self._process = subprocess.Popen(command)  # noqa: S603, our own program
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Ends the command, which saves its step, and asks for the same job again: it goes on.

        submitit calls it before the cluster takes the node away.
        """
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        return DelayedSubmission(Job(self.arguments))


def submit(
    arguments: Sequence[str], count: int, cluster: str, folder: Path, settings: Mapping[str, Any]
) -> list[str]:
    """Submits workers.

    Args:
        arguments: of `smoothctl`, for each of them.
        count: of workers.
        cluster: "slurm", or "local" for processes of this machine.
        folder: for submitit's files.
        settings: of the jobs, as submitit names them: timeout_min, slurm_partition, …

    Returns:
        The numbers of the jobs.

    Raises:
        NotAvailable: submitit is not installed.
        UsageError: the cluster is not there, or has no such setting.
    """
    try:
        import submitit
    except ImportError as error:
        raise NotAvailable("submitit is not installed: pip install 'smoothctl[sweep]'.") from error
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(name="smoothctl-sweep", **settings)
        with executor.batch():
            jobs = [executor.submit(Job(arguments)) for _ in range(count)]
    except (RuntimeError, ValueError, NameError, TypeError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"The jobs cannot be submitted: {said}.") from error
    return [job.job_id for job in jobs]
