"""Checkpoints: everything that training needs to go on, as verified safetensors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from smoothctl.errors import RunError
from smoothctl.runs.config import StageConfig
from smoothctl.storage.files import new_folder, remove, verify_manifest
from smoothctl.storage.weights import read_weights, write_weights

__all__ = ["Checkpoints", "TrainingState"]

_STATE = "state.safetensors"


@dataclass
class TrainingState:
    """How far training has come.

    Args:
        step: optimiser steps done.
        best: the lowest validation loss so far, in nats; NaN before the first.
        best_step: the step of that validation.
        skipped: steps that were left out, as their loss or gradient was not finite.
        in_a_row: how many of them are the last ones.
    """

    step: int = 0
    best: float = math.nan
    best_step: int = 0
    skipped: int = 0
    in_a_row: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; None for a best loss that is not known."""
        return {**asdict(self), "best": None if math.isnan(self.best) else self.best}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingState":
        """Reads what `to_dict` gave, or a version that left no steps out."""
        best = math.nan if values["best"] is None else float(values["best"])
        skipped, in_a_row = (int(values.get(key, 0)) for key in ("skipped", "in_a_row"))
        return cls(int(values["step"]), best, int(values["best_step"]), skipped, in_a_row)


class Checkpoints:
    """The folder checkpoints/step-…, newest last.

    Args:
        folder: where they live.
        config: the stage's configuration, which says how many to keep; a checkpoint of another
            one is skipped, unless that differs in having fewer steps.
        warn: told one sentence for each checkpoint that cannot be used.
    """

    def __init__(self, folder: Path, config: StageConfig, warn: Callable[[str], None]) -> None:
        self.folder, self.config, self.warn = folder, config, warn

    def paths(self) -> list[Path]:
        """Returns the checkpoints' folders by step, complete or not."""
        return sorted(self.folder.glob("step-*"))

    def save(self, tensors: Mapping[str, Tensor], state: TrainingState) -> None:
        """Writes a checkpoint and, once it is complete, prunes the oldest ones."""
        with new_folder(self._path(state.step)) as folder:
            config = self.config.to_dict()
            metadata = {"format": 1, "progress": state.to_dict(), "config": config}
            write_weights(folder / _STATE, tensors, metadata)
        self.prune(state.step)

    def prune(self, step: int) -> None:
        """Removes the oldest checkpoints up to that of a step, which is known to be whole."""
        known = [path for path in self.paths() if path <= self._path(step)]
        for old in known[: -self.config.training.keep]:
            remove(old)

    def latest(self) -> tuple[dict[str, Tensor], TrainingState] | None:
        """Returns the newest checkpoint that is whole; warns of each that is skipped."""
        for path in reversed(self.paths()):
            try:
                verify_manifest(path, _STATE)
                tensors, metadata = read_weights(path / _STATE)
                config = StageConfig.from_dict(metadata["config"], "it")
                if config.differences(self.config, longer=True):
                    raise RunError("it belongs to a stage with another configuration.")
                return tensors, TrainingState.from_dict(metadata["progress"])
            except (RunError, KeyError, TypeError, ValueError, AttributeError) as error:
                self.warn(f"Skipped the checkpoint {path.name}: {error}")
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"
