"""The form in which a run is given to others: its stages' weights, and what is told of them."""

import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from zipfile import BadZipFile

from smoothctl.errors import RunError
from smoothctl.runs.config import LARGEST_CONFIG, StageConfig, StageName, to_toml
from smoothctl.storage.files import (
    MANIFEST,
    cannot_write,
    make_folder,
    new_folder,
    remove,
    sync,
    verify_manifest,
    write_bytes,
)
from smoothctl.storage.weights import read_weights, write_weights

if TYPE_CHECKING:
    from zipfile import Path as ZipPath

__all__ = ["CARD", "EXAMPLES", "PICTURE", "copy_packed", "pack_stage", "packed_stages", "same"]

CARD, EXAMPLES, PICTURE = "README.md", "examples.npz", "samples.png"
"""What may lie beside the stages: card, `samples` to denoise and complete, a picture of some."""

_CONFIG, _WEIGHTS = "config.toml", "model.safetensors"
_LARGEST: Mapping[str, int] = {
    MANIFEST: 2**16,
    _CONFIG: LARGEST_CONFIG,
    CARD: 2**20,
    PICTURE: 2**25,
    EXAMPLES: 2**27,
    "scores.json": 2**24,
    _WEIGHTS: 2**36,
}
"""All that is taken from a model that others made, and its most bytes."""

_BLOCK = 2**20


def pack_stage(weights: Path, folder: Path, dataset: str | None = None, half: bool = False) -> None:
    """Writes a stage: config.toml, model.safetensors, and the manifest of both.

    Args:
        weights: the weights file of a fitted stage.
        folder: the stage's, within the model's; replaced if it is there.
        dataset: what everybody calls the data, wherever they lay; None: as the stage does.
        half: keep weights in half precision.

    Raises:
        RunError: the weights are damaged or too large for half precision, or the folder cannot be
            written.
    """
    tensors, metadata = read_weights(weights)
    config = StageConfig.from_dict(metadata, str(weights))
    config = config if dataset is None else replace(config, dataset=dataset)
    if half:
        tensors = {name: x.half() if x.is_floating_point() else x for name, x in tensors.items()}
        if not all(bool(x.isfinite().all()) for x in tensors.values()):
            raise RunError(f"{weights} has weights that are too large for half precision.")
    make_folder(folder.parent)
    with new_folder(folder) as beside:
        write_bytes(beside / _CONFIG, to_toml(config, {}).encode())
        write_weights(beside / _WEIGHTS, tensors, config.to_dict())


def packed_stages(model: "Path | ZipPath") -> list[StageName]:
    """Returns the stages that a packed run has."""
    return [stage for stage in get_args(StageName) if (model / stage / _CONFIG).is_file()]


def copy_packed(model: "Path | ZipPath", path: Path) -> None:
    """Makes a run folder of a packed run, all at once: who comes second changes nothing.

    Nothing is taken that has no business there, and nothing that its manifest does not vouch for.

    Args:
        model: a folder, or the root of a zip file.
        path: the run folder.

    Raises:
        RunError: a file is missing, damaged or absurdly large, there is no stage, or the folder
            cannot be written.
    """
    stages = packed_stages(model)
    if not stages:
        raise RunError(f"{model} is no packed run: it has no stage.")
    half = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        for stage in stages:
            make_folder(half / stage)
            for name in (_CONFIG, _WEIGHTS, MANIFEST):
                _copy(model / stage / name, half / stage / name)
            try:
                verify_manifest(half / stage, _CONFIG, _WEIGHTS)
            except RunError as error:
                raise RunError(str(error).replace(str(half), str(model).rstrip("/"))) from error
        _copy(model / CARD, half / CARD)
        for name in (EXAMPLES, PICTURE, "scores.json"):
            if (model / name).is_file():
                _copy(model / name, half / name)
        half.rename(path)
    except OSError as error:
        if not path.is_dir():
            raise cannot_write(path, error) from error
    finally:
        remove(half)


def same(model: "Path | ZipPath", path: Path) -> bool:
    """Returns whether a run folder holds the stages of a packed run, by their manifests."""
    manifests = [
        (model / stage / MANIFEST, path / stage / MANIFEST) for stage in packed_stages(model)
    ]
    with suppress(OSError):
        return all(theirs.read_bytes() == ours.read_bytes() for theirs, ours in manifests)
    return False


def _copy(source: "Path | ZipPath", target: Path) -> None:
    """Copies a file of at most its kind's bytes, to the disk."""
    most = _LARGEST[target.name]
    try:
        with source.open("rb") as read, target.open("xb") as write:
            while block := read.read(_BLOCK):
                most -= len(block)
                if most < 0:
                    raise RunError(f"{source} is larger than any such file: it is not taken.")
                write.write(block)
    except (FileNotFoundError, KeyError) as error:
        raise RunError(f"{source} is missing.") from error
    except (BadZipFile, zlib.error, EOFError) as error:
        raise RunError(f"{source} is damaged: {error}.") from error
    sync(target)
