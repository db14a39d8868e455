"""The trials of a sweep as its folder tells them: a run folder each, and what is tried in it."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from smoothctl import kernels
from smoothctl.config import as_dict, build, config
from smoothctl.errors import RunError, UsageError
from smoothctl.runs.config import StageName, Unit
from smoothctl.runs.run import Run, Stage
from smoothctl.storage.files import (
    cannot_write,
    check_format,
    make_folder,
    read_json,
    write_json,
)
from smoothctl.storage.locks import Lock, hold

__all__ = ["STAGES_OF", "Fit", "State", "Trial", "add_trial", "deciding", "trials_in"]

Fit = Literal["two-step", "joint", "baseline"]
State = Literal["complete", "unfinished", "pruned", "failed"]

STAGES_OF: Mapping[Fit, tuple[StageName, ...]] = {
    "two-step": ("prior", "denoiser"),
    "joint": ("joint",),
    "baseline": ("baseline",),
}
"""What each trial fits, in order."""

_FILE, _LARGEST = "trial.json", 2**16
_LONGEST_NAME = 80


@config
class Trial:
    """One combination of settings, and the run folder that it is fitted in."""

    path: Path = Field(description="the run folder")
    number: int = Field(ge=0, description="counts the sweep's trials")
    fit: Fit = Field(description="which stages are fitted")
    fixed: dict[str, Any] = Field(description="settings that all trials share")
    over: dict[str, Any] = Field(description="settings that this one tries")
    pruned: int | None = Field(None, description="the step at which it was given up")
    failed: str | None = Field(None, description="why it could not be fitted")

    @property
    def run(self) -> Run:
        """The run folder, opened."""
        return Run(self.path)

    def stages(self) -> list[Stage]:
        """Returns the stages that it fits, in order, there or not."""
        return [self.run.stage(name) for name in STAGES_OF[self.fit]]

    def state(self) -> State:
        """Returns how far it is."""
        if all(stage.complete for stage in self.stages()):
            return "complete"
        if self.failed is not None:
            return "failed"
        return "unfinished" if self.pruned is None else "pruned"

    def written(self, **ended: Any) -> "Trial":
        """Writes trial.json, whole or not at all.

        Args:
            ended: `pruned` or `failed`, where they have changed.

        Raises:
            RunError: it cannot be written.
        """
        trial = replace(self, **ended)
        told = {key: value for key, value in as_dict(trial).items() if key != "path"}
        write_json(self.path / _FILE, {"format": 1, **told})
        return trial

    def reread(self) -> "Trial":
        """Returns what trial.json says now.

        Raises:
            RunError: it is damaged.
        """
        return _read(self.path / _FILE)

    def bounds(self) -> dict[int, float]:
        """Returns −log p(x) as it was validated: step of the last stage -> nats.

        That of two stages is the bound with one draw (ARDS eq. 3): the held-out losses of prior and
        denoiser less the entropy of the kernel. It is what the logs say, and so costs nothing.

        Raises:
            RunError: a stage is damaged.
        """
        before = self.loss_before()
        if before is None:
            return {}
        return {step: before + loss for step, loss in _validations(self.stages()[-1]).items()}

    def loss_before(self) -> float | None:
        """Returns what the last stage's loss is added to, in nats.

        Returns:
            None before the last stage was begun, or where a log has lost its validations.

        Raises:
            RunError: a stage is damaged.
        """
        *before, last = self.stages()
        if not (last.started and all(stage.complete for stage in before)):
            return None
        losses = [_validations(stage) for stage in before]
        if not all(losses):
            return None
        return sum(list(each.values())[-1] for each in losses) - _entropy(last)

    def bound(self) -> float | None:
        """Returns the last of the `bounds`, in nats; None before the first.

        Raises:
            RunError: a stage is damaged.
        """
        return next(reversed(self.bounds().values()), None)

    def unit(self) -> Unit | None:
        """Returns what people read the bound in; None before anything was fitted."""
        started = [stage for stage in self.stages() if stage.started]
        return started[-1].config().unit() if started else None

    @contextmanager
    def held(self, note: Callable[[str], None]) -> Iterator[Lock]:
        """Keeps the trial to one worker for the time of the block.

        Args:
            note: told where a worker that was killed left it.

        Raises:
            InUse: another worker has it.
        """
        with hold(self.path.with_name(f".{self.path.name}.lock"), str(self.path), note) as lock:
            yield lock


def _entropy(stage: Stage) -> float:
    """Returns the entropy of a stage's kernel in nats, 0 of a baseline."""
    config = stage.config()
    if config.kernel is None or config.sigma is None:
        return 0.0
    kernel = kernels.build(config.kernel, config.sigma, config.scale)
    return kernel.entropy(config.event_shape)


def trials_in(folder: Path) -> list[Trial]:
    """Returns the trials of a sweep's folder in their order; none where it is not there.

    Raises:
        RunError: one's trial.json is damaged.
    """
    return sorted(
        (_read(file) for file in folder.glob(f"[!.]*/{_FILE}")), key=lambda trial: trial.number
    )


def add_trial(folder: Path, fit: Fit, fixed: Mapping[str, Any], over: Mapping[str, Any]) -> Trial:
    """Makes the run folder of a new trial, to be called while `deciding`.

    Raises:
        RunError: it cannot be written.
    """
    number = max((trial.number for trial in trials_in(folder)), default=-1) + 1
    told = "-".join(f"{key.rpartition('.')[2]}-{value}" for key, value in over.items())
    name = f"{number:04d}-{re.sub(r'[^0-9A-Za-z.+-]', '_', told)}"[:_LONGEST_NAME]
    path = folder / name.rstrip(".")
    try:
        make_folder(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    return Trial(path=path, number=number, fit=fit, fixed=dict(fixed), over=dict(over)).written()


@contextmanager
def deciding(folder: Path) -> Iterator[None]:
    """Lets one worker at a time decide what it does next.

    Raises:
        RunError: the folder cannot be written.
    """
    with hold(folder / ".sweep.lock", str(folder), wait=True):
        yield


def _read(file: Path) -> Trial:
    values = read_json(file, _LARGEST)
    if not isinstance(values, dict):
        raise RunError(f"{file} is damaged: it holds no settings.")
    check_format(values.pop("format", None), str(file))
    try:
        return build(Trial, {**values, "path": file.parent}, str(file))
    except UsageError as error:
        raise RunError(f"This is no trial of a sweep: {error}") from error


def _validations(stage: Stage) -> dict[int, float]:
    """Returns the held-out losses of a stage's log in nats, by step."""
    return {int(e["step"]): e["validation"] for e in stage.log() if "validation" in e}
