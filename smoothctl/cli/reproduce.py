"""`smoothctl reproduce`."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smoothctl.cli import completion, options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.registries import rows_of
from smoothctl.errors import Interrupted, RunError, SmoothctlError, UsageError
from smoothctl.reporting.tables import say

if TYPE_CHECKING:
    from smoothctl.registry.registry import Registry
    from smoothctl.reproduce.base import Budget, Experiment, Result

__all__ = ["command"]

_ALL, _SEEDS = "all", "0,1,2"
_UNITS = {"h": 60.0, "min": 1.0, "m": 1.0}


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Which experiment, or package:name; 'all' that fit --budget; without one, they "
            "are listed.",
            autocompletion=completion.names("experiments"),
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Comma-separated seeds.")] = _SEEDS,
    steps_factor: Annotated[
        float,
        typer.Option("--steps-factor", min=1e-4, max=1e3, help="Factor on all training steps."),
    ] = 1.0,
    examples: Annotated[int, typer.Option("--limit", min=2, help="Test examples.")] = 10_000,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            min=1,
            help="Draws K of the importance-weighted bound.",
            show_default="256; 16 for images",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", help="Where the data are, of an experiment that leaves them to you."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Of 'all': run those that take as long together: 2h, 90min."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown",
            help="Write what is stored in --out as a page, PAGE.md, with its pictures in a folder, "
            "PAGE; runs nothing.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the runs; complete ones are not fitted again.")
    ] = Path("runs/reproduce"),
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Reproduce a figure or table of the papers, and say which claims hold.

    A claim that the measurement refutes is a result, not a failure: the exit code stays 0.
    """
    if (budget is None) == (name == _ALL):
        raise UsageError("--budget, such as 2h, goes with 'all', and 'all' with --budget.")
    if name == _ALL and dataset is not None:
        raise UsageError("'all' runs experiments with data of their own: leave --dataset out.")
    if name is None and markdown is None:
        _list(as_json)
        return
    if markdown is not None:
        _write_page(markdown, out, name is None and not as_json, Notes(quiet))
        return
    from smoothctl.reproduce.base import Budget
    from smoothctl.smoothing.bounds import check_draws

    if draws is not None:
        check_draws([draws])
    given, every = Budget(steps_factor, examples, draws, dataset), _seeds(seeds)
    notes = Notes(quiet)
    chosen = [_find(str(name), given)] if budget is None else _within(budget, given, every, notes)
    results, failed = {}, {}
    for experiment in chosen:
        try:
            result = _run(experiment, out, every, given, notes)
        except SmoothctlError as error:  # the others may do better
            if name != _ALL or isinstance(error, Interrupted):
                raise
            failed[experiment.name] = str(error)
            continue
        results[experiment.name] = result.to_dict()
        if not as_json:
            _print_result(result, experiment)
    if as_json:
        print_json(results if name == _ALL else results.popitem()[1])
    if failed:
        reasons = (f"{name}: {reason}" for name, reason in failed.items())
        raise RunError(f"Not all could be run. {' '.join(reasons)}")


def _list(as_json: bool) -> None:
    """Prints every experiment in the papers' order, with what it takes; broken ones last."""
    from smoothctl.reporting.tables import Table, left, print_table, right
    from smoothctl.reproduce.page import cost

    rows = rows_of(_registry())
    if as_json:
        names = [row["name"] for row in rows]
        print_json({_key(row, names): row for row in rows})
        return
    columns = [*left("name", "what it shows", "where"), *right("two cores")]
    cells = [[e.name, e.summary, e.source, cost(e)] for e in _experiments()]
    cells += [[str(row["name"]), str(row["error"]), "", ""] for row in rows if row["error"]]
    print_table(Table("experiments", columns, [cells]))


def _registry() -> "Registry[Experiment]":
    from smoothctl.reproduce import registry

    return registry


def _experiments() -> "list[Experiment]":
    """Returns those that can be loaded, in the papers' order."""
    found = []
    for entry in _registry().entries():
        with suppress(UsageError):
            found.append(_registry().load_entry(entry))
    return sorted(found, key=lambda experiment: experiment.place)


def _find(name: str, budget: "Budget") -> "Experiment":
    entry = _registry().find(name)
    experiment = _registry().load_entry(entry)
    if budget.dataset is not None and not experiment.takes_dataset:
        raise UsageError(f"The experiment {entry.name} has data of its own: leave --dataset out.")
    return experiment


def _within(budget: str, given: "Budget", seeds: Sequence[int], notes: Notes) -> "list[Experiment]":
    """Returns the experiments that take so long together, the first of the papers first."""
    left, chosen = _minutes(budget), []
    for experiment in _experiments():
        minutes = experiment.minutes
        if minutes is None or experiment.gpu:
            continue
        needed = minutes * given.steps * len(seeds) / 3
        if needed <= left:
            chosen.append(experiment)
            left -= needed
    if not chosen:
        raise UsageError(f"No experiment takes so little: --budget {budget} is too short.")
    notes.note(f"Runs {', '.join(experiment.name for experiment in chosen)}.")
    return chosen


def _minutes(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(h|min|m)", text.strip())
    if match is None:
        raise UsageError(f"--budget takes a time such as 2h or 90min, not '{text:.80}'.")
    return float(match[1]) * _UNITS[match[2]]


def _run(
    experiment: "Experiment", out: Path, seeds: Sequence[int], budget: "Budget", notes: Notes
) -> "Result":
    """Runs an experiment and stores what it found, with the command that did."""
    from smoothctl.reproduce.page import store

    folder = out / experiment.name
    found = experiment.run(folder, seeds, budget, notes)
    again = _again(experiment, seeds, budget)
    result = replace(found, command=again, dataset=budget.dataset or "")
    store(result, folder)
    return result


def _again(experiment: "Experiment", seeds: Sequence[int], budget: "Budget") -> str:
    """Returns the command that runs an experiment so."""
    from smoothctl.reproduce.base import Budget

    usual = Budget()
    options = {
        "--seeds": (",".join(map(str, seeds)), _SEEDS),
        "--steps-factor": (budget.steps, usual.steps),
        "--limit": (budget.examples, usual.examples),
        "--draws": (budget.draws, usual.draws),
        "--dataset": (budget.dataset, usual.dataset),
    }
    said = [
        word
        for key, (value, default) in options.items()
        if value != default
        for word in (key, f"{value}")
    ]
    return shlex.join(["smoothctl", "reproduce", experiment.name, *said])


def _write_page(file: Path, out: Path, alone: bool, notes: Notes) -> None:
    """Writes what is stored as a page, and copies its pictures beside it."""
    from smoothctl.reproduce.page import write_page

    if not alone:
        raise UsageError("--markdown runs no experiment: leave the name and --json out.")
    if not file.suffix:
        raise UsageError(f"--markdown takes a file such as {file.name or 'results'}.md.")
    write_page(file, out, _experiments(), notes.note)
    say(str(file))


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds takes different whole numbers such as 0,1,2, not '{text:.80}'.")
    return seeds


def _key(row: dict[str, str | None], names: list[str | None]) -> str:
    """Returns what to type for an experiment: package:name where several packages have it."""
    shared = names.count(row["name"]) > 1
    return f"{row['package']}:{row['name']}" if shared else str(row["name"])


def _print_result(result: "Result", experiment: "Experiment") -> None:
    from smoothctl.reporting.tables import print_table
    from smoothctl.reproduce.page import result_table

    print_table(result_table(experiment, result))
    for what, value in result.truth.items():
        say(f"{what}: {value:.3f}")
    for claim in result.claims:
        verdict = "holds" if claim.holds else "REFUTED"
        published = f"; published: {claim.published}" if claim.published else ""
        say(f"{verdict}: {claim.statement} ({claim.measured}{published})")
    for picture in result.pictures:
        say(picture)
