"""Fitted models that installed packages bring: each becomes a run folder of the user's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smoothctl.errors import RunError, near_misses
from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Registry
from smoothctl.runs.config import StageName
from smoothctl.runs.packed import EXAMPLES, copy_packed, packed_stages, same

__all__ = ["PackagedModel", "as_run", "is_packaged", "no_run", "registry"]


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
        return packed_stages(self.folder)


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
        copy_packed(model.folder, path)
        note(f"Puts the model {entry.name} of {entry.package} {entry.version} into {path}.")
        if (path / EXAMPLES).exists():
            note(f"{path / EXAMPLES} has examples to inpaint, and to denoise with --add-noise.")
    if not same(model.folder, path):
        raise RunError(
            f"{path} is not the model {entry.name} of {entry.package} {entry.version}: rename or "
            "remove that folder, and the model is put there."
        )
    return path


def no_run(path: str | Path) -> RunError:
    """Returns the error for what is neither a run folder nor an installed model."""
    said, models = f"There is no run folder {path}; fit-prior makes one", registry.names()
    if models:
        said += f", and no such model is installed{near_misses(str(path), models)}"
    return RunError(said if said.endswith("?") else f"{said}.")
