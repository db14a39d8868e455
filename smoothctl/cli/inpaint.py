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
)

__all__ = ["command"]


def command(
    images: options.Input,
    run: options.RunFolder = None,
    mask: Annotated[
        str | None,
        typer.Option(
            "--mask",
            help="What is missing. Of images: bottom-half (so that the top half is given), "
            "top-half, left-half, right-half or centre; or an image of the run's size: white is "
            "known, black is missing. Of vectors: last-half, or the numbers of columns, from 0, "
            "such as 1 or 0,2.",
            show_default="bottom-half of images, last-half of vectors",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="two-step, single-step (the prior completes x̃, whose posterior mean is taken), or "
            "baseline for the unsmoothed model.",
            show_default="the best that the run allows",
        ),
    ] = None,
    draws: options.Draws = 4,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            min=1,
            help="Completions that each draw is chosen from, by how likely they make all that is "
            "known; 1: what comes before each pixel counts alone (the paper's).",
            show_default="8, or 1 where the model cannot weigh them",
        ),
    ] = None,
    n: options.FirstOfInput = None,
    label: options.Label = None,
    sigma: options.ChosenSigma = None,
    assignments: options.SamplerSettings = None,
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
    """Draw what is missing of images or vectors (ARDS appendix C.2); what is known stays exactly.

    Each pixel is drawn given those before it in reading order, of vectors each column given those
    before it; what comes after counts as each draw is chosen among candidates. Written are
    `images`, `known` and `samples` (n, draws, …), and a picture with a row for each image.
    """
    from smoothctl.datasets.pictures import read_columns, read_mask
    from smoothctl.sampling.draw import event_shape, is_image_run, samples_key
    from smoothctl.sampling.inpainting import inpaint, inpainting_method, number_of_candidates
    from smoothctl.smoothing.batching import Execution

    notes, sampler = Notes(quiet), sampler_settings(assignments, sigma)
    opened = open_run(run, weights, device, notes, sampler, dataset)
    pictured = is_image_run(opened)
    if mask is None:
        mask = "bottom-half" if pictured else "last-half"
    known = (read_mask if pictured else read_columns)(mask, event_shape(opened))
    method = method or inpainting_method(opened)
    parts = ["inpainted", Path(images).stem, Path(mask).stem, method, f"{draws}-draws"]
    if candidates is not None:
        parts.append(f"{candidates}-candidates")
    file = opened.samples_file(default_name(opened, *parts, seed=seed, label=label))
    target = Target(out or file, overwrite or out is None, notes, as_json)
    chosen = {"input": images, "mask": mask, "method": method, "n": n, "draws": draws, "seed": seed}
    chosen |= {"candidates": candidates, "label": label}
    kept = target.kept({**samples_key(opened), **chosen})
    target = target.again(kept)
    target.check(picture_alone=pictured)
    x, labels = read_input(opened, images, n, label, ("samples",), 1.0, seed)
    with target.held():
        with notes.work() as progress:
            execution = Execution(batch_size, progress("inpaint"), note=notes.note)
            result = inpaint(opened, x, known, draws, method, seed, labels, execution, candidates)
        rows = {
            "input": result.images,
            "given": result.images.cpu().where(known, 0.0),
            "draws of the rest": result.samples,
        }
        about = {
            "run": str(opened.path),
            "input": images,
            "mask": mask,
            "method": method,
            "sampler": dict(opened.sampler),
            "n": len(x),
            "draws": draws,
            "candidates": number_of_candidates(opened, method, candidates),
            "seed": seed,
            "weights": weights,
        }
        with target.writing(kept):
            target.save(result._asdict())
            target.tell(about, target.paint_rows(rows))
