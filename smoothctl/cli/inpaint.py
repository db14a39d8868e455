"""`smoothctl inpaint`."""

from pathlib import Path
from typing import Annotated

import typer

from smoothctl.cli import drawing, options
from smoothctl.cli.console import Notes, work

__all__ = ["command"]


def command(
    images: drawing.Input,
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
    draws: drawing.Draws = 4,
    n: drawing.First = None,
    label: drawing.Label = None,
    assignments: options.SamplerSettings = None,
    batch_size: drawing.BatchSize = None,
    seed: options.Seed = 0,
    weights: options.WeightsChoice = options.WeightsName.last,
    device: options.Device = options.DeviceChoice.auto,
    out: drawing.OutFile = None,
    overwrite: drawing.OverwriteFiles = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Draw the missing part of images (ARDS appendix C.2); known pixels stay exactly as they are.

    Each pixel is drawn given those before it in reading order, so that a missing bottom half is
    conditioned on all that is known. Written are `images`, `known` and `samples` (n, draws, …),
    and a picture with a row for each image.
    """
    from smoothctl.cli.fitting import sampler_settings
    from smoothctl.cli.opening import open_run
    from smoothctl.datasets.pictures import read_mask
    from smoothctl.errors import NotAvailable
    from smoothctl.sampling.draw import event_shape, is_image_run
    from smoothctl.sampling.inpainting import inpaint, inpainting_method
    from smoothctl.sampling.output import check_target, save_arrays
    from smoothctl.smoothing.batching import Execution

    notes = Notes(quiet)
    sampler = sampler_settings(assignments)
    opened = open_run(run, weights.value, device.value, notes, sampler)
    if not is_image_run(opened):
        raise NotAvailable(f"{opened.path} models vectors: inpainting is for images.")
    known = read_mask(mask, event_shape(opened))
    chosen = method or inpainting_method(opened)
    parts = ["inpainted", Path(images).stem, Path(mask).stem, chosen, f"{draws}-draws"]
    parts += drawing.named(sampler)
    name = drawing.default_name(*parts, weights=weights.value, seed=seed, label=label)
    path = out or opened.samples_file(name)
    check_target(path, overwrite or out is None, picture_alone=True)
    x, labels = drawing.read_input(opened, images, n, label, ("samples",), 1.0)
    with drawing.held(path, notes, lambda: f"Stopped before {path} was written."):
        with work(quiet) as progress:
            execution = Execution(batch_size, progress("inpaint"))
            found = inpaint(opened, x, known, draws, chosen, seed, labels, execution)
        result = {
            "run": str(opened.path),
            "input": images,
            "mask": mask,
            "method": chosen,
            "sampler": sampler,
            "n": len(x),
            "draws": draws,
            "seed": seed,
            "weights": weights.value,
        }
        blocks = {
            "given": found.images.cpu().where(known, 0.0),
            "draws of the rest": found.samples,
        }
        drawing.print_files(
            result,
            path,
            lambda file: save_arrays(file, found._asdict()),
            lambda file: drawing.show_rows(blocks, file),
            as_json,
        )
