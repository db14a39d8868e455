"""One worker of a sweep: takes what nobody fits, goes on with it, or begins the next trial."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any, get_args

from smoothctl import architectures
from smoothctl.errors import DataError, Interrupted, RunError, SmoothctlError, UsageError
from smoothctl.runs.config import StageName
from smoothctl.storage.files import remove, without_folders
from smoothctl.storage.locks import InUse
from smoothctl.sweeps.space import Axis, combinations, draw
from smoothctl.sweeps.suggest import SAMPLERS, suggest
from smoothctl.sweeps.trials import Fit, Trial, add_trial, deciding, trials_in
from smoothctl.training.fit import FitSettings, fit_stage
from smoothctl.training.reporter import Forwarding, Plan, Reporter

__all__ = ["Sweep", "check", "placed", "settings_of", "work"]

_ENOUGH = 5
"""Trials that must have come as far before one is given up."""

_FIT = {"architecture", "kernel", "sigma", "standardise", "preset", "seed", "precision"}
_TRAINING = {"steps", "batch_size", "learning_rate", "on_nan"}
"""Settings that are none of the architecture's: those of `FitSettings`, and of its training."""

_SHARED = ("dataset", "seed", "precision", "device", "training", "preview", "sources")
"""What a denoiser takes of the settings of all trials; the rest is its prior's."""

_UNTOLD = {"out", "preview", "sources", "described", "device", "overwrite"}
"""What trial.json does not say of them."""


@dataclass(frozen=True)
class Sweep:
    """What is swept over, and how.

    Args:
        folder: of the sweep.
        fit: which stages each trial fits.
        fixed: what all trials share.
        axes: what differs between them.
        sampler: "grid", "random", or a key of `suggest.SAMPLERS`.
        points: values of a range in a grid.
        trials: how many, unless in a grid.
        prune: give up trials that fall behind.
        seed: of what is tried.
    """

    folder: Path
    fit: Fit
    fixed: FitSettings
    axes: Sequence[Axis]
    sampler: str = "grid"
    points: int = 7
    trials: int = 20
    prune: bool = False
    seed: int = 0

    def told(self) -> dict[str, Any]:
        """Returns the settings that all trials share, as trial.json has them: files by name."""
        given = {f.name: getattr(self.fixed, f.name) for f in fields(FitSettings)}
        default = FitSettings()
        return {
            key: without_folders(str(value)) if isinstance(value, str | Path) else value
            for key, value in given.items()
            if key not in _UNTOLD and value != getattr(default, key)
        }

    def next_settings(self, trials: Sequence[Trial]) -> Mapping[str, Any] | None:
        """Returns the settings of the next trial; None where there is nothing left to try.

        Raises:
            NotAvailable: the sampler's package is not installed.
        """
        if self.sampler == "grid":
            tried = [trial.over for trial in trials]
            return next((c for c in combinations(self.axes, self.points) if c not in tried), None)
        if len(trials) >= self.trials:
            return None
        if self.sampler in SAMPLERS:
            return suggest(self.sampler, self.axes, trials, self.seed)
        return draw(self.axes, self.seed, len(trials))


def check(sweep: Sweep) -> None:
    """Checks that the bounds of its trials can be told and compared.

    Raises:
        UsageError: two axes are of one setting, one is of a setting that all trials share, or an
            architecture is no density.
    """
    keys = [axis.key for axis in sweep.axes]
    given = {placed(key) for key in _flat(sweep.told())}
    for key in keys:
        if keys.count(key) > 1 or placed(key) in given:
            raise UsageError(f"The setting '{key}' is given twice.")
    trials = combinations(sweep.axes, 2)
    names = {settings.get("arch", sweep.fixed.architecture) for settings in trials}
    for name in names - {None}:
        if not architectures.load(str(name)).loss_in_nats():
            raise UsageError(f"{name} has no likelihood, so that a sweep cannot compare by it.")


def work(sweep: Sweep, reporter: Reporter, retry: bool = False) -> int:
    """Fits trials until none is left that nobody else fits.

    Any number of workers may do so at once, on any machines that share the folder. A trial whose
    worker was killed is gone on with, at the step of its last checkpoint.

    Args:
        sweep: what to try.
        reporter: told about progress.
        retry: begin with trials that failed before.

    Returns:
        How many trials failed meanwhile.

    Raises:
        RunError: the folder holds another sweep, or cannot be written.
        UsageError: the very first trial cannot be fitted.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint was saved.
    """
    with deciding(sweep.folder):
        _check_same_sweep(sweep)
        for failed in trials_in(sweep.folder) if retry else []:
            if failed.failed is not None:
                failed.written(failed=None)
    failures = 0
    try:
        while True:
            with _next_trial(sweep, reporter.note) as trial:
                if trial is None:
                    return failures
                failures += not _tried(sweep, trial, reporter)
    except (UsageError, DataError):
        with suppress(OSError):  # there are trials
            sweep.folder.rmdir()
        raise


@contextmanager
def _next_trial(sweep: Sweep, note: Callable[[str], None]) -> Iterator[Trial | None]:
    """Yields a trial that this worker alone has, one that was begun rather than a new one."""
    with ExitStack() as held:
        with deciding(sweep.folder):
            trial = _taken(sweep, note, held)
        yield trial


def _taken(sweep: Sweep, note: Callable[[str], None], held: ExitStack) -> Trial | None:
    trials = trials_in(sweep.folder)
    for trial in trials:
        if trial.state() == "unfinished":
            with suppress(InUse):
                held.enter_context(trial.held(note))
                return trial.reread()
    settings = sweep.next_settings(trials)
    if settings is None:
        return None
    added = add_trial(sweep.folder, sweep.fit, sweep.told(), settings)
    held.enter_context(added.held(note))
    return added


def _tried(sweep: Sweep, trial: Trial, reporter: Reporter) -> bool:
    """Fits a trial's stages; returns whether that went well, be it that it was given up."""
    if trial.state() != "unfinished":
        return True  # another worker ended it just now
    told = ", ".join(f"{key} {value}" for key, value in trial.over.items())
    reporter.note(f"Trial {trial.number}: {told}.")
    watching = _Watching(sweep, trial, reporter) if sweep.prune else reporter
    try:
        for stage in trial.stages():
            name: StageName = stage.path.name  # type: ignore[assignment]
            fit_stage(name, settings_of(sweep.fixed, trial, name), watching)
    except _GivenUp as given_up:
        trial.written(pruned=given_up.step)
        reporter.note(f"Trial {trial.number} is given up at step {given_up.step}: {given_up}")
    except Interrupted:
        raise
    except SmoothctlError as error:
        if isinstance(error, UsageError | DataError) and not _is_begun(sweep.folder):
            remove(trial.path)
            raise
        trial.written(failed=str(error))
        reporter.note(f"Trial {trial.number} failed: {error}")
        return False
    return True


def settings_of(fixed: FitSettings, trial: Trial, stage: StageName) -> FitSettings:
    """Returns what a stage of a trial is fitted with.

    A denoiser inherits from its prior whatever is not of its training or its own: `denoiser.KEY`.

    Args:
        fixed: what all trials share.
        trial: its own settings.
        stage: which.
    """
    settings, inherits = fixed, stage == "denoiser"
    if inherits:
        settings = FitSettings(**{key: getattr(fixed, key) for key in _SHARED})
    for name, value in trial.over.items():
        of, _, key = name.partition(".")
        own = of in get_args(StageName)
        table, key = placed(key if own else name)
        if own and of != stage:
            continue
        if own or not inherits or table == "training" or key in _SHARED:
            settings = _with(settings, table, key, value)
    return replace(settings, out=trial.path)


def placed(key: str) -> tuple[str, str]:
    """Returns the table of a setting, "" for those of `FitSettings` itself, and its name there."""
    key = "architecture" if key == "arch" else key
    if key in _FIT:
        return "", key
    if key in _TRAINING or key.startswith("training."):
        return "training", key.removeprefix("training.")
    return "options", key


def _with(settings: FitSettings, table: str, key: str, value: Any) -> FitSettings:
    source = {f"{table}.{key}" if table else key: "sweep"}
    if not table:
        return settings.filled(source, **{key: value})
    return settings.filled(source, **{table: {**getattr(settings, table), key: value}})


def _flat(told: Mapping[str, Any]) -> Iterator[str]:
    """Yields the settings as an axis names them."""
    for key, value in told.items():
        if key == "options":
            yield from value
        elif key == "training":
            yield from (name if name in _TRAINING else f"training.{name}" for name in value)
        else:
            yield key


def _is_begun(folder: Path) -> bool:
    """Returns whether any trial has come as far as to a stage."""
    return any(stage.started for trial in trials_in(folder) for stage in trial.stages())


def _check_same_sweep(sweep: Sweep) -> None:
    """Checks that the folder holds trials of this sweep, or none.

    Raises:
        RunError: it is of another one.
    """
    keys, told = {axis.key for axis in sweep.axes}, json.loads(json.dumps(sweep.told()))
    for trial in trials_in(sweep.folder):
        mine, others = ({"fit": sweep.fit, **told}, {"fit": trial.fit, **trial.fixed})
        differ = sorted(k for k in mine.keys() | others.keys() if mine.get(k) != others.get(k))
        differ += sorted(keys ^ trial.over.keys())
        if differ:
            raise RunError(
                f"{sweep.folder} holds a sweep with other settings ({', '.join(differ)}): give the "
                "command that began it, or choose another `out`."
            )


class _GivenUp(Exception):
    """A trial is not worth more steps."""

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step = step


class _Watching(Forwarding):
    """A reporter that gives a trial up where its bound falls behind that of the others.

    It does where, at a validation of the last stage, the best that it has reached is worse than the
    median of what five or more others had there (Golovin et al. 2017, "Google Vizier").
    """

    def __init__(self, sweep: Sweep, trial: Trial, reporter: Reporter) -> None:
        super().__init__(reporter)
        self.sweep, self.trial = sweep, trial

    def start(self, plan: Plan) -> None:
        """Passes it on."""
        super().start(plan)
        self._steps = plan.steps

    def validated(self, step: int, loss: float, gain: float | None) -> None:
        """Passes it on, and compares with the other trials.

        Raises:
            _GivenUp: it has fallen behind.
        """
        self.reporter.validated(step, loss, gain)
        before = self.trial.loss_before()
        if before is None or step == self._steps:
            return
        best = min([*self.trial.bounds().values(), before + loss])
        others = [o.bounds() for o in trials_in(self.sweep.folder) if o.number != self.trial.number]
        there = [bounds[step] for bounds in others if step in bounds]
        if len(there) >= _ENOUGH and best > median(there):
            raise _GivenUp(
                step, f"{best:.4g} nats, and half the others are below {median(there):.4g}."
            )
