"""Checkpoints: everything that training needs to go on, as verified safetensors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smoothctl.errors import RunError
from smoothctl.runs.config import StageConfig
from smoothctl.storage.files import new_folder, remove, verify_manifest
from smoothctl.storage.weights import read_weights, write_weights

__all__ = ["Checkpoints", "Progress", "load_optimizer", "optimizer_tensors"]

_STATE = "state.safetensors"


@dataclass
class Progress:
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


class Checkpoints:
    """The folder checkpoints/step-…, newest last.

    Args:
        folder: where they live.
        keep: how many complete ones to keep.
        config: the stage's configuration; a checkpoint of another one is skipped, unless that
            differs in having fewer steps.
        warn: told one sentence for each checkpoint that cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        config: StageConfig,
        warn: Callable[[str], None],
    ) -> None:
        self.folder, self.keep = folder, keep
        self.config, self.warn = config, warn

    def paths(self) -> list[Path]:
        """Returns the checkpoints' folders by step, complete or not."""
        return sorted(self.folder.glob("step-*"))

    def save(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Writes a checkpoint and, once it is complete, prunes the oldest ones."""
        with new_folder(self._path(progress.step)) as folder:
            config = self.config.to_dict()
            metadata = {"format": 1, "progress": _plain(progress), "config": config}
            write_weights(folder / _STATE, tensors, metadata)
        self.prune(progress.step)

    def prune(self, step: int) -> None:
        """Removes the oldest checkpoints up to that of a step, which is known to be whole."""
        known = [path for path in self.paths() if path <= self._path(step)]
        for old in known[: -self.keep]:
            remove(old)

    def latest(self) -> tuple[dict[str, Tensor], Progress] | None:
        """Returns the newest checkpoint that is whole; warns of each that is skipped."""
        for path in reversed(self.paths()):
            try:
                verify_manifest(path, _STATE)
                tensors, metadata = read_weights(path / _STATE)
                config = StageConfig.from_dict(metadata["config"], "it")
                if config.differences(self.config, longer=True):
                    raise RunError("it belongs to a stage with another configuration.")
                return tensors, _progress(metadata["progress"])
            except (RunError, KeyError, TypeError, ValueError, AttributeError) as error:
                self.warn(f"Skipped the checkpoint {path.name}: {error}")
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimiser's state as flat tensors: optimizer.<parameter>.<name>."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": value
        for index, values in state.items()
        for name, value in values.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores what `optimizer_tensors` gave.

    Each tensor gets the memory layout of its parameter: fused optimisers rely on it.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            like = parameters[int(index)]
            if value.shape == like.shape:
                value = torch.empty_like(like, dtype=value.dtype, device="cpu").copy_(value)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _plain(progress: Progress) -> dict[str, Any]:
    values = asdict(progress)
    return {**values, "best": None if math.isnan(progress.best) else progress.best}


def _progress(values: Mapping[str, Any]) -> Progress:
    best = values["best"]
    return Progress(
        step=int(values["step"]),
        best=math.nan if best is None else float(best),
        best_step=int(values["best_step"]),
        skipped=int(values.get("skipped", 0)),
        in_a_row=int(values.get("in_a_row", 0)),
    )
