"""Fitted models that installed packages bring: each becomes a run folder of the user's own."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from smoothctl.errors import RunError, near_misses
from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Registry
from smoothctl.runs.config import StageConfig, StageName, to_toml
from smoothctl.storage.files import (
    MANIFEST,
    cannot_write,
    make_folder,
    new_folder,
    read_json,
    remove,
    verify_manifest,
    write_bytes,
)
from smoothctl.storage.weights import read_weights, write_weights

__all__ = ["PackagedModel", "as_run", "is_packaged", "no_run", "pack", "registry"]

_CARD, _EXAMPLES = "README.md", "examples.npz"
_FILES = ("config.toml", "model.safetensors")


@dataclass(frozen=True)
class PackagedModel:
    """A model that is registered under `smoothctl.models`.

    Args:
        folder: a run folder within the package: a folder for each stage, with config.toml,
            model.safetensors (in any precision of floats) and the manifest of both; README.md, the
            model's card; and maybe examples.npz, `samples` to complete and denoise.
        summary: what it is, for lists.
        licence: of the weights, and of the data that they were fitted to.
    """

    folder: Path
    summary: str
    licence: str

    def stages(self) -> list[StageName]:
        """Returns the stages that it has."""
        return [stage for stage in get_args(StageName) if (self.folder / stage).is_dir()]


registry: Registry[PackagedModel] = REGISTRIES["smoothctl.models"]


def is_packaged(name: str) -> bool:
    """Returns whether `name` or `package:name` means an installed model, and nothing on disk."""
    return not Path(name).exists() and registry.declares(name)


def as_run(name: str, runs: Path, note: Callable[[str], None]) -> Path:
    """Returns the run folder of an installed model; makes it if need be.

    Models are never worked on where they are installed: the folder is one in `runs`, and from then
    on a run like any other.

    Args:
        name: `name` or `package:name`.
        runs: the folder that has, or gets, a run folder of the model's name.
        note: told when it gets one.

    Raises:
        UsageError: the package cannot be used.
        RunError: the model is damaged, the folder is that of something else or of another version
            of the model, or it cannot be written.
    """
    entry = registry.find(name)
    model = registry.load_entry(entry)
    path = runs / entry.name
    if not path.exists():
        _copy(model, path)
        note(f"Puts the model {entry.name} of {entry.package} {entry.version} into {path}.")
        if (path / _EXAMPLES).exists():
            note(f"{path / _EXAMPLES} has examples to inpaint, and to denoise with --add-noise.")
    for stage in model.stages():
        if _manifest(path / stage) != _manifest(model.folder / stage):
            raise RunError(
                f"{path} is not the model {entry.name} of {entry.package} {entry.version}: rename "
                "or remove that folder, and the model is put there."
            )
    return path


def pack(weights: Path, folder: Path, dataset: str) -> None:
    """Writes a stage of a model for a package: its configuration, and its weights in halves.

    Args:
        weights: the weights file of a fitted stage.
        folder: the stage's, within the model's; replaced if it is there.
        dataset: what everybody calls the data, wherever they lay when the stage was fitted.

    Raises:
        RunError: the weights are damaged or too large for half precision, or the folder cannot be
            written.
    """
    tensors, metadata = read_weights(weights)
    config = replace(StageConfig.from_dict(metadata, str(weights)), dataset=dataset)
    halves = {name: x.half() if x.is_floating_point() else x for name, x in tensors.items()}
    if not all(bool(x.isfinite().all()) for x in halves.values()):
        raise RunError(f"{weights} has weights that are too large for half precision.")
    make_folder(folder.parent)
    with new_folder(folder) as half:
        write_bytes(half / "config.toml", to_toml(config, {}).encode())
        write_weights(half / "model.safetensors", halves, config.to_dict())


def no_run(path: str | Path) -> RunError:
    """Returns the error for what is neither a run folder nor an installed model."""
    said, models = f"There is no run folder {path}; fit-prior makes one", registry.names()
    if models:
        said += f", and no such model is installed{near_misses(str(path), models)}"
    return RunError(said if said.endswith("?") else f"{said}.")


def _copy(model: PackagedModel, path: Path) -> None:
    """Puts a model's files where a run shall be, all at once; who comes second changes nothing."""
    beside = {_CARD: _read(model.folder / _CARD)}
    if (model.folder / _EXAMPLES).exists():
        beside[_EXAMPLES] = _read(model.folder / _EXAMPLES)
    for stage in model.stages():
        verify_manifest(model.folder / stage, *_FILES)
    half = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        for stage in model.stages():
            make_folder(half)
            with new_folder(half / stage) as copy:
                for name in _FILES:
                    write_bytes(copy / name, _read(model.folder / stage / name))
        for name, content in beside.items():
            write_bytes(half / name, content)
        half.rename(path)
    except OSError as error:
        if not path.is_dir():
            raise cannot_write(path, error) from error
    finally:
        remove(half)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from error


def _manifest(stage: Path) -> object:
    """Returns what a stage's manifest says; None without one."""
    try:
        return read_json(stage / MANIFEST, 2**16)
    except RunError:
        return None
