"""Opening the run that a verb names, or the newest one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl.cli.console import Notes

if TYPE_CHECKING:
    from smoothctl.runs.run import Run, Weights

__all__ = ["open_run"]


def open_run(
    path: Path | None,
    weights: "Weights",
    device: str,
    notes: Notes,
    sampler: Mapping[str, Any] | None = None,
) -> "Run":
    """Opens a run folder, the newest under runs/ if none is named, and says which."""
    import torch

    from smoothctl.runs.run import load_run, newest_run

    if path is None:
        path = newest_run()
        notes.note(f"Takes the newest run, {path}.")
    gpu = device == "auto" and torch.cuda.is_available()
    return load_run(path, weights, "cuda" if gpu else "cpu", sampler)
