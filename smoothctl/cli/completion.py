"""What the shell offers at a TAB: registered names, run folders, files and the keys of settings."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import typer

from smoothctl.errors import SmoothctlError
from smoothctl.registry.groups import REGISTRIES

__all__ = ["datasets", "names", "runs", "settings"]

_STAGES = ("baseline", "prior", "denoiser", "joint")


def names(plural: str) -> Callable[[str], list[str]]:
    """Returns what offers the registered names of a group, such as "kernels"."""

    def offered(incomplete: str) -> list[str]:
        registry = REGISTRIES[f"smoothctl.{plural}"]
        return [name for name in registry.names() if name.startswith(incomplete)]

    return offered


def datasets(incomplete: str) -> list[str]:
    """Offers registered datasets, then files and folders."""
    return [*names("datasets")(incomplete), *_paths(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Offers run folders, the folders that may hold some, and installed models."""
    folders = [path for path in _paths(incomplete) if path.endswith("/")]
    inside = [path for path in _paths("runs/") if path.startswith(incomplete)]
    found = [path.rstrip("/") for path in [*folders, *inside] if _is_run(path)]
    return [*(dict.fromkeys(found) or folders), *names("models")(incomplete)]


def settings(context: typer.Context, incomplete: str) -> list[str]:
    """Offers `KEY=` of the architecture that the words before name, and of training."""
    return [f"{key}=" for key in _keys(context.params.get("arch")) if key.startswith(incomplete)]


def _keys(architecture: str | None) -> Iterator[str]:
    from dataclasses import fields

    from smoothctl.runs.config import TrainingConfig

    registry = REGISTRIES["smoothctl.architectures"]
    for name in registry.names() if architecture is None else [architecture]:
        with suppress(SmoothctlError):
            yield from (field.name for field in fields(registry.load(name).Config))
    yield from (f"training.{field.name}" for field in fields(TrainingConfig))


def _paths(incomplete: str) -> list[str]:
    """Returns what is on disk and begins so, folders with a slash at their ends."""
    head, slash, start = incomplete.rpartition("/")
    found: list[str] = []
    with suppress(OSError):
        for path in sorted(Path(f"{head}{slash}" or ".").iterdir()):
            if path.name.startswith(start) and (start or not path.name.startswith(".")):
                found.append(f"{head}{slash}{path.name}{'/' * path.is_dir()}")
    return found


def _is_run(path: str) -> bool:
    return any(Path(path, stage, "config.toml").is_file() for stage in _STAGES)
