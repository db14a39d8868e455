"""A run as one folder or one file, and back."""

import uuid
import zipfile
from pathlib import Path

from smoothctl.errors import RunError, UsageError
from smoothctl.evaluation.records import SCORES
from smoothctl.runs.packed import (
    CARD,
    EXAMPLES,
    PICTURE,
    copy_packed,
    pack_stage,
    packed_stages,
    same,
)
from smoothctl.runs.run import RUNS, Run
from smoothctl.sharing.card import card
from smoothctl.storage.files import (
    cannot_write,
    check_inside,
    make_folder,
    move,
    remove,
    sync,
    write_bytes,
)

__all__ = ["ZIP", "pack", "unpack"]

ZIP = ".zip"
_OTHERS = {".tar", ".gz", ".tgz", ".xz", ".7z", ".rar", ".safetensors", ".pt"}
"""Endings of files that nobody means a folder by."""

_THEN = (1980, 1, 1, 0, 0, 0)
"""When all files of a zip file are from, so that the same run gives the same bytes."""


def pack(run: Run, out: Path, licence: str | None = None, half: bool = False) -> Path:
    """Writes a run in the form that others take it in: a folder, or a .zip file of one.

    It has the complete stages, their settings, weights and hashes, a card, scores.json, and the
    newest picture of samples; nothing that tells where anything lay on this machine.

    Args:
        run: an opened run; the weights are those that it was opened with.
        out: what to write, which must not be there.
        licence: of the weights, as the hub calls it, such as "mit".
        half: keep weights in half precision.

    Returns:
        What was written.

    Raises:
        RunError: a stage is damaged, something is there already, or it cannot be written.
        UsageError: the name of another kind of file.
    """
    if out.suffix in _OTHERS:
        raise UsageError(f"A packed run is a folder or a {ZIP} file, not {out.name}.")
    if out.exists():
        raise RunError(f"{out} is there already: choose another `out`.")
    beside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        make_folder(beside)
        _fill(run, beside, out.name.removesuffix(ZIP), licence, half)
        move(_zipped(beside) if out.suffix == ZIP else beside, out)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        remove(beside)
        remove(beside.with_suffix(ZIP))
    return out


def unpack(source: Path, out: Path | None = None) -> Path:
    """Makes a run folder of a packed run.

    Args:
        source: a folder or a .zip file that `pack` wrote, whoever has it from wherever.
        out: the run folder; None: one under runs/ of the source's name.

    Returns:
        The run folder; one that is there already and holds the same stages is left as it is.

    Raises:
        RunError: it is damaged or no packed run, or the folder is that of something else.
    """
    out = RUNS / source.name.removesuffix(ZIP) if out is None else out
    if source.is_dir():
        return _installed(source, out)
    try:
        with zipfile.ZipFile(source) as file:
            return _installed(zipfile.Path(file), out)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise RunError(f"{source} is no packed run: {error}.") from error
    except OSError as error:
        raise RunError(f"{source} cannot be read: {error.strerror or error}.") from error


def _installed(model: Path | zipfile.Path, out: Path) -> Path:
    if not out.exists():
        try:
            make_folder(out.parent)
        except OSError as error:
            raise cannot_write(out, error) from error
        copy_packed(model, out)
    if not packed_stages(model) or not same(model, out):
        raise RunError(f"{out} is there already and holds something else: choose another `out`.")
    return out


def _fill(run: Run, folder: Path, name: str, licence: str | None, half: bool) -> None:
    for stage in run.stages():
        pack_stage(run.stage(stage).weights_file(run.weights), folder / stage, half=half)
    for beside in (SCORES, EXAMPLES):
        if (file := check_inside(run.path / beside, run.path)).is_file():
            write_bytes(folder / beside, file.read_bytes())
    pictures = [check_inside(file, run.path) for file in run.path.glob("samples/*.png")]
    if pictures:
        newest = max(pictures, key=lambda file: file.stat().st_mtime)
        write_bytes(folder / PICTURE, newest.read_bytes())
    write_bytes(folder / CARD, card(run, folder, name, licence).encode())


def _zipped(folder: Path) -> Path:
    """Returns a zip file of a folder, uncompressed: weights are as good as random."""
    path = folder.with_suffix(ZIP)
    with zipfile.ZipFile(path, "x") as file:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                entry = zipfile.ZipInfo(each.relative_to(folder).as_posix(), _THEN)
                entry.file_size = each.stat().st_size
                with each.open("rb") as read, file.open(entry, "w") as write:
                    while block := read.read(2**20):
                        write.write(block)
    sync(path)
    return path
