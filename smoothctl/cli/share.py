"""`smoothctl pack`, `push` and `pull`."""

from pathlib import Path
from typing import Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes
from smoothctl.cli.targets import open_run
from smoothctl.errors import UsageError
from smoothctl.reporting.tables import say

__all__ = ["pack", "pull", "push"]

_Licence = Annotated[
    str | None,
    typer.Option("--licence", help="Of the weights, as the hub calls it, such as mit or cc0-1.0."),
]
_Half = Annotated[bool, typer.Option("--half", help="Keep weights in half precision.")]


def pack(
    run: options.RunFolder = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder or a .zip file.", show_default="NAME.zip"),
    ] = None,
    licence: _Licence = None,
    half: _Half = False,
    weights: options.Weights = "last",
    quiet: options.Quiet = False,
) -> None:
    """Make one file or folder of a run, to be given to others: weights, settings, card, hashes."""
    from smoothctl.sharing.pack import ZIP
    from smoothctl.sharing.pack import pack as packed

    notes = Notes(quiet)
    opened = open_run(run, weights, "cpu", notes)
    path = packed(opened, out or Path(opened.path.name + ZIP), licence, half)
    _note_left_out(licence, notes)
    say(str(path))


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="A repository that is made is its owner's alone.")
    ] = False,
    licence: _Licence = None,
    half: _Half = False,
    weights: options.Weights = "last",
    quiet: options.Quiet = False,
) -> None:
    """Pack a run and upload it to the Hugging Face hub, or wherever HF_ENDPOINT says."""
    from smoothctl.sharing.hub import push as pushed

    notes = Notes(quiet)
    opened = open_run(run, weights, "cpu", notes)
    address = pushed(opened, repository, licence, half, private)
    _note_left_out(licence, notes)
    say(address)


def pull(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="OWNER/NAME on the hub, or a packed run.")
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder.", show_default="runs/NAME")
    ] = None,
) -> None:
    """Make a run of what others packed: a folder, a .zip file, or a model on the hub."""
    from smoothctl.sharing.hub import pull as pulled
    from smoothctl.sharing.pack import unpack

    if source.count("/") != 1 and not Path(source).exists():
        raise UsageError(f"There is no {source}: name a packed run, or OWNER/NAME on the hub.")
    if not Path(source).exists():
        say(str(pulled(source, out, revision)))
        return
    if revision is not None:
        raise UsageError(f"{source} is on this disk: --revision is for the hub.")
    say(str(unpack(Path(source), out)))


def _note_left_out(licence: str | None, notes: Notes) -> None:
    if licence is None:
        notes.note("The card names no licence: --licence does.")
