"""The run folder: its stages, their files, and loading them back as models."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smoothctl import architectures, datasets, kernels
from smoothctl.configs import build
from smoothctl.errors import RunError, UsageError, near_misses
from smoothctl.files import read_weights
from smoothctl.stages import StageConfig, StageName

if TYPE_CHECKING:
    import torch

    from smoothctl.architectures.base import Density
    from smoothctl.datasets.base import Dataset
    from smoothctl.smoothing import TwoStep

__all__ = [
    "STAGES",
    "Run",
    "Stage",
    "Weights",
    "build_density",
    "load_density",
    "load_run",
    "newest_run",
]

Weights = Literal["last", "best"]
STAGES: tuple[StageName, ...] = ("baseline", "prior", "denoiser", "joint")
RUNS = Path("runs")
"""Where runs live unless --out says otherwise."""


@dataclass(frozen=True)
class Stage:
    """One fitted or half-fitted stage: its folder and files."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration, with the source of each value."""
        return self.path / "config.toml"

    @property
    def log_file(self) -> Path:
        """One JSON object a line: step, loss, learning rate, validation."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def weights_file(self, weights: Weights = "last") -> Path:
        """The final (averaged) weights, or those of the best validation."""
        return self.path / ("model.safetensors" if weights == "last" else "best.safetensors")

    @property
    def started(self) -> bool:
        """Whether there is a configuration."""
        return self.config_file.is_file()

    @property
    def fitted(self) -> bool:
        """Whether there is anything to lose: weights or a checkpoint."""
        return self.complete or any(self.checkpoints.glob("step-*"))

    @property
    def complete(self) -> bool:
        """Whether training has ended."""
        return self.weights_file().is_file()

    def config(self) -> StageConfig:
        """Reads config.toml.

        Raises:
            RunError: missing, damaged or of another format.
        """
        try:
            values = tomllib.loads(self.config_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.config_file} cannot be read ({error}): restore it, or remove {self.path}."
            ) from error
        return StageConfig.from_dict(values, str(self.config_file))

    def log(self) -> list[dict[str, float]]:
        """Reads log.jsonl; lines that were cut off or are foreign are left out."""
        if not self.log_file.is_file():
            return []
        return list(_entries(self.log_file.read_text(encoding="utf-8", errors="replace")))


@dataclass(frozen=True)
class Run:
    """A run folder, opened lazily: stages become models only when asked for.

    Args:
        path: the folder.
        weights: "last" (averaged weights at the end) or "best" (lowest validation loss).
        device: where the models go.
        sampler: settings of the stages that change samples alone, chosen anew for sampling.
    """

    path: Path
    weights: Weights = "last"
    device: "str | torch.device" = "cpu"
    sampler: Mapping[str, Any] = field(default_factory=dict)

    def stage(self, name: StageName) -> Stage:
        """Returns a stage, whether it exists or not."""
        return Stage(self.path / name)

    def stages(self) -> list[StageName]:
        """Returns the names of the stages that are complete."""
        return [name for name in STAGES if self.stage(name).complete]

    def configs(self) -> dict[StageName, StageConfig]:
        """Returns the configuration of each complete stage."""
        return {name: self.stage(name).config() for name in self.stages()}

    def dataset(self) -> "Dataset":
        """Opens the dataset that the stages were fitted to.

        Raises:
            DataError: its files are missing.
            RunError: its files have changed since.
        """
        config = next(iter(self.configs().values()))
        dataset = datasets.open_dataset(config.dataset, config.data)
        if dataset.fingerprint != config.data_sha256:
            raise RunError(f"{config.dataset} has changed since {self.path} was fitted to it.")
        return dataset

    def density(self, name: StageName) -> "Density":
        """Loads one stage's model in evaluation mode.

        Raises:
            RunError: the stage is not complete, or its weights are damaged or foreign.
        """
        return self._load(name)[0]

    def _load(self, name: StageName) -> "tuple[Density, StageConfig]":
        file = self.stage(name).weights_file(self.weights)
        if not file.is_file() and self.stage(name).complete:
            raise RunError(f"{file} is missing: take the last weights, or fit the stage again.")
        if not file.is_file():
            have = ", ".join(self.stages()) or "none"
            raise RunError(f"{self.path} has no {name} ({file.name}); complete stages: {have}.")
        density, config = load_density(file, self.sampler)
        if config.stage != name:
            raise RunError(f"{file} holds a {config.stage}, not a {name}.")
        return density.to(self.device), config

    def method(self) -> "TwoStep | None":
        """Returns kernel, prior and (where fitted) denoiser.

        A joint stage gives both where the run does not hold both as stages of their own.

        Returns:
            None where the run holds only a baseline.

        Raises:
            RunError: files are damaged, or prior and denoiser do not belong together.
        """
        from smoothctl.architectures.made import JointMADE
        from smoothctl.smoothing import TwoStep

        stages = self.stages()
        prior: Density
        denoiser: Density | None
        if "joint" in stages and not {"prior", "denoiser"} <= set(stages):
            joint, config = self._load("joint")
            assert isinstance(joint, JointMADE)
            prior, denoiser = joint.prior(), joint.denoiser()
        elif "prior" in stages:
            prior, config = self._load("prior")
            denoiser = None
            if "denoiser" in stages:
                denoiser, other = self._load("denoiser")
                config.check_same_smoothing(other, str(self.path))
                if "float64" in (config.precision, other.precision):
                    prior, denoiser = prior.double(), denoiser.double()
        else:
            return None
        assert config.kernel is not None
        assert config.sigma is not None
        return TwoStep(kernels.load(config.kernel)(config.sigma), prior, denoiser)


def load_run(
    path: str | Path,
    weights: Weights = "last",
    device: "str | torch.device" = "cpu",
    sampler: Mapping[str, Any] | None = None,
) -> Run:
    """Opens a run folder.

    Args:
        path: the folder that holds prior/, denoiser/, baseline/ or joint/.
        weights: "last" or "best".
        device: where the models go.
        sampler: settings of the stages that change samples alone (`Density.sampler_settings`).

    Raises:
        RunError: there is no such folder, or no complete stage in it.
        UsageError: no stage has such a sampler setting, or its value is wrong.
    """
    run = Run(Path(path), weights, device, sampler or {})
    if not run.path.is_dir():
        raise RunError(f"There is no run folder {path}; fit-prior makes one.")
    if not run.stages():
        started = [name for name in STAGES if run.stage(name).started]
        hint = (
            f"its {' and '.join(started)} is not complete: repeat the fit command to go on"
            if started
            else "fit-prior makes one"
        )
        raise RunError(f"{path} holds no complete stage; {hint}.")
    _check_sampler(run)
    return run


def _check_sampler(run: Run) -> None:
    """Checks that some stage has each of the run's sampler settings."""
    if not run.sampler:
        return
    names = {config.architecture for config in run.configs().values()}
    known = sorted(set().union(*(architectures.load(name).sampler_settings for name in names)))
    for key in run.sampler:
        if key not in known:
            raise UsageError(
                f"The stages of {run.path} have no sampler setting '{key}'{near_misses(key, known)}"
            )


def newest_run(needs: StageName | None = None) -> Path:
    """Returns the run under runs/ that was written last, among those that have the stage.

    Raises:
        RunError: there is none.
    """
    stages = STAGES if needs is None else (needs,)
    files = [file for name in stages for file in RUNS.glob(f"*/{name}/model.safetensors")]
    if not files:
        what = "run" if needs is None else f"run with a complete {needs}"
        raise RunError(f"There is no {what} under {RUNS}/; start with smoothctl fit-prior.")
    return max(files, key=lambda file: file.stat().st_mtime).parent.parent


def build_density(config: StageConfig, sampler: Mapping[str, Any] | None = None) -> "Density":
    """Returns the untrained model that a configuration describes, in its precision.

    Args:
        config: of one stage.
        sampler: settings that change samples alone; those that the architecture has are taken.
    """
    import torch

    cls = architectures.load(config.architecture)
    chosen = {key: (sampler or {})[key] for key in cls.sampler_settings & (sampler or {}).keys()}
    options = build(cls.Config, {**config.options, **chosen}, config.architecture)
    if config.stage == "joint":
        density = cls.joint(config.event_shape, options)
    else:
        context = config.event_shape if config.stage == "denoiser" else None
        levels = config.levels if config.stage in ("denoiser", "baseline") else None
        density = cls(config.event_shape, context, levels, options)
    return density.to(torch.float64 if config.precision == "float64" else torch.float32)


def load_density(
    path: str | Path, sampler: Mapping[str, Any] | None = None
) -> "tuple[Density, StageConfig]":
    """Loads one model from its weights file alone, in evaluation mode.

    Args:
        path: the weights file.
        sampler: settings that change samples alone, chosen anew.

    Raises:
        RunError: missing, truncated, foreign, or weights of another architecture.
    """
    tensors, metadata = read_weights(Path(path))
    config = StageConfig.from_dict(metadata, str(path))
    density = build_density(config, sampler)
    try:
        density.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{path} does not fit its own configuration: {reason}") from error
    return density.eval().requires_grad_(False), config


def _entries(text: str) -> Iterator[dict[str, float]]:
    for line in text.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                yield entry
