"""Launching smoothctl in several processes of this machine, for tests."""

import os
import sys
from pathlib import Path

__all__ = ["ENVIRONMENT", "launcher", "rank_of"]

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def launcher(processes: int = 2, *hosts: str) -> list[str]:
    """Returns the command that starts `-m smoothctl …` in several gloo ranks.

    Args:
        processes: how many, over all hosts.
        hosts: options about other hosts, instead of those for one machine.
    """
    return [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu",
        "--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no",
        *(hosts or ("--num_machines", "1", "--main_process_port", "0")),
        "-m", "smoothctl",
    ]  # fmt: skip


def rank_of(launch: int, rank: int) -> int:
    """Returns the process id of a rank of a launch.

    Args:
        launch: process id of the launcher.
        rank: which one.

    Raises:
        LookupError: there is none (yet).
    """
    for children in Path(f"/proc/{launch}/task").glob("*/children"):
        for child in children.read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
    raise LookupError(f"launcher {launch} has no rank {rank}")
