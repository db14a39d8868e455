"""`smoothctl denoise`."""

from pathlib import Path
from typing import Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes
from smoothctl.cli.targets import (
    TEST,
    Target,
    default_name,
    open_run,
    read_input,
    sampler_settings,
)

__all__ = ["command"]


def command(
    events: options.Input,
    run: options.RunFolder = None,
    add_noise: Annotated[
        bool,
        typer.Option(
            "--add-noise",
            help="The input is clean: smooth it with the run's kernel first, as --seed says.",
        ),
    ] = False,
    sigma: options.ChosenSigma = None,
    draws: options.Draws = 4,
    n: options.FirstOfInput = None,
    label: options.Label = None,
    batch_size: options.DrawnAtOnce = None,
    seed: options.Seed = 0,
    weights: options.Weights = "last",
    device: options.Device = "auto",
    dataset: options.RunData = None,
    out: options.OutFile = None,
    overwrite: options.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Denoise images or vectors: draws of x given x̃, beside the single-step mean.

    The input is taken as x̃, with the noise of the run's kernel and sigma in it; 'test' is clean
    and smoothed first, as with --add-noise. An .npz gives its array `smoothed` or `samples`, or
    its only one: bytes, or floats in units in which images span −1 to 1. Written are `smoothed`,
    `single_step` and `samples` (n, draws, …), and a picture with a row for each image.
    """
    from smoothctl.sampling.draw import is_image_run, samples_key
    from smoothctl.sampling.inpainting import denoise, kernel_sigma, smooth
    from smoothctl.smoothing.batching import Execution

    notes = Notes(quiet)
    opened = open_run(run, weights, device, notes, sampler_settings(None, sigma), dataset)
    parts = ("denoised", Path(events).stem, f"{draws}-draws")
    file = opened.samples_file(default_name(opened, *parts, seed=seed, label=label))
    target = Target(out or file, overwrite or out is None, notes, as_json)
    chosen = {"input": events, "noise": add_noise, "n": n, "draws": draws, "seed": seed}
    kept = target.kept({**samples_key(opened), **chosen, "label": label})
    target = target.again(kept)
    target.check(picture_alone=is_image_run(opened))
    clean = add_noise or events == TEST
    keys = ("samples", "smoothed") if clean else ("smoothed", "samples")
    reach = 1.0 if clean else 1 + 20 * kernel_sigma(opened)
    x, labels = read_input(opened, events, n, label, keys, reach, seed)
    x_smooth = smooth(opened, x, seed) if clean else x
    with target.held():
        with notes.work() as progress:
            execution = Execution(batch_size, progress("denoise"), note=notes.note)
            result = denoise(opened, x_smooth, draws, seed, labels, execution)
        if result.single_step is None:
            notes.note("No single-step mean: this run's kernel has no usable form of it.")
        rows = {
            "input": x if clean else None,
            "noisy x̃": result.smoothed,
            "E[x|x̃]": result.single_step,
            "draws x ~ p(x|x̃)": result.samples,
        }
        about = {
            "run": str(opened.path),
            "input": events,
            "noise_added": clean,
            "sampler": dict(opened.sampler),
            "n": len(x),
            "draws": draws,
            "seed": seed,
            "weights": weights,
        }
        with target.writing(kept):
            target.save(result._asdict())
            target.tell(about, target.paint_rows(rows))
