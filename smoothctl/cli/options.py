"""The options that several verbs share, declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from smoothctl import __version__

__all__ = [
    "DATASET_HELP",
    "Architecture",
    "BatchSize",
    "Compile",
    "ConfigFile",
    "DataSettings",
    "DatasetName",
    "DenoiserOut",
    "Device",
    "FitPrecision",
    "FitSeed",
    "InitFrom",
    "Json",
    "KernelName",
    "LearningRate",
    "OnNan",
    "Out",
    "Overwrite",
    "Preset",
    "Quiet",
    "RunFolder",
    "SamplerSettings",
    "Seed",
    "Set",
    "Sigma",
    "SkipCorrupt",
    "Steps",
    "WeightsChoice",
    "version_option",
]


class PrecisionChoice(StrEnum):
    """Values of --precision."""

    float32 = "float32"
    float64 = "float64"
    bf16 = "bf16"


class OnNanChoice(StrEnum):
    """Values of --on-nan."""

    stop = "stop"
    skip = "skip"


class DeviceChoice(StrEnum):
    """Values of --device."""

    auto = "auto"
    cpu = "cpu"


class WeightsName(StrEnum):
    """Values of --weights."""

    last = "last"
    best = "best"


DATASET_HELP = (
    "Registered name (see 'smoothctl datasets list'); folder of images or of idx files; .csv, "
    ".tsv, .npz, .npy, idx, .parquet or .arrow file; or owner/name on the Hugging Face hub."
)
_WHAT, _HOW, _OUTPUT = "What to fit", "How to fit", "Output"

DatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help=DATASET_HELP,
        rich_help_panel=_WHAT,
    ),
]
DataSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="KEY=VALUE",
        help="A setting of the dataset (size=32, grey=true, columns=a,b); repeat it for more.",
        rich_help_panel=_WHAT,
    ),
]
SkipCorrupt = Annotated[
    bool,
    typer.Option(
        "--skip-corrupt",
        help="Leave out images that cannot be decoded, and say how many.",
        rich_help_panel=_WHAT,
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--arch", help="Architecture (see 'smoothctl architectures list').", rich_help_panel=_WHAT
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Named settings of the architecture (small, paper-mnist and paper-cifar10 for "
        "pixelcnnpp); --set wins over it.",
        rich_help_panel=_WHAT,
    ),
]
KernelName = Annotated[
    str | None,
    typer.Option(
        "--kernel", help="Smoothing kernel (see 'smoothctl kernels list').", rich_help_panel=_WHAT
    ),
]
Sigma = Annotated[
    float | None,
    typer.Option(
        "--sigma",
        help="Standard deviation of the smoothing, for every kernel, in data units.",
        rich_help_panel=_WHAT,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the architecture (mixtures=6) or of training (training.warmup=100); "
        "repeat it for more.",
        rich_help_panel=_WHAT,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        help="Configuration; a stage's config.toml recreates it. Flags win over it.",
        rich_help_panel=_WHAT,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Optimiser steps; more than a stage was fitted for go on with it.",
        rich_help_panel=_HOW,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", help="Examples a step, over all processes.", rich_help_panel=_HOW),
]
LearningRate = Annotated[
    float | None,
    typer.Option("--learning-rate", help="Peak learning rate of Adam.", rich_help_panel=_HOW),
]
OnNan = Annotated[
    OnNanChoice | None,
    typer.Option(
        "--on-nan",
        help="At a loss or gradient that is not finite: end, or leave the step out and count it.",
        show_default="stop",
        rich_help_panel=_HOW,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network (torch.compile): minutes at the start, and next to no gain for "
        "small networks on a CPU; needs a C++ compiler.",
        rich_help_panel=_HOW,
    ),
]
FitSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Determines everything random.",
        show_default="0",
        rich_help_panel=_HOW,
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Determines everything random.")]
Device = Annotated[
    DeviceChoice,
    typer.Option("--device", help="auto takes an accelerator where there is one."),
]
FitPrecision = Annotated[
    PrecisionChoice | None,
    typer.Option(
        "--precision", help="Number format.", show_default="float32", rich_help_panel=_HOW
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Run folder.", show_default="runs/DATASET-ARCH", rich_help_panel=_OUTPUT
    ),
]
DenoiserOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Run folder that holds the prior.",
        show_default="the newest run under runs/ that has one",
        rich_help_panel=_OUTPUT,
    ),
]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        "--init-from",
        metavar="FILE",
        help="Start from the weights of another run, such as RUN/prior/model.safetensors, of the "
        "same architecture and settings.",
        rich_help_panel=_HOW,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace a stage that was fitted with another configuration.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No notes and no progress bar.", rich_help_panel=_OUTPUT),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_OUTPUT),
]
RunFolder = Annotated[
    Path | None, typer.Argument(metavar="[RUN]", help="Run folder; the newest under runs/ if none.")
]
SamplerSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the architecture that changes samples alone, where it has any (see "
        "'smoothctl architectures show NAME'); repeat it for more.",
    ),
]
WeightsChoice = Annotated[
    WeightsName,
    typer.Option(
        "--weights", help="The weights of the last step, or those of the best validation."
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smoothctl {__version__}")
        raise typer.Exit


def version_option(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Declares the options of the program itself."""
    del version
