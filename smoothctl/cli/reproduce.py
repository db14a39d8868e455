"""`smoothctl reproduce`."""

from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated

import typer

from smoothctl.cli import completion, options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.registries import print_rows, rows_of
from smoothctl.errors import UsageError
from smoothctl.reporting.tables import say

if TYPE_CHECKING:
    from smoothctl.reproduce.base import Experiment, Result, Row

__all__ = ["command"]


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Which experiment, or package:name; without one, they are listed.",
            autocompletion=completion.names("experiments"),
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Comma-separated seeds.")] = "0,1,2",
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
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the runs; complete ones are not fitted again.")
    ] = Path("runs/reproduce"),
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Reproduce a figure or table of the papers, and say which claims hold.

    A claim that the measurement refutes is a result, not a failure: the exit code stays 0.
    """
    from smoothctl.reproduce import registry

    if name is None:
        rows = rows_of(registry)
        if as_json:
            names = [row["name"] for row in rows]
            print_json({_key(row, names): row for row in rows})
        else:
            print_rows("experiments", rows)
        return
    entry = registry.find(name)
    experiment: Experiment = registry.load_entry(entry)
    from smoothctl.reproduce.base import Budget
    from smoothctl.smoothing.bounds import check_draws
    from smoothctl.storage.files import write_json

    if draws is not None:
        check_draws([draws])
    if dataset is not None and not experiment.takes_dataset:
        raise UsageError(f"The experiment {entry.name} has data of its own: leave --dataset out.")

    folder = out / entry.name
    budget = Budget(steps_factor, examples, draws, dataset)
    result = experiment.run(folder, _seeds(seeds), budget, Notes(quiet))
    write_json(folder / "result.json", result.to_dict())
    print_json(result.to_dict()) if as_json else _print_result(result, experiment)


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
    from smoothctl.reporting.tables import Table, left, print_table, right

    figures = list(dict.fromkeys(key for row in result.rows for key in row.figures))
    columns = [*left("model"), *right("parameters", *figures)]
    rows = [[row.model, str(row.parameters), *_cells(row, figures)] for row in result.rows]
    if any(row.reference for row in result.rows):
        columns += left("reference")
        rows = [[*cells, row.reference] for cells, row in zip(rows, result.rows, strict=True)]
    seeds = "seeds " + ", ".join(map(str, result.seeds))
    equal = [f"equal: {experiment.equal}"] if experiment.equal else []
    title = f"{result.name}: {'; '.join([experiment.source, *equal, seeds])}"
    print_table(Table(title, columns, [rows]))
    for what, value in result.truth.items():
        say(f"{what}: {value:.3f}")
    for claim in result.claims:
        verdict = "holds" if claim.holds else "REFUTED"
        say(f"{verdict}: {claim.statement} ({claim.measured})")
    for picture in result.pictures:
        say(str(picture))


def _cells(row: "Row", headings: list[str]) -> list[str]:
    """Returns 'mean ± half the range over seeds' of each figure."""
    every = [row.figures.get(heading) or [] for heading in headings]
    spreads = [f" ± {(max(v) - min(v)) / 2:.3f}" if len(v) > 1 else "" for v in every]
    return [f"{mean(v):.3f}{s}" if v else "" for v, s in zip(every, spreads, strict=True)]
