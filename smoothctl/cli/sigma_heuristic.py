"""`smoothctl sigma-heuristic`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli import completion, options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.targets import data_settings, open_run
from smoothctl.errors import UsageError

if TYPE_CHECKING:
    from smoothctl.datasets.base import Dataset
    from smoothctl.evaluation.learned_sigma import LearnedSigma
    from smoothctl.metrics.sigma import SigmaEstimate
    from smoothctl.runs.run import Run

__all__ = ["command"]


def command(
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help=options.DATASET_HELP,
            show_default="that of --learned",
            autocompletion=completion.datasets,
        ),
    ] = None,
    data: options.DataSettings = None,
    skip_corrupt: options.SkipCorrupt = False,
    seed: options.Seed = 0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=1e-4, max=1.0, help="Relative standard error.")
    ] = 0.005,
    learned: Annotated[
        Path | None,
        typer.Option(
            "--learned",
            metavar="RUN",
            help="A run that takes sigma as an input (lowest_sigma): also the sigma with its best "
            "bound, which is what learning sigma leads to (ARDS section 3.3).",
            autocompletion=completion.runs,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Suggest sigma: the median distance between two data points over 2√D (ARDS app. C.1).

    Where the spreads of a table's columns differ by more than a factor of 3, sigma is in units of
    each one's spread, as fit-prior takes it. A registered dataset that cannot be
    reached has the sigma that was published for it, if there is one.
    """
    from smoothctl.errors import DataError
    from smoothctl.metrics.sigma import sigma_heuristic
    from smoothctl.metrics.spreads import differ, spreads

    notes = Notes()
    run = None if learned is None else open_run(learned, "last", "cpu", notes, dataset=dataset)
    try:
        opened = _opened(dataset, data_settings(data, skip_corrupt), run, notes)
    except DataError as error:
        if dataset is None or not _say_published(dataset, as_json):
            raise
        notes.note(str(error))
        return
    scale = spreads(opened) if opened.domain == "vector" else None
    if scale is not None and not differ(scale):
        scale = None
    estimate = sigma_heuristic(opened, seed, tolerance, scale=scale)
    best = None if run is None else _learned(run, seed, notes)
    result = {
        "dataset": opened.name,
        "sigma": estimate.sigma,
        "scale": scale,
        "standard_error": estimate.standard_error,
        "pairs": estimate.pairs,
        "exact": estimate.exact,
        "suggested_sigma": opened.suggested_sigma,
        "seed": seed,
        **({} if best is None else {"learned": asdict(best)}),
    }
    if as_json:
        print_json(result)
        return
    _print(opened, estimate, scale, best)


def _print(
    opened: "Dataset",
    estimate: "SigmaEstimate",
    scale: "tuple[float, ...] | None",
    best: "LearnedSigma | None",
) -> None:
    """Prints the table of what there is to choose from."""
    from smoothctl.reporting.tables import Table, left, print_table

    how = "all pairs" if estimate.exact else f"± {estimate.standard_error:.4f}"
    rows = [["heuristic", f"{estimate.sigma:.4f}", f"{how}, {estimate.pairs} pairs"]]
    if scale is not None:
        rows.append(["unit", "each column's spread", f"{min(scale):g} to {max(scale):g}"])
    if opened.suggested_sigma is not None:
        rows.append([opened.suggestion, f"{opened.suggested_sigma:g}", opened.source])
    if best is not None:
        found = f"{best.nats:.4f} nats of {best.examples} training examples"
        rows.append(["learned by the bound", f"{best.sigma:g}", found])
    print_table(Table(f"sigma for {opened.name}", left("", "", ""), [rows]))


def _opened(
    dataset: str | None, settings: dict[str, Any], run: "Run | None", notes: Notes
) -> "Dataset":
    """Opens the dataset that was named, or a run's.

    Raises:
        UsageError: there is neither, or both and they disagree.
    """
    from smoothctl.datasets import open_dataset

    if run is not None:
        if settings:
            raise UsageError("The data of --learned have the settings of its fits: drop --data.")
        return run.dataset()
    if dataset is None:
        raise UsageError("Name the data: --dataset rings; or --learned RUN, for those of a run.")
    return open_dataset(dataset, settings, notes.note)


def _learned(run: "Run", seed: int, notes: Notes) -> "LearnedSigma":
    """Returns the σ with the best bound, and says where that may not be the best of all."""
    from smoothctl.evaluation.learned_sigma import learned_sigma

    best = learned_sigma(run, seed)
    if best.at_an_end:
        notes.note(
            f"The best sigma may lie outside of {best.lowest:g} to {best.highest:g}, which "
            f"{run.path} knows."
        )
    return best


def _say_published(dataset: str, as_json: bool) -> bool:
    """Prints the sigma that was published for a dataset; returns whether there is one."""
    from smoothctl import datasets
    from smoothctl.reporting.tables import Table, left, print_table

    if datasets.is_local(dataset) or not datasets.registry.declares(dataset):
        return False
    cls = datasets.load(dataset)
    if cls.suggested_sigma is None:
        return False
    if as_json:
        print_json({"dataset": cls.name, "sigma": None, "suggested_sigma": cls.suggested_sigma})
    else:
        rows = [[cls.suggestion, f"{cls.suggested_sigma:g}", cls.source]]
        print_table(Table(f"sigma for {cls.name}", left("", "", ""), [rows]))
    return True
