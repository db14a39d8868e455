"""Runs as things: which there are, what each is, and how one is removed or renamed."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from smoothctl.errors import RunError, UsageError
from smoothctl.runs.config import StageConfig, StageName
from smoothctl.runs.run import STAGES, Run, Stage
from smoothctl.storage.files import move, remove
from smoothctl.storage.locks import hold

__all__ = ["RunSummary", "StageSummary", "remove_run", "rename_run", "runs_in", "summary"]


@dataclass(frozen=True)
class StageSummary:
    """How far a stage is.

    Args:
        name: of the stage.
        config: its settings.
        complete: whether training has ended.
        done: the step from which it goes on, or all of them.
        validation: the best held-out loss so far, in nats; None before the first.
    """

    name: StageName
    config: StageConfig
    complete: bool
    done: int
    validation: float | None


@dataclass(frozen=True)
class RunSummary:
    """What a run folder holds, as far as it can be read.

    Args:
        path: the folder.
        stages: those that were started.
        damage: a sentence for each stage that cannot be read.
        size: bytes of all its files.
        changed: when one was written last, in seconds since 1970.
    """

    path: Path
    stages: list[StageSummary]
    damage: list[str]
    size: int
    changed: float

    @property
    def config(self) -> StageConfig | None:
        """The settings that tell data and smoothing: the prior's if there is one."""
        order = sorted(self.stages, key=lambda stage: stage.config.sigma is None)
        return order[0].config if order else None


def runs_in(folder: Path) -> list[Path]:
    """Returns the run folders below a folder, at any depth, sorted; none of them hidden.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    found = []
    for above, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        runs = [name for name in names if _is_run(Path(above, name))]
        names[:] = [name for name in names if name not in runs]
        found += [Path(above, name) for name in runs]
    return sorted(found)


def summary(path: Path) -> RunSummary:
    """Returns what a run folder holds.

    Raises:
        RunError: it is no run folder.
    """
    _check_run(path)
    stages, damage = [], []
    for name in STAGES:
        stage = Run(path).stage(name)
        try:
            if stage.started:
                stages.append(_stage(name, stage))
        except RunError as error:
            damage.append(str(error))
    states = [path.stat()]
    for file in (Path(above, name) for above, _, names in os.walk(path) for name in names):
        with suppress(FileNotFoundError):  # of a fit that goes on
            states.append(file.lstat())
    size, changed = sum(s.st_size for s in states[1:]), max(s.st_mtime for s in states)
    return RunSummary(path, stages, damage, size, changed)


def remove_run(path: Path) -> None:
    """Removes a run folder with all that is in it, unless somebody fits it.

    Raises:
        RunError: it is no run folder, is in use, or cannot be removed.
    """
    path = path if path.name else path.absolute()  # "." has no name
    with _unused(path):
        rest = path.with_name(f".{path.name}.tmp")
        remove(rest)
        move(path, rest)
    remove(rest)


def rename_run(path: Path, name: str) -> Path:
    """Gives a run folder another name, unless somebody fits it.

    Args:
        path: the folder.
        name: its new one in the same place, or a path.

    Returns:
        The new folder.

    Raises:
        RunError: it is no run folder or is in use, the new one is there, or it cannot be done.
    """
    path = path if path.name else path.absolute()
    target = Path(name) if Path(name).name != name else path.with_name(name)
    if os.path.lexists(target):
        raise RunError(f"{target} is there already: choose another name.")
    with _unused(path):
        move(path, target)
    return target


def _stage(name: StageName, stage: Stage) -> StageSummary:
    config, complete = stage.config(), stage.complete
    held_out = [entry["validation"] for entry in stage.log() if "validation" in entry]
    done = config.training.steps if complete else stage.steps_done
    return StageSummary(name, config, complete, done, min(held_out, default=None))


def _is_run(path: Path) -> bool:
    return any((path / name / "config.toml").is_file() for name in STAGES)


def _check_run(path: Path) -> None:
    if not _is_run(path):
        what = "is no run folder" if path.exists() else "is not there"
        raise RunError(f"{path} {what}; smoothctl runs lists what there is.")


@contextmanager
def _unused(path: Path) -> Iterator[None]:
    """Keeps everybody from fitting a run, for what moves the folder; the locks do not go along."""
    _check_run(path)
    with ExitStack() as held:
        for name in STAGES:
            stage = Run(path).stage(name)
            if stage.started:
                lock = held.enter_context(hold(stage.lock_file, str(stage.path)))
                lock.path.unlink(missing_ok=True)
        yield
