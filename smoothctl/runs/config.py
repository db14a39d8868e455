"""The configuration of one fitted stage: fully resolved, comparable, and enough to recreate it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from smoothctl import __version__
from smoothctl.config import LARGEST_INTEGER, as_dict, build, config
from smoothctl.errors import RunError, UsageError, near_misses
from smoothctl.registry.groups import REGISTRIES
from smoothctl.storage.files import read_toml, without_folders

__all__ = [
    "LARGEST_CONFIG",
    "Precision",
    "StageConfig",
    "StageName",
    "TrainingConfig",
    "Unit",
    "flattened",
    "from_toml",
    "is_same",
    "to_toml",
]

StageName = Literal["baseline", "prior", "denoiser", "joint"]
Precision = Literal["float32", "float64", "bf16"]

_FORMAT = 1
_MEANT: Mapping[str, Mapping[str, Any]] = {"pixelcnnpp": {"conditioning": "stacked"}}
"""Architecture -> what a denoiser had before it was a setting."""

LARGEST_CONFIG = 2**16
"""Bytes of a configuration file."""


@config
class TrainingConfig:
    """How a stage is fitted."""

    steps: int = Field(12_000, ge=1, description="optimiser steps")
    batch_size: int = Field(512, ge=1, description="examples a step, over all processes")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of Adam")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's first moment decay")
    beta2: float = Field(0.99, ge=0, lt=1, description="Adam's second moment decay")
    warmup: float = Field(
        0.02, ge=0, description="steps of linear warm-up; below 1, their share of all steps"
    )
    decay: Literal["cosine", "constant", "exponential"] = Field(
        "cosine", description="learning-rate schedule after the warm-up"
    )
    decay_rate: float = Field(
        0.999995, gt=0, le=1, description="factor a step of the exponential schedule"
    )
    clip: float = Field(5.0, ge=0, description="gradient norm to clip at; 0: never")
    on_nan: Literal["stop", "skip"] = Field(
        "stop", description="at a loss or gradient that is not finite: end, or leave the step out"
    )
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights; 0: none")
    accumulate: int = Field(1, ge=1, description="parts that a step's batch is split into")
    validate_every: int = Field(0, ge=0, description="steps; 0: a twentieth of the run")
    validation_limit: int = Field(4096, ge=1, description="examples that a validation uses")
    checkpoint_every: int = Field(0, ge=0, description="steps; 0: a tenth of the run, at most 2000")
    keep: int = Field(2, ge=1, description="checkpoints to keep")
    log_every: int = Field(100, ge=1, description="steps between lines of log.jsonl")
    compile: bool = Field(False, description="torch.compile; minutes at the start")

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up."""
        return round(self.warmup if self.warmup >= 1 else self.warmup * self.steps)

    @property
    def validation_interval(self) -> int:
        """Steps between validations."""
        return self.validate_every or max(1, self.steps // 20)

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints."""
        return self.checkpoint_every or max(1, min(2000, self.steps // 10))


class Unit(NamedTuple):
    """What users see a loss in: nats for vectors, bits/dim for images."""

    name: str
    per_nat: float

    def text(self, nats: float, digits: int = 4) -> str:
        """Returns a loss with its unit, such as '1.0590 bits/dim'."""
        return f"{nats * self.per_nat:.{digits}f} {self.name}".rstrip()


@config
class StageConfig:
    """Everything that determines a stage's weights."""

    stage: StageName
    dataset: str
    data_sha256: str | None = None
    event_shape: tuple[int, ...]
    levels: int | None = None
    kernel: str | None = None
    sigma: float | None = None
    scale: tuple[float, ...] | None = None
    architecture: str
    preset: str | None = None
    seed: int = Field(0, ge=0, le=LARGEST_INTEGER)
    precision: Precision = "float32"
    init_from: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    training: TrainingConfig

    @field_validator("dataset")
    @classmethod
    def _without_its_place(cls, name: str) -> str:
        """Names files without the folders above them, which are nobody's who gets the run."""
        return without_folders(name)

    @model_validator(mode="after")
    def _smoothed_unless_baseline(self) -> "StageConfig":
        if (self.kernel is None or self.sigma is None) != (self.stage == "baseline"):
            raise ValueError("every stage but the baseline has a kernel and a sigma")
        if self.scale is not None and (len(self.scale),) != self.event_shape:
            raise ValueError("scale has one number for each coordinate of a vector")
        return self

    def unit(self, in_nats: bool = True) -> Unit:
        """Returns the unit that users see the stage's loss in; one that is not in nats has none.

        Bits/dim of a prior, a density on the reals, are in units in which images span [-1, 1].
        """
        if not in_nats:
            return Unit("", 1.0)
        if len(self.event_shape) == 3:
            return Unit("bits/dim", 1 / (math.prod(self.event_shape) * math.log(2)))
        return Unit("nats", 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON and TOML; absent ones and an empty `data` are left out."""
        values = {"format": _FORMAT, "smoothctl": __version__, **as_dict(self)}
        return {k: v for k, v in values.items() if v is not None and (k, v) != ("data", {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> "StageConfig":
        """Reads what `to_dict` gave.

        Raises:
            RunError: another format, or not a stage's configuration.
        """
        rest = {key: value for key, value in values.items() if key not in ("format", "smoothctl")}
        if values.get("format") != _FORMAT:
            raise RunError(
                f"{where} has format {values.get('format')!r}; "
                f"smoothctl {__version__} reads format {_FORMAT}."
            )
        try:
            return build(cls, _with_meant(rest), where)
        except UsageError as error:
            raise RunError(f"This is no configuration of a stage: {error}") from error

    def check_same_smoothing(self, other: "StageConfig", where: str) -> None:
        """Checks that two stages have the same data, classes and, unless plain, smoothing.

        Raises:
            RunError: they differ; the message names the key and `where`.
        """
        same_data = self.has_same_data(other)
        if (self.dataset, self.data) == (other.dataset, other.data) and not same_data:
            raise RunError(f"{self.dataset} has changed since {where} was fitted to it.")
        mine, others = (stage.options.get("classes") or 0 for stage in (self, other))
        if mine != others:
            raise RunError(
                f"In {where} the {self.stage} has classes={mine} and the {other.stage} "
                f"classes={others}: condition all stages of a run on the same classes, or none."
            )
        keys = ["event_shape"] if same_data else ["dataset", "data", "event_shape"]
        if "baseline" not in (self.stage, other.stage):
            keys += ["kernel", "sigma", "scale"]
        for key in keys:
            mine, others = getattr(self, key), getattr(other, key)
            if not is_same(key, mine, others):
                raise RunError(
                    f"In {where} the {self.stage} has {key} {mine} and the {other.stage} {others}: "
                    "one run folder holds one; choose another folder, or remove a stage."
                )

    def check_data(self, fingerprint: str | None, event_shape: tuple[int, ...], where: str) -> None:
        """Checks that data which were opened are those that the stage was fitted to.

        Raises:
            RunError: they are not.
        """
        if (self.data_sha256, self.event_shape) != (fingerprint, event_shape):
            raise RunError(f"{self.dataset} has changed since {where} was fitted to it.")

    def has_same_data(self, other: "StageConfig") -> bool:
        """Returns whether two stages were fitted to the same data, however called."""
        if self.data_sha256 is None:
            return is_same("dataset", self.dataset, other.dataset) and self.data == other.data
        return self.data_sha256 == other.data_sha256

    def differences(self, other: "StageConfig", longer: bool = False) -> list[str]:
        """Returns 'key: mine → other' for each value that differs and matters for the weights.

        What is done at a loss that is not finite may change: a run that it ended can go on.

        Args:
            other: another configuration.
            longer: it may have more steps, as a fit that goes on.
        """
        mine, others = flattened(self.to_dict()), flattened(other.to_dict())
        free = {"smoothctl", "preset", "training.on_nan"}
        if self.has_same_data(other):
            free.add("dataset")
        if longer and other.training.steps > self.training.steps:
            free.add("training.steps")
        keys = sorted((mine.keys() | others.keys()) - free)
        return [
            f"{key}: {mine.get(key, 'none')} → {others.get(key, 'none')}"
            for key in keys
            if not is_same(key, mine.get(key), others.get(key)) and not _is_newer(key, mine, others)
        ]


def to_toml(stage: StageConfig, sources: Mapping[str, str], version: str = __version__) -> str:
    """Returns config.toml: every value, with where it came from as a comment.

    Args:
        stage: the configuration.
        sources: dotted key -> "default", "command line", … ; others are "default".
        version: of the smoothctl that fitted it.
    """
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment(f"smoothctl fit-{stage.stage} --config THIS_FILE recreates it"))
    for key, value in {**stage.to_dict(), "smoothctl": version}.items():
        if isinstance(value, dict):
            table = tomlkit.table()
            for name, item in value.items():
                table.add(name, tomlkit.item(item).comment(sources.get(f"{key}.{name}", "default")))
            document.add(key, table)
        elif key in ("format", "smoothctl", "stage", "event_shape", "levels", "data_sha256"):
            document.add(key, tomlkit.item(value))
        else:
            document.add(key, tomlkit.item(value).comment(sources.get(key, "default")))
    return tomlkit.dumps(document)


def from_toml(path: Path) -> dict[str, Any]:
    """Reads a configuration file, whole or partial, as plain values.

    Raises:
        UsageError: missing, too large, not TOML, or with an unknown key.
    """
    if not path.exists():
        raise UsageError(f"There is no configuration {path}.")
    try:
        values = read_toml(path, LARGEST_CONFIG)
    except RunError as error:
        raise UsageError(str(error)) from error
    known = {"format", "smoothctl", "standardise", *StageConfig.__dataclass_fields__}
    for key in values:
        if key not in known:
            raise UsageError(f"{path} has an unknown key '{key}'{near_misses(key, known)}")
    if values.get("format", _FORMAT) != _FORMAT:
        raise UsageError(f"{path} has format {values['format']!r}; this version reads {_FORMAT}.")
    for key, value in values.items():
        if key in ("data", "options", "training") and not isinstance(value, dict):
            raise UsageError(f"{path}: '{key}' must be a table, as in [{key}].")
        if key in ("dataset", "kernel", "architecture") and not isinstance(value, str):
            raise UsageError(f"{path}: '{key}' must be a name in quotes, not {value!r}.")
    return _with_meant(values) if "format" in values else values


def _with_meant(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a whole configuration with the settings that its version did not have yet."""
    meant = _MEANT.get(str(values.get("architecture")), {})
    options = values.get("options")
    if values.get("stage") != "denoiser" or not isinstance(options, Mapping):
        return dict(values)
    return {**values, "options": {**meant, **options}}


def is_same(key: str, mine: Any, others: Any) -> bool:
    """Returns whether two values of a key mean the same, be it an entry's name of older runs."""
    registry = REGISTRIES.get(f"smoothctl.{key}s")
    if registry is not None and isinstance(mine, str) and isinstance(others, str):
        return registry.same(mine, others)
    return bool(mine == others)


def _is_newer(key: str, mine: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Returns whether only one of two configurations is of a version that has the setting."""
    return key.startswith("options.") and (key in mine) != (key in others)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns settings with those of tables as table.key: one level."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
