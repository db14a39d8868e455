"""`smoothctl sigma-heuristic`."""

from typing import Annotated

import typer

from smoothctl.cli import completion, options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.targets import data_settings

__all__ = ["command"]


def command(
    dataset: Annotated[
        str,
        typer.Option("--dataset", help=options.DATASET_HELP, autocompletion=completion.datasets),
    ],
    data: options.DataSettings = None,
    skip_corrupt: options.SkipCorrupt = False,
    seed: options.Seed = 0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=1e-4, max=1.0, help="Relative standard error.")
    ] = 0.005,
    as_json: options.Json = False,
) -> None:
    """Suggest sigma: the median distance between two data points over 2√D (ARDS app. C.1).

    Where the spreads of a table's columns differ by more than a factor of 3, sigma is in units of
    each one's spread, as fit-prior takes it. A registered dataset that cannot be
    reached has the sigma that was published for it, if there is one.
    """
    from smoothctl.datasets import open_dataset
    from smoothctl.errors import DataError
    from smoothctl.metrics.sigma import sigma_heuristic
    from smoothctl.metrics.spreads import differ, spreads

    try:
        opened = open_dataset(dataset, data_settings(data, skip_corrupt), Notes().note)
    except DataError as error:
        if not _say_published(dataset, as_json):
            raise
        Notes().note(str(error))
        return
    scale = spreads(opened) if opened.domain == "vector" else None
    if scale is not None and not differ(scale):
        scale = None
    estimate = sigma_heuristic(opened, seed, tolerance, scale=scale)
    result = {
        "dataset": opened.name,
        "sigma": estimate.sigma,
        "scale": scale,
        "standard_error": estimate.standard_error,
        "pairs": estimate.pairs,
        "exact": estimate.exact,
        "suggested_sigma": opened.suggested_sigma,
        "seed": seed,
    }
    if as_json:
        print_json(result)
        return
    from smoothctl.reporting.tables import Table, left, print_table

    how = "all pairs" if estimate.exact else f"± {estimate.standard_error:.4f}"
    rows = [["heuristic", f"{estimate.sigma:.4f}", f"{how}, {estimate.pairs} pairs"]]
    if scale is not None:
        rows.append(["unit", "each column's spread", f"{min(scale):g} to {max(scale):g}"])
    if opened.suggested_sigma is not None:
        rows.append([opened.suggestion, f"{opened.suggested_sigma:g}", opened.source])
    print_table(Table(f"sigma for {opened.name}", left("", "", ""), [rows]))


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
