"""`smoothctl sigma-heuristic`."""

from typing import Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import print_json, print_table

__all__ = ["command"]


def command(
    dataset: Annotated[
        str, typer.Option("--dataset", help="Registered name, or an .npy or .npz file of vectors.")
    ] = "rings",
    seed: options.Seed = 0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=1e-4, max=1.0, help="Relative standard error.")
    ] = 0.005,
    as_json: options.Json = False,
) -> None:
    """Suggest sigma: the median distance between two data points over 2√D (ARDS app. C.1)."""
    from smoothctl.datasets import open_dataset
    from smoothctl.metrics.sigma import sigma_heuristic

    data = open_dataset(dataset)
    estimate = sigma_heuristic(data, seed, tolerance)
    result = {
        "dataset": data.name,
        "sigma": estimate.sigma,
        "standard_error": estimate.standard_error,
        "pairs": estimate.pairs,
        "exact": estimate.exact,
        "suggested_sigma": data.suggested_sigma,
        "seed": seed,
    }
    if as_json:
        print_json(result)
        return
    from rich.table import Table

    table = Table(title=f"sigma for {data.name}", title_justify="left", show_header=False)
    how = "all pairs" if estimate.exact else f"± {estimate.standard_error:.4f}"
    table.add_row("heuristic", f"{estimate.sigma:.4f}", f"{how}, {estimate.pairs} pairs")
    if data.suggested_sigma is not None:
        table.add_row("suggested for this dataset", f"{data.suggested_sigma:g}", data.source)
    print_table(table)
