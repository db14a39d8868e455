"""What the verbs that judge images share: options, and opening the sets that they name."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli.options import DATASET_HELP
from smoothctl.errors import RunError, SmoothctlError, UsageError

if TYPE_CHECKING:
    from smoothctl.metrics.image_sets import ImageSet

__all__ = [
    "Download",
    "FeatureName",
    "FeatureSha256",
    "FeatureWeights",
    "Reference",
    "ReferenceSettings",
    "RunOrImages",
    "SkipCorruptImages",
    "Split",
    "device_name",
    "is_run",
    "needs_reference",
    "open_reference",
    "open_set",
    "open_test",
    "refuse_options_of_runs",
]

_PANEL = "Comparing images"

RunOrImages = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN|IMAGES]",
        help="Run folder, the newest under runs/ if none; or images: a folder, an .npz or .npy "
        "file, FILE.npz:ARRAY, or what --dataset takes.",
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="IMAGES",
        help="Images to compare with. " + DATASET_HELP,
        show_default="a run's training images",
        rich_help_panel=_PANEL,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Split of the reference: train, validation or test.",
        show_default="train; all of what has none",
        rich_help_panel=_PANEL,
    ),
]
ReferenceSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="KEY=VALUE",
        help="A setting of the reference (size=32, crop=140, grey=true); repeat it for more.",
        rich_help_panel=_PANEL,
    ),
]
SkipCorruptImages = Annotated[
    bool,
    typer.Option(
        "--skip-corrupt",
        help="Leave out images that cannot be decoded, and say how many.",
        rich_help_panel=_PANEL,
    ),
]
FeatureName = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Feature extractor (see 'smoothctl features list').",
        show_default="inception if its weights are at hand, else classifier if the reference has "
        "labels, else pixels",
        rich_help_panel=_PANEL,
    ),
]
FeatureWeights = Annotated[
    Path | None,
    typer.Option(
        "--feature-weights",
        metavar="FILE",
        help="The extractor's weights.",
        show_default="$SMOOTHCTL_INCEPTION, else the user's cache",
        rich_help_panel=_PANEL,
    ),
]
FeatureSha256 = Annotated[
    str | None,
    typer.Option(
        "--feature-sha256",
        metavar="HEX",
        help="What that file's SHA-256 must be.",
        show_default="that of the published file",
        rich_help_panel=_PANEL,
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download",
        help="Let the extractor fetch its weights into the user's cache.",
        rich_help_panel=_PANEL,
    ),
]

Note = Callable[[str], None]


def is_run(text: str) -> bool:
    """Returns whether a path is a run folder, complete or not, rather than images."""
    from smoothctl.runs.run import STAGES, Run

    run = Run(Path(text))
    return any(run.stage(name).started or run.stage(name).fitted for name in STAGES)


def needs_reference(target: str) -> SmoothctlError:
    """Returns the error for what is no run, where no reference is named."""
    from smoothctl import datasets

    if Path(target).exists() or target in datasets.names():
        return UsageError(
            f"{target} is no run folder: name the images to compare with by --reference "
            "NAME_OR_PATH."
        )
    return RunError(f"There is no run folder {target}; fit-prior makes one.")


def open_set(text: str, skip_corrupt: bool, note: Note) -> "ImageSet":
    """Opens the images to be judged, all of them.

    Raises:
        UsageError: an unknown name.
        DataError: fewer than two images, of several sizes, or damaged.
    """
    from smoothctl.metrics.image_sets import open_images

    return open_images(text, None, _settings(None, skip_corrupt, text), note)


def open_reference(
    text: str | None, split: str | None, data: list[str] | None, skip_corrupt: bool, note: Note
) -> "ImageSet | None":
    """Opens what images are compared with; None where none is named.

    Raises:
        UsageError: an unknown name, split or setting, or settings without a reference.
        DataError: fewer than two images, of several sizes, or damaged.
    """
    from smoothctl.metrics.image_sets import open_images

    if text is None:
        for option, given in (("--split", split), ("--data", data)):
            if given:
                raise UsageError(f"{option} is of the reference: name one with --reference.")
        return None
    return open_images(text, split, _settings(data, skip_corrupt, text), note)


def open_test(
    text: str | None, split: str | None, data: list[str] | None, skip_corrupt: bool, note: Note
) -> "ImageSet | None":
    """Opens the test images beside a reference of training images; None where there are none."""
    from smoothctl.metrics.image_sets import open_images

    if text is None or split not in (None, "train"):
        return None
    try:
        return open_images(text, "test", _settings(data, skip_corrupt, text), note)
    except UsageError:
        return None


def refuse_options_of_runs(context: typer.Context, target: str, names: Iterable[str]) -> None:
    """Checks that no option was given that means nothing for a set of images.

    Args:
        context: of the command.
        target: the images.
        names: the parameters.

    Raises:
        UsageError: one of them was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(p.opts[0] for p in context.command.params if p.name == name)
            raise UsageError(f"{option} is for runs, and {target} is no run folder: leave it out.")


def device_name(device: str) -> str:
    """Returns "cuda" where --device auto finds one, and "cpu" otherwise."""
    import torch

    return "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"


def _settings(data: list[str] | None, skip_corrupt: bool, text: str) -> dict[str, Any]:
    """Returns settings of a dataset; what is registered by name has no files to be corrupt."""
    from smoothctl import datasets
    from smoothctl.cli.fitting import data_settings

    return data_settings(data, skip_corrupt and datasets.is_local(text))
