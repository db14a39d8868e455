"""`smoothctl fit-prior`, `fit-denoiser`, `fit-joint` and `fit-baseline`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.targets import data_settings, given_twice, key_values
from smoothctl.distributed.processes import is_first
from smoothctl.errors import UsageError

if TYPE_CHECKING:
    from smoothctl.runs.config import StageName, Unit
    from smoothctl.runs.run import Run
    from smoothctl.training.settings import FitPlan

__all__ = ["Baseline", "Denoiser", "Joint", "Prior", "Smoothed", "chosen_settings", "verb"]

_TABLES = ("data", "options", "training")
_DESCRIBED = ("data_sha256", "event_shape", "levels")
_INFORMATIVE = {"format", "smoothctl", "stage", *_DESCRIBED}
"""What a config.toml says and nobody chooses."""

_LABELS = {
    "validation_nats": "validation, nats",
    "validation_bits_per_dim": "validation, bits/dim",
    "gain_nats": "gain from x̃, nats",
    "gain_bits_per_dim": "gain from x̃, bits/dim",
}
"""Figure -> what a person reads."""


@dataclass(frozen=True)
class _Model:
    dataset: options.DatasetName = None
    data: options.DataSettings = None
    skip_corrupt: options.SkipCorrupt = False
    arch: options.Architecture = None
    preset: options.Preset = None


@dataclass(frozen=True)
class _Smoothing:
    kernel: options.KernelName = None
    sigma: options.Sigma = None


@dataclass(frozen=True)
class _How:
    assignments: options.Set = None
    config: options.ConfigFile = None
    steps: options.Steps = None
    batch_size: options.BatchSize = None
    learning_rate: options.LearningRate = None
    on_nan: options.OnNan = None
    compiled: options.Compile = False
    seed: options.FitSeed = None
    precision: options.FitPrecision = None
    device: options.Device = "auto"
    init_from: options.InitFrom = None
    preview: options.Preview = None


@dataclass(frozen=True)
class _Output:
    track: options.Track = None
    out: options.Out = None
    overwrite: options.Overwrite = False
    quiet: options.Quiet = False
    as_json: options.Json = False


@dataclass(frozen=True)
class Baseline(_Output, _How, _Model):
    """Fit a plain density to unsmoothed data, to compare the method with."""


@dataclass(frozen=True)
class Smoothed(_How, _Smoothing, _Model):
    """What every stage but the baseline is told."""


@dataclass(frozen=True)
class Prior(_Output, Smoothed):
    """Fit the prior p(x̃) to smoothed data: the first step.

    Without options: MADE on the embedded rings data, smoothed by a Gaussian of sigma 0.3. For
    images, PixelCNN++ on the embedded digits.
    """


@dataclass(frozen=True)
class Denoiser(Prior):
    """Fit the denoiser p(x|x̃) beside a prior: the second step.

    Dataset, kernel, sigma, architecture and its settings are those of the prior in the run
    folder.
    """

    out: options.DenoiserOut = None


@dataclass(frozen=True)
class Joint(Prior):
    """Fit one autoregressive network over x̃ and x: both steps at once (ARDS section 4.1)."""


Options = Baseline | Prior
"""What a person may choose of a fit: the fields of a class are its verb's options, in order.

(Fields of several bases are in the order of the bases from right to left.)
"""


def verb(stage: "StageName", kind: type[Options]) -> Callable[..., None]:
    """Returns the command of a stage: its help and its options are those of the class."""

    @wraps(kind, updated=())
    def command(**chosen: Any) -> None:
        _fit(stage, kind(**chosen))

    return command


def _fit(stage: "StageName", chosen: Options) -> None:
    notes = Notes(chosen.quiet)
    settings = chosen_settings(stage, chosen)
    settings |= {"overwrite": chosen.overwrite}
    if chosen.out is not None:
        settings |= {"out": chosen.out}
    if stage == "denoiser" and "out" not in settings:
        settings["out"] = _newest_prior(notes)
    from smoothctl.training import fit
    from smoothctl.training.tracking import Tracked, check_trackers

    check_trackers(chosen.track or [])
    reporter = Tracked(notes, chosen.track) if chosen.track and is_first() else notes
    plan = fit.fit_stage(stage, fit.FitSettings(**settings), reporter)
    if is_first():
        print_result(plan, chosen.as_json, notes)


def chosen_settings(stage: "StageName", chosen: Baseline | Smoothed) -> dict[str, Any]:
    """Returns the settings of `training.fit` but the folder: defaults < file < flags and --set.

    Args:
        stage: that a configuration file must be of.
        chosen: on the command line.

    Raises:
        UsageError: an unknown key in the file, a setting that is given twice, or one without '='.
    """
    file, typed = _of_file(stage, chosen.config), _of_flags(chosen)
    values = {**file, **typed}
    if any(key == ("", "dataset") or key[0] == "data" for key in typed):
        values.pop(("", "described"), None)  # then they are others
    if values.get(("", "standardise")) is False:
        values.pop(("", "scale"), None)  # of a configuration file
    settings: dict[str, Any] = {table: {} for table in _TABLES}
    for (table, key), value in values.items():
        (settings[table] if table else settings)[key] = value
    name = "" if chosen.config is None else chosen.config.name
    sources = dict.fromkeys(file, name) | dict.fromkeys(typed, "command line")
    return {
        **settings,
        "sources": {".".join(filter(None, key)): source for key, source in sources.items()},
        "device": chosen.device,
        "preview": chosen.preview or 0,
    }


def _of_file(stage: "StageName", config: Path | None) -> dict[tuple[str, str], Any]:
    """Returns (table, key) -> value of a configuration file; "" is the table of the others."""
    if config is None:
        return {}
    from smoothctl.runs.config import from_toml
    from smoothctl.runs.places import recall
    from smoothctl.storage.files import without_folders

    file = from_toml(config)
    if file.get("stage", stage) != stage:
        raise UsageError(f"{config} is of a {file['stage']}, not of a {stage}.")
    values = {("", k): v for k, v in file.items() if k not in _INFORMATIVE and k not in _TABLES}
    values["", "described"] = {key: file[key] for key in _DESCRIBED if key in file}
    place = recall(file.get("data_sha256"))
    if place is not None and without_folders(place) == file.get("dataset"):
        values["", "dataset"] = place
    return values | {(table, k): v for table in _TABLES for k, v in file.get(table, {}).items()}


def _of_flags(chosen: Baseline | Smoothed) -> dict[tuple[str, str], Any]:
    """Returns (table, key) -> value of what was typed."""
    typed: dict[tuple[str, str], Any] = {}
    for key, value in _flags(chosen):
        if key in typed:
            raise given_twice(key[1])
        if value is not None:
            typed[key] = value
    return typed


def _flags(chosen: Baseline | Smoothed) -> Iterator[tuple[tuple[str, str], Any]]:
    for key in ("dataset", "preset", "seed", "precision", "init_from"):
        yield ("", key), getattr(chosen, key)
    yield ("", "architecture"), chosen.arch
    if isinstance(chosen, Smoothed):
        yield ("", "kernel"), chosen.kernel
        yield ("", "sigma"), chosen.sigma
    for key in ("steps", "batch_size", "learning_rate", "on_nan"):
        yield ("training", key), getattr(chosen, key)
    yield ("training", "compile"), chosen.compiled or None
    for key, value in data_settings(chosen.data, chosen.skip_corrupt).items():
        yield ("data", key), value
    for key, value in key_values("--set", chosen.assignments):
        yield _table(key, value), value


def _table(name: str, value: Any) -> tuple[str, str]:
    """Returns the table and the key that --set names."""
    if name == "standardise":
        if not isinstance(value, bool):
            raise UsageError(f"--set standardise is true or false, not {value!r}.")
        return "", name
    table, dot, key = name.rpartition(".")
    if dot and table != "training":
        raise UsageError(f"--set {name}: only 'training.' may stand before a key, not '{table}.'.")
    return ("training" if dot else "options"), key


def _newest_prior(notes: Notes) -> Path:
    from smoothctl.runs.run import newest_run

    run = newest_run("prior")
    notes.note(f"Fits beside the newest prior, in {run}.")
    return run


def print_result(plan: "FitPlan", as_json: bool, notes: Notes) -> None:
    """Prints one fitted stage as a table or as JSON: where, how large, and its validation loss."""
    from smoothctl.metrics.gain import gain_note
    from smoothctl.reporting.tables import Table, left, print_table
    from smoothctl.runs.models import build_density

    run, config, stage = plan.run, plan.config, plan.config.stage
    density = build_density(config, plan.options)
    figures = _figures(run, stage, config.unit(density.loss_in_nats()))
    result = {
        "run": str(run.path),
        "stage": stage,
        "dataset": config.dataset,
        "architecture": config.architecture,
        "kernel": config.kernel,
        "sigma": config.sigma,
        "parameters": sum(p.numel() for p in density.parameters()),
        "steps": config.training.steps,
        **figures,
        "seconds": round(run.stage(stage).seconds().wall, 1),
    }
    if "gain_nats" in figures and (said := gain_note(figures["gain_nats"], config.event_shape)):
        notes.note(said)
    if as_json:
        print_json(result)
        return
    rows = []
    for key, value in result.items():
        hidden = key in ("run", "stage") or (key.endswith("_nats") and len(config.event_shape) == 3)
        if value is not None and not hidden:
            shown = f"{value:.4f}" if key in figures else str(value)
            rows.append([_LABELS.get(key, key.replace("_", " ")), shown])
    print_table(Table(f"{run.path}/{stage}", left("", ""), [rows]))


def _figures(run: "Run", stage: "StageName", unit: "Unit") -> dict[str, float]:
    """Returns the last validation of a stage's log, and a denoiser's gain from x̃."""
    validations = [e for e in run.stage(stage).log() if "validation" in e]
    if not validations:
        return {}
    if not unit.name:
        return {"validation_loss": validations[-1]["validation"]}
    figures = {}
    for key in ("validation", "gain"):
        if key in validations[-1]:
            nats = validations[-1][key]
            figures[f"{key}_nats"] = nats
            if unit.name == "bits/dim":
                figures[f"{key}_bits_per_dim"] = nats * unit.per_nat
    return figures
