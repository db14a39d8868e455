"""What the verbs that draw samples share: options, where the input comes from, and the output."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.endings import Stopped
from smoothctl.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from smoothctl.runs.run import Run

__all__ = [
    "TEST",
    "BatchSize",
    "Draws",
    "First",
    "Input",
    "Label",
    "OutFile",
    "OverwriteFiles",
    "default_name",
    "held",
    "named",
    "note_clipping",
    "print_files",
    "read_input",
    "show_rows",
    "stoppable",
]

TEST = "test"
"""The INPUT that means the test examples of the run's dataset."""

_MAX_ROWS = 16
_FEW = 8

Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="Image file, folder of images, or .npz, .npy or idx file; 'test' takes the first test "
        "examples of the run's dataset.",
    ),
]
First = Annotated[
    int | None,
    typer.Option(
        "-n",
        "--number",
        min=1,
        help="Take only the first N of the input.",
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
BatchSize = Annotated[
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


def read_input(
    run: "Run", text: str, limit: int | None, label: int | None, keys: tuple[str, ...], reach: float
) -> tuple["Tensor", "Tensor | int | None"]:
    """Returns the events that INPUT names, (n, *event), and their classes.

    Args:
        run: an opened run.
        text: INPUT.
        limit: the value of -n.
        label: the value of --label, which wins over the dataset's classes.
        keys: arrays to look for in an .npz, the best first.
        reach: largest absolute value of an image's float.
    """
    from smoothctl.datasets.pictures import read_events
    from smoothctl.sampling.draw import event_shape

    if text != TEST and any(Path(text).glob("*/config.toml")):
        raise UsageError(f"{text} is a run folder: INPUT comes first, and then the run.")
    if text != TEST:
        return read_events(Path(text), event_shape(run), keys, reach)[:limit], label
    dataset, few = run.dataset(), limit or _FEW
    labels = None if dataset.classes is None else dataset.test.head_labels(few)
    return dataset.test.head(few), labels if label is None else label


def show_rows(named: Mapping[str, "Tensor | None"], path: Path) -> Path | None:
    """Writes one row for each image, one block for each title; None for vectors."""
    from smoothctl.reporting.figures import columns, save

    shown = {title: images[:_MAX_ROWS] for title, images in named.items() if images is not None}
    if next(iter(shown.values())).ndim < 4:
        return None
    save(columns(shown, across=1), path)
    return path


def print_files(
    result: Mapping[str, Any],
    path: Path,
    save: Callable[[Path], None],
    paint: Callable[[Path], Path | None],
    as_json: bool,
) -> None:
    """Writes samples and picture, and prints where they are.

    Args:
        result: what else JSON says.
        path: an .npz file, or a .png for the picture alone.
        save: writes the samples.
        paint: writes the picture, or returns None where there is none.
        as_json: print JSON.
    """
    alone = path.suffix == ".png"
    if not alone:
        save(path)
    picture = paint(path.with_suffix(".png"))
    files = {"samples": None if alone else str(path), "picture": picture and str(picture)}
    if as_json:
        print_json({**result, **files})
    else:
        print(*(file for file in files.values() if file), sep="\n")


def default_name(first: str, *rest: str, weights: str, seed: int, label: int | None) -> str:
    """Returns the name of an .npz file that tells what is in it."""
    parts = [first + ("-best" if weights == "best" else ""), *rest, f"seed{seed}"]
    return "-".join([*parts, *([] if label is None else [f"label{label}"])]) + ".npz"


def named(sampler: Mapping[str, Any]) -> list[str]:
    """Returns the sampler's settings as parts of a file's name."""
    return [f"{key}={value}".replace("/", "_") for key, value in sampler.items()]


def note_clipping(notes: Notes) -> None:
    """Says what a picture of x̃ leaves out."""
    notes.note("Pictures of x̃ are clipped to [−1, 1] for show; an .npz keeps every value.")


@contextmanager
def held(path: Path, notes: Notes, left: Callable[[], str]) -> Iterator[None]:
    """Holds the files that --out names: nobody else writes them in the block.

    What a killed process left half-written is removed.

    Args:
        path: the .npz or .png file, or the folder.
        notes: told of a process that ended without a word.
        left: see `stoppable`.

    Raises:
        RunError: another process writes them.
        Interrupted: by Ctrl-C or another signal.
    """
    from smoothctl.storage.files import remove
    from smoothctl.storage.locks import hold

    with stoppable(left), hold(path.with_name(f".{path.name}.lock"), str(path), notes.note):
        for file in {path, path.with_suffix(".png")}:
            for leftover in path.parent.glob(f".{escape(file.name)}.*.tmp"):
                remove(leftover)
        yield


@contextmanager
def stoppable(left: Callable[[], str]) -> Iterator[None]:
    """Says what is left where a signal stops the block.

    Args:
        left: returns a sentence.

    Raises:
        Interrupted: by Ctrl-C or another signal.
    """
    try:
        yield
    except Stopped as stop:
        raise Interrupted(left(), stop.signum) from stop
