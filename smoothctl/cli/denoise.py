"""`smoothctl denoise`."""

from pathlib import Path
from typing import Annotated

import typer

from smoothctl.cli import drawing, options
from smoothctl.cli.console import Notes, work

__all__ = ["command"]


def command(
    events: drawing.Input,
    run: options.RunFolder = None,
    add_noise: Annotated[
        bool,
        typer.Option(
            "--add-noise",
            help="The input is clean: smooth it with the run's kernel first, as --seed says.",
        ),
    ] = False,
    draws: drawing.Draws = 4,
    n: drawing.First = None,
    label: drawing.Label = None,
    batch_size: drawing.BatchSize = None,
    seed: options.Seed = 0,
    weights: options.WeightsChoice = options.WeightsName.last,
    device: options.Device = options.DeviceChoice.auto,
    out: drawing.OutFile = None,
    overwrite: drawing.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Denoise images or vectors: draws of x given x̃, beside the single-step mean.

    The input is taken as x̃, with the noise of the run's kernel and sigma in it; 'test' is clean
    and smoothed first, as with --add-noise. An .npz gives its array `smoothed` or `samples`, or
    its only one: bytes, or floats in units in which images span −1 to 1. Written are `smoothed`,
    `single_step` and `samples` (n, draws, …), and a picture with a row for each image.
    """
    from smoothctl.cli.opening import open_run
    from smoothctl.sampling.draw import is_image_run
    from smoothctl.sampling.inpainting import denoise, kernel_sigma, smooth
    from smoothctl.sampling.output import check_target, save_arrays
    from smoothctl.smoothing.batching import Execution

    notes = Notes(quiet)
    opened = open_run(run, weights.value, device.value, notes)
    parts = ("denoised", Path(events).stem, f"{draws}-draws")
    name = drawing.default_name(*parts, weights=weights.value, seed=seed, label=label)
    path = out or opened.samples_file(name)
    check_target(path, overwrite or out is None, picture_alone=is_image_run(opened))
    clean = add_noise or events == drawing.TEST
    keys = ("samples", "smoothed") if clean else ("smoothed", "samples")
    reach = 1.0 if clean else 1 + 20 * kernel_sigma(opened)
    x, labels = drawing.read_input(opened, events, n, label, keys, reach)
    x_smooth = smooth(opened, x, seed) if clean else x
    with drawing.held(path, notes, lambda: f"Stopped before {path} was written."):
        with work(quiet) as progress:
            execution = Execution(batch_size, progress("denoise"))
            found = denoise(opened, x_smooth, draws, seed, labels, execution)
        if found.single_step is None:
            notes.note("No single-step mean: this run's kernel has no usable form of it.")
        result = {
            "run": str(opened.path),
            "input": events,
            "noise_added": clean,
            "n": len(x),
            "draws": draws,
            "seed": seed,
            "weights": weights.value,
        }
        blocks = {
            "input": x if clean else None,
            "noisy x̃": found.smoothed,
            "E[x|x̃]": found.single_step,
            "draws x ~ p(x|x̃)": found.samples,
        }
        drawing.print_files(
            result,
            path,
            lambda file: save_arrays(file, found._asdict()),
            lambda file: drawing.show_rows(blocks, file),
            as_json,
        )
