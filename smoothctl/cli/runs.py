"""`smoothctl runs`: list, show, rm and rename."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli import completion, options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.endings import by_first
from smoothctl.errors import UsageError

if TYPE_CHECKING:
    from smoothctl.runs.folders import RunSummary, StageSummary

__all__ = ["verbs"]

verbs = typer.Typer(help="List the runs, or show, remove or rename one.")
_Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder.", autocompletion=completion.runs)
]
_Under = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to look, at any depth.")]
_RUNS = Path("runs")


@verbs.callback(invoke_without_command=True)
def runs(context: typer.Context) -> None:
    """List the runs, or show, remove or rename one."""
    if context.invoked_subcommand is None:
        list_(_RUNS, as_json=False)


@verbs.command("list")
@by_first
def list_(folder: _Under = _RUNS, as_json: options.Json = False) -> None:
    """List every run below a folder: its data, how far it is, and how good it was found."""
    from smoothctl.reporting.tables import Table, left, print_table
    from smoothctl.runs.folders import runs_in, summary

    none_yet = folder == _RUNS and not folder.exists()
    found = [] if none_yet else [summary(path) for path in runs_in(folder)]
    if as_json:
        print_json([_facts(each) for each in found])
        return
    if not found:
        Notes().note(f"There is no run in {folder}; fit-prior makes one.")
        return
    columns = left("run", "data", "σ", "stages", "bound", "size", "age")
    rows = [_row(each) for each in found]
    print_table(Table(f"runs in {folder}", columns, [rows], _damage(found)))


@verbs.command("show")
@by_first
def show(run: _Run, as_json: options.Json = False) -> None:
    """Show one: each stage, its held-out loss, and the command that fits it or goes on with it."""
    from smoothctl.reporting.tables import MISSING, Table, left, print_table, say
    from smoothctl.runs.folders import summary

    found = summary(run)
    facts = _facts(found)
    if as_json:
        print_json(facts)
        return
    about = [
        [key, MISSING if value is None else str(value)]
        for key, value in facts.items()
        if not isinstance(value, dict)
    ]
    print_table(Table("", left("", ""), [about]))
    columns = left("stage", "architecture", "steps", "validation")
    rows = [
        [each.name, each.config.architecture, _steps(each), _validation(each)]
        for each in found.stages
    ]
    print_table(Table("stages", columns, [rows], _damage([found])))
    say(*(f"$ {each['command']}" for each in facts["stages"].values()))


@verbs.command("rm")
@by_first
def rm(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Run folders.", autocompletion=completion.runs),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs, weights, samples and all, after a question."""
    from smoothctl.reporting.tables import say
    from smoothctl.runs.folders import remove_run, summary

    found = [summary(folder) for folder in folders]
    for each in found:
        if not yes and not _agreed(each):
            continue
        remove_run(each.path)
        say(f"Removed {each.path}.")


@verbs.command("rename")
@by_first
def rename(
    run: _Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name, or a path.")],
) -> None:
    """Give a run another name."""
    from smoothctl.reporting.tables import say
    from smoothctl.runs.folders import rename_run

    say(str(rename_run(run, name)))


def _agreed(found: "RunSummary") -> bool:
    """Asks whether a run may go.

    Raises:
        UsageError: nobody is there to be asked.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"Nobody is there to be asked whether {found.path} may go: say --yes.")
    stages = ", ".join(f"{each.name} {_steps(each)}" for each in found.stages)
    return typer.confirm(f"Remove {found.path} ({stages}; {_size(found.size)})?", err=True)


def _row(found: "RunSummary") -> list[str]:
    from smoothctl.reporting.tables import MISSING, duration

    config = found.config
    stages = ", ".join(each.name + _unfinished(each) for each in found.stages)
    return [
        str(found.path),
        MISSING if config is None else config.dataset,
        f"{config.sigma:g}" if config is not None and config.sigma else MISSING,
        stages or MISSING,
        _bound(found) or MISSING,
        _size(found.size),
        duration(max(0.0, time.time() - found.changed)),
    ]


def _facts(found: "RunSummary") -> dict[str, Any]:
    """Returns what JSON says of a run."""
    from smoothctl.runs.commands import fit_command

    config = found.config
    prior = next((each.config for each in found.stages if each.name == "prior"), None)
    stages = {
        each.name: {
            "architecture": each.config.architecture,
            "complete": each.complete,
            "done": each.done,
            "steps": each.config.training.steps,
            "validation (nats)": each.validation,
            "command": shlex.join(fit_command(each.config, found.path, prior)),
        }
        for each in found.stages
    }
    return {
        "run": str(found.path),
        "data": None if config is None else config.dataset,
        "kernel": None if config is None else config.kernel,
        "sigma": None if config is None else config.sigma,
        "bound": _bound(found),
        "bytes": found.size,
        "changed": time.strftime("%Y-%m-%d %H:%M", time.localtime(found.changed)),
        "stages": stages,
    }


def _bound(found: "RunSummary") -> str | None:
    """Returns how likely test data were found last, by both steps or else the plain model."""
    from smoothctl.errors import RunError
    from smoothctl.evaluation.measurements import OF_RUNS, rows_of_run
    from smoothctl.evaluation.records import read_scores

    try:
        rows = rows_of_run(read_scores(found.path), "")
    except RunError:
        return None
    for measure in OF_RUNS[:2]:
        for row in rows:
            if (cell := row.cells.get(measure.key)) is not None and row.kind == "measured":
                unit = measure.heading.removeprefix("−log p, ")
                return f"{'≤ ' * (cell.bound > 0)}{cell.value:.{measure.digits}f} {unit}"
    return None


def _steps(stage: "StageSummary") -> str:
    return f"{stage.config.training.steps:,}" if stage.complete else _unfinished(stage).strip()


def _unfinished(stage: "StageSummary") -> str:
    """Returns how far a stage is that is not complete."""
    return "" if stage.complete else f" {stage.done:,} of {stage.config.training.steps:,}"


def _validation(stage: "StageSummary") -> str:
    """Returns the best held-out loss, in the unit that fits tell it in."""
    from smoothctl.reporting.tables import MISSING
    from smoothctl.runs.models import loss_unit

    if stage.validation is None:
        return MISSING
    return loss_unit(stage.config).text(stage.validation)


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _damage(found: "list[RunSummary]") -> list[str]:
    return [sentence for each in found for sentence in each.damage]
