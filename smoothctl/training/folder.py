"""The folder of a stage while it is fitted: who may write, what is there, what goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smoothctl.distributed.processes import Processes
from smoothctl.errors import RunError, TrainingError
from smoothctl.runs.config import StageConfig, to_toml
from smoothctl.runs.run import STAGES, Stage
from smoothctl.storage.files import move, remove, remove_leftovers, write_bytes
from smoothctl.storage.locks import Lock, hold
from smoothctl.training.settings import FitPlan

__all__ = [
    "check_same_config",
    "check_same_folder",
    "claimed",
    "clear_replaced",
    "is_left_alone",
    "is_settled",
    "last_good",
    "prepare",
]


@contextmanager
def claimed(
    stage: Stage, processes: Processes, note: Callable[[str], None]
) -> Iterator[Lock | None]:
    """Keeps everybody else from fitting the stage for the time of the block.

    Yields:
        The lock in the first process, which alone writes; None in the others.

    Raises:
        RunError: somebody else fits it, or its folder cannot be written.
    """
    if not processes.is_first:
        yield None
        return
    with hold(stage.lock_file, str(stage.path), note) as lock:
        yield lock


def is_settled(plan: FitPlan) -> bool:
    """Returns whether the stage is complete already; refuses what must not be written into.

    Raises:
        RunError: the folder holds something else, or another configuration.
    """
    stage, config = plan.stage, plan.config
    for name in STAGES:
        other = plan.run.stage(name)
        if name != config.stage and other.started:
            config.check_same_smoothing(other.config(), str(plan.run.path))
    if _is_foreign(stage):
        raise RunError(f"{stage.path} is not empty and holds no config.toml: choose another `out`.")
    if plan.settings.overwrite or not stage.fitted:
        return False
    fitted = stage.config()
    changed = fitted.differences(config, longer=True)
    if changed:
        raise RunError(
            f"{stage.path} was fitted with another configuration ({'; '.join(changed)}): "
            "choose another `out`, or `overwrite` it."
        )
    return stage.complete and fitted.training.steps == config.training.steps


def is_left_alone(plan: FitPlan) -> bool:
    """Returns whether the stage is complete and nothing is left to remove beside it.

    Then nothing is written, and the folder need not be one that can be.

    Raises:
        RunError: see `is_settled`.
    """
    return is_settled(plan) and not any(plan.run.path.glob(f".{plan.stage.path.name}.*"))


def check_same_config(processes: Processes, config: StageConfig) -> None:
    """Checks that all processes fit the same to the same data.

    Raises:
        TrainingError: one of them does not.
    """
    everyone = processes.gather((processes.name, config))
    for name, other in everyone:
        if changed := everyone[0][1].differences(other):
            raise TrainingError(
                f"{name} would fit something else than process 0 "
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
    checkpoint = f"the checkpoint of step {step}" if step else "no checkpoint"
    mine = f"config.toml and {checkpoint}" if stage.started else "no config.toml"
    everyone = processes.gather((processes.name, mine))
    for name, other in everyone:
        if other != everyone[0][1]:
            raise TrainingError(
                f"{name} finds {other} in {stage.path}, where process 0 finds {everyone[0][1]}: "
                "all hosts need a run folder that they share."
            )


def prepare(plan: FitPlan) -> None:
    """Writes config.toml; a stage that is replaced is kept until the new one is complete.

    So are the weights of a complete stage that goes on for more steps. Half a stage of another
    configuration is moved away before it is removed, so that whoever is killed meanwhile leaves no
    folder without its configuration.

    Raises:
        RunError: a complete stage has lost the checkpoint that it would go on from.
    """
    stage, overwrite = plan.stage, plan.settings.overwrite
    rest = stage.path.with_name(f".{stage.path.name}.tmp")
    remove(rest)
    if overwrite and stage.complete:
        clear_replaced(stage)
        move(stage.path, _replaced(stage))
    elif overwrite and stage.started and stage.config().differences(plan.config):
        move(stage.path, rest)
        remove(rest)
    elif stage.complete:
        _keep_weights(stage)
    remove_leftovers(stage.path)
    write_bytes(stage.config_file, to_toml(plan.config, plan.settings.sources).encode())


def _keep_weights(stage: Stage) -> None:
    """Moves the weights of a stage that goes on to where a replaced stage is kept."""
    steps = stage.config().training.steps
    if stage.steps_done < steps:
        raise RunError(
            f"{stage.path} has no checkpoint of its step {steps} to go on from: `overwrite` "
            f"fits it anew, and `init_from={stage.weights_file()}` starts another run from its "
            "weights."
        )
    kept = _replaced(stage)
    remove(kept)
    write_bytes(kept / stage.config_file.name, stage.config_file.read_bytes())
    move(stage.weights_file(), kept / stage.weights_file().name)


def clear_replaced(stage: Stage) -> None:
    """Removes the stage that a complete one has replaced."""
    remove(_replaced(stage))


def last_good(stage: Stage) -> str:
    """Returns 'the last good checkpoint is …', for messages."""
    saved = sorted(stage.checkpoints.glob("step-*"))
    return f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint was saved"


def _replaced(stage: Stage) -> Path:
    return stage.path.with_name(f".{stage.path.name}.replaced")


def _is_foreign(stage: Stage) -> bool:
    """Returns whether there is something that smoothctl has not written.

    A process that was killed in its first write has left a hidden .tmp and no configuration.
    """
    if stage.started or not stage.path.is_dir():
        return False
    return any(not (p.name[0] == "." and p.suffix == ".tmp") for p in stage.path.iterdir())
