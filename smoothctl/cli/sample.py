"""`smoothctl sample`."""

from pathlib import Path
from typing import Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json, work

__all__ = ["command"]


def command(
    run: options.RunFolder = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="two-step, single-step, smoothed or baseline.",
            show_default="the best that the run allows",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many samples.")] = 5000,
    seed: options.Seed = 0,
    weights: options.WeightsChoice = options.WeightsName.last,
    device: options.Device = options.DeviceChoice.auto,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The .npz file to write; a picture goes beside it for 1-d and 2-d data.",
            show_default="RUN/samples/METHOD-seedS-N.npz",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that --out names.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Draw samples from a run: an .npz file, and a picture for 1-d and 2-d data."""
    from smoothctl.cli.opening import open_run
    from smoothctl.errors import DataError, RunError
    from smoothctl.plots import save_samples_picture
    from smoothctl.sampling import available_methods, check_target, draw, save_samples

    notes = Notes(quiet)
    opened = open_run(run, weights.value, device.value, notes)
    chosen = method or available_methods(opened)[0]
    best = "-best" if weights.value == "best" else ""
    path = out or opened.path / "samples" / f"{chosen}{best}-seed{seed}-{n}.npz"
    check_target(path, overwrite or out is None)
    with work(quiet) as progress:
        drawn = draw(opened, chosen, n, seed, progress(chosen))
    save_samples(path, drawn)
    picture = None
    try:
        dataset = opened.dataset()
        picture = save_samples_picture(path.with_suffix(".png"), dataset, drawn, chosen)
    except (DataError, RunError) as error:
        notes.note(f"No picture beside the samples: {error}")
    result = {
        "run": str(opened.path),
        "method": chosen,
        "n": n,
        "seed": seed,
        "weights": weights.value,
        "samples": str(path),
        "picture": None if picture is None else str(picture),
    }
    if as_json:
        print_json(result)
    else:
        print(*(file for file in (path, picture) if file is not None), sep="\n")
