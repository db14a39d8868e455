"""The options that several verbs share, and those of the program itself, declared once."""

import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from smoothctl import __version__
from smoothctl.cli import completion
from smoothctl.errors import NotAvailable, UsageError

DATASET_HELP = (
    "Registered name (see 'smoothctl datasets list'); folder of images or of idx files; .csv, "
    ".tsv, .npz, .npy, idx, .parquet or .arrow file; or owner/name on the Hugging Face hub."
)
_CORRUPT_HELP = "Leave out images that cannot be decoded, and say how many."
_SEED_HELP = "Determines everything random."


def _checked_seed(seed: int | None) -> int | None:
    """Refuses a seed that no configuration or table of scores can hold."""
    from smoothctl.config import LARGEST_INTEGER

    if seed is not None and seed > LARGEST_INTEGER:
        raise typer.BadParameter(f"a seed is a whole number from 0 to {LARGEST_INTEGER}")
    return seed


_what = partial(typer.Option, rich_help_panel="What to fit")
_how = partial(typer.Option, rich_help_panel="How to fit")
_images = partial(typer.Option, rich_help_panel="Comparing images")
_output = partial(typer.Option, rich_help_panel="Output")

DatasetName = Annotated[
    str | None, _what("--dataset", help=DATASET_HELP, autocompletion=completion.datasets)
]
DataSettings = Annotated[
    list[str] | None,
    _what(
        "--data",
        metavar="KEY=VALUE",
        help="A setting of the dataset (size=32, grey=true, columns=a,b); repeat it for more.",
    ),
]
SkipCorrupt = Annotated[bool, _what("--skip-corrupt", help=_CORRUPT_HELP)]
Architecture = Annotated[
    str | None,
    _what(
        "--arch",
        help="Architecture (see 'smoothctl architectures list').",
        autocompletion=completion.names("architectures"),
    ),
]
Preset = Annotated[
    str | None,
    _what(
        "--preset",
        help="Named settings of the architecture (small, large, paper-mnist and paper-cifar10 for "
        "pixelcnnpp); --set wins over it.",
    ),
]
KernelName = Annotated[
    str | None,
    _what(
        "--kernel",
        help="Smoothing kernel (see 'smoothctl kernels list').",
        autocompletion=completion.names("kernels"),
    ),
]
Sigma = Annotated[
    float | None,
    _what("--sigma", help="Standard deviation of the smoothing, for every kernel, in data units."),
]
Set = Annotated[
    list[str] | None,
    _what(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the architecture (mixtures=6) or of training (training.warmup=100); "
        "repeat it for more.",
        autocompletion=completion.settings,
    ),
]
ConfigFile = Annotated[
    Path | None,
    _what(
        "--config",
        metavar="FILE.toml",
        help="Configuration; a stage's config.toml recreates it. Flags win over it.",
    ),
]

Steps = Annotated[
    int | None,
    _how(
        "--steps",
        help="Optimiser steps; more than a stage was fitted for go on with it.",
        show_default="12000 of made, 4000 of pixelcnnpp",
    ),
]
BatchSize = Annotated[
    int | None,
    _how(
        "--batch-size",
        help="Examples a step, over all processes.",
        show_default="512 of made, 8 of pixelcnnpp",
    ),
]
LearningRate = Annotated[
    float | None,
    _how(
        "--learning-rate",
        help="Peak learning rate of Adam.",
        show_default="0.005 of made, 0.006 of pixelcnnpp",
    ),
]
OnNan = Annotated[
    Literal["stop", "skip"] | None,
    _how(
        "--on-nan",
        help="At a loss or gradient that is not finite: end, or leave the step out and count it.",
        show_default="stop",
    ),
]
Compile = Annotated[
    bool,
    _how(
        "--compile",
        help="Compile the network (torch.compile): minutes at the start, and next to no gain for "
        "small networks on a CPU; needs a C++ compiler.",
    ),
]
FitSeed = Annotated[
    int | None,
    _how("--seed", min=0, callback=_checked_seed, help=_SEED_HELP, show_default="0"),
]
FitPrecision = Annotated[
    Literal["float32", "float64", "bf16"] | None,
    _how("--precision", help="Number format.", show_default="float32"),
]
InitFrom = Annotated[
    Path | None,
    _how(
        "--init-from",
        metavar="FILE",
        help="Start from the weights of another run, such as RUN/prior/model.safetensors, of the "
        "same architecture and settings.",
    ),
]

Preview = Annotated[
    int | None,
    _how(
        "--preview",
        min=1,
        metavar="STEPS",
        help="Draw a few samples, of the same noise, every so many steps; the report shows how "
        "they change.",
    ),
]
Track = Annotated[
    list[str] | None,
    _output(
        "--track",
        metavar="NAME",
        help="Tell losses, validations and --preview's images to a tracker that Accelerate knows: "
        "tensorboard (pip install 'smoothctl\\[track]'), trackio, wandb, mlflow … Repeat it for "
        "more.",
    ),
]
Out = Annotated[Path | None, _output("--out", help="Run folder.", show_default="runs/DATASET-ARCH")]
DenoiserOut = Annotated[
    Path | None,
    _output(
        "--out",
        help="Run folder that holds the prior.",
        show_default="the newest run under runs/ that has one",
    ),
]
Overwrite = Annotated[
    bool,
    _output("--overwrite", help="Replace a stage that was fitted with another configuration."),
]
Quiet = Annotated[bool, _output("--quiet", "-q", help="No notes and no progress bar.")]
Json = Annotated[bool, _output("--json", help="Print the result as JSON.")]

RunFolder = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN]",
        help="Run folder or model; the newest under runs/ if none.",
        autocompletion=completion.runs,
    ),
]
RunData = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Where the run's data are, if it comes from elsewhere or they have moved.",
        show_default="where they were named last on this machine",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, callback=_checked_seed, help=_SEED_HELP)]
Device = Annotated[
    Literal["auto", "cpu"],
    typer.Option("--device", help="auto takes an accelerator where there is one."),
]
SamplerSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the architecture that changes samples alone, where it has any (see "
        "'smoothctl architectures show NAME'), or walk=STEPS: x̃ of images by a walk along the "
        "prior's score. Repeat it for more.",
    ),
]
ChosenSigma = Annotated[
    float | None,
    typer.Option(
        "--sigma",
        help="Of stages that take sigma as an input (--set lowest_sigma): which.",
        show_default="the largest",
    ),
]
Weights = Annotated[
    Literal["last", "best"],
    typer.Option(
        "--weights", help="The weights of the last step, or those of the best validation."
    ),
]
Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="Image file, folder of images, or .npz, .npy or idx file; 'test' takes the first test "
        "examples of the run's dataset.",
    ),
]
FirstOfInput = Annotated[
    int | None,
    typer.Option(
        "-n",
        "--number",
        min=1,
        help="Take only the first N of the input; of 'test', any N, as --seed says.",
        show_default="all; 8 of 'test'",
    ),
]
Draws = Annotated[int, typer.Option("--draws", min=1, help="How many draws for each.")]
Label = Annotated[
    int | None,
    typer.Option(
        "--label", min=0, help="The class to draw, for class-conditional models of images."
    ),
]
DrawnAtOnce = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Images drawn at once; it does not change them.",
        show_default="what fits into memory, at most 64 on a CPU",
    ),
]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="The .npz file to write, with a picture beside it; or a .png for the picture alone.",
        show_default="under RUN/samples/",
    ),
]
OverwriteFiles = Annotated[
    bool, typer.Option("--overwrite", help="Replace the files that --out names.")
]

RunOrImages = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN|IMAGES]",
        help="Run folder or model, the newest under runs/ if none; or images: a folder, an .npz or "
        ".npy file, FILE.npz:ARRAY, or what --dataset takes.",
        autocompletion=completion.runs,
    ),
]
Reference = Annotated[
    str | None,
    _images(
        "--reference",
        metavar="IMAGES",
        help="Images to compare with. " + DATASET_HELP,
        show_default="a run's training images",
    ),
]
Split = Annotated[
    str | None,
    _images(
        "--split",
        help="Split of the reference: train, validation or test.",
        show_default="train; all of what has none",
    ),
]
ReferenceSettings = Annotated[
    list[str] | None,
    _images(
        "--data",
        metavar="KEY=VALUE",
        help="A setting of the reference (size=32, crop=140, grey=true); repeat it for more.",
    ),
]
SkipCorruptImages = Annotated[bool, _images("--skip-corrupt", help=_CORRUPT_HELP)]
FeatureName = Annotated[
    str | None,
    _images(
        "--features",
        help="Feature extractor (see 'smoothctl features list').",
        autocompletion=completion.names("features"),
        show_default="inception if its weights are at hand, else classifier if the reference has "
        "labels, else pixels",
    ),
]
FeatureWeights = Annotated[
    Path | None,
    _images(
        "--feature-weights",
        metavar="PATH",
        help="The extractor's weights: a file of inception, a folder of dinov2.",
        show_default="$SMOOTHCTL_INCEPTION or _DINOV2, else the user's cache",
    ),
]
FeatureSha256 = Annotated[
    str | None,
    _images(
        "--feature-sha256",
        metavar="HEX",
        help="What that file's SHA-256 must be.",
        show_default="that of the published file",
    ),
]
Download = Annotated[
    bool,
    _images("--download", help="Let the extractor fetch its weights into the user's cache."),
]


def program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --version: what samples and trains here, too.")
    ] = False,
) -> None:
    """Declares the options of the program itself."""
    if verbose and not version:
        raise UsageError("--verbose belongs to --version.")
    if version:
        typer.echo(f"smoothctl {__version__}")
        for line in surroundings() if verbose else ():
            typer.echo(line)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
        raise typer.Exit(2)


def surroundings() -> Iterator[str]:
    """Tells what a speed or a fault can depend on: versions, devices, threads, the sampler."""
    import torch

    from smoothctl.architectures.pixelcnnpp.native.library import processors

    yield f"Python {platform.python_version()}, torch {torch.__version__}, {platform.platform()}"
    cards = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
    yield f"devices: {', '.join(['cpu', *cards])}; {torch.get_num_threads()} threads"
    try:
        yield f"sampler of pixelcnnpp: compiled, for {list(processors())[-1]}"
    except NotAvailable as error:
        yield f"sampler of pixelcnnpp: cached. {error}"
