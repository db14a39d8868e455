"""`smoothctl inpaint`."""

from pathlib import Path
from typing import Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes
from smoothctl.cli.targets import (
    Target,
    default_name,
    open_run,
    read_input,
    sampler_settings,
    save_rows,
)

__all__ = ["command"]


def command(
    images: options.Input,
    run: options.RunFolder = None,
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            help="What is missing: bottom-half (so that the top half is given), top-half, "
            "left-half, right-half or centre; or an image of the run's size: white is known, "
            "black is missing.",
        ),
    ] = "bottom-half",
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="two-step, single-step (the prior completes x̃, and E[x|x̃] is taken), or baseline "
            "for the unsmoothed model.",
            show_default="the best that the run allows",
        ),
    ] = None,
    draws: options.Draws = 4,
    n: options.FirstOfInput = None,
    label: options.Label = None,
    assignments: options.SamplerSettings = None,
    batch_size: options.DrawnAtOnce = None,
    seed: options.Seed = 0,
    weights: options.WeightsChoice = options.WeightsName.last,
    device: options.Device = options.DeviceChoice.auto,
    out: options.OutFile = None,
    overwrite: options.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Draw the missing part of images (ARDS appendix C.2); known pixels stay exactly as they are.

    Each pixel is drawn given those before it in reading order, so that a missing bottom half is
    conditioned on all that is known. Written are `images`, `known` and `samples` (n, draws, …),
    and a picture with a row for each image.
    """
    from smoothctl.datasets.pictures import read_mask
    from smoothctl.errors import NotAvailable
    from smoothctl.sampling.draw import event_shape, is_image_run
    from smoothctl.sampling.restoring import inpaint, inpainting_method

    notes, sampler = Notes(quiet), sampler_settings(assignments)
    opened = open_run(run, weights.value, device.value, notes, sampler)
    if not is_image_run(opened):
        raise NotAvailable(f"{opened.path} models vectors: inpainting is for images.")
    known = read_mask(mask, event_shape(opened))
    method = method or inpainting_method(opened)
    parts = ("inpainted", Path(images).stem, Path(mask).stem, method, f"{draws}-draws")
    file = opened.samples_file(default_name(opened, *parts, seed=seed, label=label))
    target = Target(out or file, overwrite or out is None, notes, as_json)
    target.check(picture_alone=True)
    x, labels = read_input(opened, images, n, label, ("samples",), 1.0)
    with target.held():
        with notes.work() as progress:
            told = progress("inpaint")
            result = inpaint(
                opened, x, known, draws, method, seed, told, labels=labels, batch_size=batch_size
            )
        target.save(result._asdict())
        rows = {
            "given": result.images.cpu().where(known, 0.0),
            "draws of the rest": result.samples,
        }
        about = {
            "run": str(opened.path),
            "input": images,
            "mask": mask,
            "method": method,
            "sampler": sampler,
            "n": len(x),
            "draws": draws,
            "seed": seed,
            "weights": weights.value,
        }
        target.tell(about, save_rows(rows, target.picture))
