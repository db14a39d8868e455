"""`smoothctl sweep`."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.fit import Smoothed, chosen_settings
from smoothctl.cli.targets import given_twice, key_values
from smoothctl.errors import NotAvailable, SmoothctlError, UsageError

if TYPE_CHECKING:
    from smoothctl.runs.config import Unit
    from smoothctl.sweeps.results import Outcome
    from smoothctl.sweeps.trials import Trial
    from smoothctl.sweeps.worker import Sweep

__all__ = ["command"]

_POINTS, _TRIALS = 7, 20
_JOBS = ("--jobs", "--cluster", "--job")

_what = partial(typer.Option, rich_help_panel="What to try")
_where = partial(typer.Option, rich_help_panel="Workers")


@dataclass(frozen=True)
class _Trying:
    over: Annotated[
        list[str] | None,
        _what(
            "--over",
            metavar="KEY=A,B|A..B",
            help="A setting and its values, or its range: sigma, kernel, arch, seed, steps, "
            "learning_rate, or whatever --set takes; prior.KEY or denoiser.KEY for one stage. "
            "Repeat it for more.",
        ),
    ] = None
    fit: Annotated[
        Literal["two-step", "joint", "baseline"],
        _what("--fit", help="What each trial fits; two-step is a prior and its denoiser."),
    ] = "two-step"
    sampler: Annotated[
        Literal["grid", "random", "tpe", "gp"],
        _what(
            "--sampler",
            help="Every combination, random ones, or those that Optuna suggests "
            "(pip install 'smoothctl\\[sweep]').",
        ),
    ] = "grid"
    points: Annotated[
        int | None,
        _what("--points", min=2, help="Values of a range in a grid.", show_default=str(_POINTS)),
    ] = None
    trials: Annotated[
        int | None,
        _what("--trials", min=1, help="How many, without a grid.", show_default=str(_TRIALS)),
    ] = None
    prune: Annotated[
        bool,
        _what(
            "--prune",
            help="Give a trial up where its validation bound is worse than the median of five or "
            "more others at the same step.",
        ),
    ] = False
    retry: Annotated[bool, _what("--retry", help="Try again what failed before.")] = False


@dataclass(frozen=True)
class _Workers:
    jobs: Annotated[
        int | None,
        _where("--jobs", min=1, help="Submit so many workers as jobs of a cluster, and return."),
    ] = None
    cluster: Annotated[
        Literal["slurm", "local"],
        _where("--cluster", help="Where --jobs go, by submitit; local: processes of this machine."),
    ] = "slurm"
    job: Annotated[
        list[str] | None,
        _where(
            "--job",
            metavar="KEY=VALUE",
            help="A setting of the jobs, as submitit names it: slurm_partition=gpu, "
            "timeout_min=240. Repeat it for more.",
        ),
    ] = None


@dataclass(frozen=True)
class _Output:
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the sweep, which all workers share.")
    ] = Path("runs/sweep")
    status: Annotated[
        bool, typer.Option("--status", help="Fit nothing: say how far the sweep in --out is.")
    ] = False
    quiet: options.Quiet = False
    as_json: options.Json = False


@dataclass(frozen=True)
class Options(_Output, _Workers, Smoothed, _Trying):
    """Fit many runs over some settings, and compare them by the bound on held-out data.

    Any number of workers may give the same command, on any machines that share --out: each takes
    what nobody else fits. A trial is an ordinary run, and one whose worker died is gone on with.
    """


@wraps(Options, updated=())
def command(**chosen: Any) -> None:
    """Does what the options say."""
    _sweep(Options(**chosen))


def _sweep(chosen: Options) -> None:
    notes, failed = Notes(chosen.quiet), 0
    if chosen.status:
        asked = Options(out=chosen.out, status=True, quiet=chosen.quiet, as_json=chosen.as_json)
        if chosen != asked:
            raise UsageError("--status fits nothing: it goes with --out, --quiet and --json alone.")
    else:
        sweep = _resolved(chosen)
        if chosen.jobs is not None:
            _submit(chosen)
            return
        from smoothctl.sweeps.worker import work

        failed = work(sweep, notes, chosen.retry)
    _tell(chosen, notes)
    if failed:
        raise SmoothctlError(
            f"{failed} trial{'s' * (failed > 1)} failed, as the table says: --retry tries again."
        )


def _resolved(chosen: Options) -> "Sweep":
    """Returns the sweep that the options describe.

    Raises:
        UsageError: there is nothing to try, or options that do not go together.
    """
    from smoothctl.sweeps.space import parse_axis
    from smoothctl.sweeps.worker import Sweep, check
    from smoothctl.training.settings import FitSettings

    if not chosen.over:
        raise UsageError("Name what to try: --over sigma=0.05..1, --over kernel=gaussian,laplace.")
    if chosen.sampler == "grid" and chosen.trials is not None:
        raise UsageError("A grid has all combinations: --trials goes with another --sampler.")
    if chosen.sampler != "grid" and chosen.points is not None:
        raise UsageError("--points goes with --sampler grid alone.")
    if chosen.jobs is None and chosen.job:
        raise UsageError("--job goes with --jobs.")
    stage = "prior" if chosen.fit == "two-step" else chosen.fit
    sweep = Sweep(
        folder=chosen.out,
        fit=chosen.fit,
        fixed=FitSettings(**chosen_settings(stage, chosen)),
        axes=[parse_axis(text) for text in chosen.over],
        sampler=chosen.sampler,
        points=chosen.points or _POINTS,
        trials=chosen.trials or _TRIALS,
        prune=chosen.prune,
        seed=chosen.seed or 0,
    )
    check(sweep)
    return sweep


def _submit(chosen: Options) -> None:
    """Gives the command that was typed, but for the options of jobs, to each of the workers."""
    from smoothctl.reporting.tables import say
    from smoothctl.sweeps.jobs import submit

    settings: dict[str, Any] = {}
    for key, value in key_values("--job", chosen.job):
        if key in settings:
            raise given_twice(key)
        settings[key] = value
    arguments = _without(sys.argv[1:], _JOBS)
    assert chosen.jobs is not None
    numbers = submit(arguments, chosen.jobs, chosen.cluster, chosen.out / ".jobs", settings)
    say(f"Submitted: {', '.join(numbers)}.", f"$ smoothctl sweep --status --out {chosen.out}")


def _without(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns a command line without some options that take a value."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in names:
            next(words, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return kept


def _tell(chosen: Options, notes: Notes) -> None:
    """Prints what was found so far, and draws it."""
    from smoothctl.sweeps.results import outcomes
    from smoothctl.sweeps.trials import trials_in

    trials = trials_in(chosen.out)
    if not trials:
        raise UsageError(f"There is no sweep in {chosen.out}; name it by --out.")
    found = outcomes(trials)
    unit = next((unit for trial in trials if (unit := trial.unit())), None)
    shares = _shares(trials)
    picture = _picture(chosen.out, trials, shares, unit, notes)
    if chosen.as_json:
        told = [_facts(trial) for trial in trials]
        where = None if picture is None else str(picture)
        print_json({"trials": told, "importance": shares, "picture": where})
        return
    _print(chosen.out, found, unit)
    if picture is not None:
        from smoothctl.reporting.tables import say

        say(f"Picture: {picture}")


def _print(folder: Path, found: "Sequence[Outcome]", unit: "Unit | None") -> None:
    from smoothctl.reporting.tables import Table, left, print_table, right, say

    keys = list(dict.fromkeys(key for each in found for key in each.over))
    heading = f"−log p, {unit.name}" if unit is not None else "−log p"
    columns = [*left(*keys), *right(heading), *left("trials")]
    rows = [
        [*(_shown(each.over.get(key)) for key in keys), _bound(each, unit), _state(each)]
        for each in found
    ]
    plain = found[0].trials[0].fit == "baseline"
    known = "exact where the architecture has it, or a" if plain else "the"
    notes = [f"−log p of held-out data, {known} bound with one draw; ± half the range over seeds."]
    failed = [trial for each in found for trial in each.trials if trial.state() == "failed"]
    notes += [f"{trial.path.name} failed: {trial.failed}" for trial in failed]
    print_table(Table(f"sweep in {folder}", columns, [rows], notes))
    if found[0].bounds:
        best = min(found[0].trials, key=lambda trial: trial.bound() or float("inf"))
        say(f"Best: {best.path}", *_commands(best))


def _commands(trial: "Trial") -> list[str]:
    """Returns what fits a trial's stages again in a run folder of their own."""
    from smoothctl.runs.commands import fit_command

    configs = [stage.config() for stage in trial.stages()]
    out = Path("runs") / trial.path.name
    return [f"$ {shlex.join(fit_command(config, out, configs[0]))}" for config in configs]


def _shown(value: Any) -> str:
    from smoothctl.reporting.tables import MISSING

    return MISSING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _bound(outcome: "Outcome", unit: "Unit | None") -> str:
    from smoothctl.reporting.tables import MISSING, decimals

    if unit is None or not outcome.bounds:
        return MISSING
    bounds = [bound * unit.per_nat for bound in outcome.bounds]
    spread = f" ± {(max(bounds) - min(bounds)) / 2:.4f}" if len(bounds) > 1 else ""
    return decimals(mean(bounds), 4) + spread


def _state(outcome: "Outcome") -> str:
    """Returns how far the trials of an outcome are, each state once."""
    return ", ".join(dict.fromkeys(_told(trial) for trial in outcome.trials))


def _told(trial: "Trial") -> str:
    state = trial.state()
    if state == "pruned":
        return f"given up at step {trial.pruned}"
    if state in ("failed", "complete"):
        return state
    at = next((stage for stage in trial.stages() if not stage.complete), None)
    return "begun" if at is None or not at.started else f"{at.path.name} at {at.steps_done}"


def _facts(trial: "Trial") -> dict[str, Any]:
    """Returns what JSON says of a trial."""
    return {
        "run": str(trial.path),
        "number": trial.number,
        "over": dict(trial.over),
        "state": trial.state(),
        "nats": trial.bound(),
        "pruned": trial.pruned,
        "failed": trial.failed,
    }


def _shares(trials: "Sequence[Trial]") -> dict[str, float] | None:
    from smoothctl.sweeps.results import axes_of
    from smoothctl.sweeps.suggest import importance

    try:
        return importance(axes_of(trials), trials)
    except NotAvailable:
        return None


def _picture(
    folder: Path,
    trials: "Sequence[Trial]",
    shares: dict[str, float] | None,
    unit: "Unit | None",
    notes: Notes,
) -> Path | None:
    """Draws the bound over each setting that is a number; returns where, or None without any."""
    from smoothctl.sweeps.results import lines_over

    lines = {} if unit is None else lines_over(trials, unit)
    if unit is None or not lines:
        return None
    from smoothctl.reporting.figures import bound_curves, save

    truth = _truth(trials[0])
    path = folder / "sweep.png"
    try:
        save(bound_curves(lines, truth and truth * unit.per_nat, shares, unit.name), path)
    except NotAvailable as error:
        notes.note(str(error))
        return None
    return path


def _truth(trial: "Trial") -> float | None:
    """Returns the true entropy of the data in nats, where it is known."""
    try:
        return trial.run.dataset().true_entropy()
    except SmoothctlError:
        return None
