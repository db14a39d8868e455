"""What the fit verbs share: from flags, file and --set to settings, and the printed result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl.cli.console import Notes, print_json, print_table
from smoothctl.distributed.processes import is_first
from smoothctl.errors import UsageError

if TYPE_CHECKING:
    from smoothctl.runs.config import StageName, Unit
    from smoothctl.runs.run import Run
    from smoothctl.training.settings import FitPlan

__all__ = ["data_settings", "fit_stage", "merge", "print_result", "sampler_settings"]

_INFORMATIVE = {"format", "smoothctl", "stage", "event_shape", "levels", "data_sha256"}
_FLAGS = {
    "dataset": "dataset",
    "architecture": "arch",
    "preset": "preset",
    "kernel": "kernel",
    "sigma": "sigma",
    "seed": "seed",
    "precision": "precision",
    "init_from": "init_from",
    "out": "out",
}
"""Setting -> flag."""

_LABELS = {
    "validation_nats": "validation, nats",
    "validation_bits_per_dim": "validation, bits/dim",
    "gain_nats": "gain from x̃, nats",
    "gain_bits_per_dim": "gain from x̃, bits/dim",
}
"""Figure -> what a person reads."""


def merge(
    stage: "StageName",
    config_file: Path | None,
    chosen: dict[str, Any],
    training: dict[str, Any],
    assignments: Sequence[str] | None,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the settings of `training.fit` in the order defaults < file < flags and --set.

    Args:
        stage: what is fitted; a file of another stage is an error.
        config_file: --config.
        chosen: flags by name, None where not given.
        training: training flags by name, None where not given.
        assignments: the values of --set.
        data: what `data_settings` gives for --data and --skip-corrupt.

    Raises:
        UsageError: an unknown key in the file, or a --set without '='.
    """
    from smoothctl.runs.config import from_toml

    file = from_toml(config_file) if config_file is not None else {}
    if file.get("stage", stage) != stage:
        raise UsageError(f"{config_file} is of a {file['stage']}, not of a {stage}.")
    settings: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {"data": {}, "options": {}, "training": {}, "": settings}
    sources: dict[str, str] = {}
    for key, value in file.items():
        if key in tables:
            tables[key].update(value)
            sources.update({f"{key}.{name}": str(config_file) for name in value})
        elif key not in _INFORMATIVE:
            settings[key] = value
            sources[key] = str(config_file)
    for key, value in chosen.items():
        if value is not None:
            settings[key] = value
            sources[key] = "command line"
    given = [("training", key, value) for key, value in training.items() if value is not None]
    given += [("data", key, value) for key, value in (data or {}).items()]
    for table, key, value in [*given, *map(_assignment, assignments or [])]:
        dotted = f"{table}.{key}".lstrip(".")
        if sources.get(dotted) == "command line":
            raise UsageError(f"The setting '{key}' is given twice on the command line.")
        tables[table][key] = value
        sources[dotted] = "command line"
    if settings.get("standardise") is False:
        settings.pop("scale", None)  # of a configuration file
    named = {name: table for name, table in tables.items() if name}
    return {**settings, **named, "sources": sources}


def data_settings(assignments: Sequence[str] | None, skip_corrupt: bool) -> dict[str, Any]:
    """Returns the dataset's settings from the values of --data and from --skip-corrupt.

    Raises:
        UsageError: a --data without '=', or a setting given twice.
    """
    settings: dict[str, Any] = {"skip_corrupt": True} if skip_corrupt else {}
    for text in assignments or []:
        key, value = _key_and_value("--data", text)
        if key in settings:
            raise UsageError(f"The setting '{key}' is given twice on the command line.")
        settings[key] = value
    return settings


def sampler_settings(assignments: Sequence[str] | None) -> dict[str, Any]:
    """Returns the settings that --set gives to a verb that draws samples.

    Raises:
        UsageError: a --set without '=', or a setting given twice.
    """
    settings: dict[str, Any] = {}
    for key, value in (_key_and_value("--set", text) for text in assignments or []):
        if key in settings:
            raise UsageError(f"The setting '{key}' is given twice on the command line.")
        settings[key] = value
    return settings


def _assignment(text: str) -> tuple[str, str, Any]:
    key, value = _key_and_value("--set", text)
    if key == "standardise":
        if not isinstance(value, bool):
            raise UsageError(f"--set standardise is true or false, not {value!r}.")
        return "", key, value
    table, dot, name = key.rpartition(".")
    if dot and table != "training":
        raise UsageError(f"--set {key}: only 'training.' may stand before a key, not '{table}.'.")
    return ("training" if dot else "options"), name, value


def _key_and_value(option: str, text: str) -> tuple[str, Any]:
    from smoothctl.config import parse_value

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{option} takes KEY=VALUE, not '{text}'.")
    return key, parse_value(value)


def fit_stage(stage: "StageName", flags: dict[str, Any]) -> None:
    """Fits a stage as its verb's flags say and prints the result.

    Args:
        stage: what to fit.
        flags: the verb's parameters by name; None where a flag was not given.
    """
    import time

    begun = time.monotonic()
    notes = Notes(flags["quiet"])
    training = {key: flags[key] for key in ("steps", "batch_size", "learning_rate", "on_nan")}
    training["compile"] = flags["compiled"] or None
    chosen = {name: flags.get(flag) for name, flag in _FLAGS.items()}
    data = data_settings(flags["data"], flags["skip_corrupt"])
    settings = merge(stage, flags["config"], chosen, training, flags["assignments"], data)
    if stage == "denoiser" and "out" not in settings:
        settings["out"] = _newest_prior(notes)
    from smoothctl.training import fit

    settings |= {"device": flags["device"].value, "overwrite": flags["overwrite"]}
    plan = fit.fit_stage(stage, fit.FitSettings(**settings), notes)
    if is_first():
        print_result(plan, time.monotonic() - begun, flags["as_json"], notes)


def _newest_prior(notes: Notes) -> Path:
    from smoothctl.runs.run import newest_run

    run = newest_run("prior")
    notes.note(f"Fits beside the newest prior, in {run}.")
    return run


def print_result(plan: "FitPlan", seconds: float, as_json: bool, notes: Notes) -> None:
    """Prints one fitted stage as a table or as JSON: where, how large, and its validation loss."""
    from rich.table import Table

    from smoothctl.metrics.gain import gain_note
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
        "seconds": round(seconds, 1),
    }
    if "gain_nats" in figures and (said := gain_note(figures["gain_nats"], config.event_shape)):
        notes.note(said)
    if as_json:
        print_json(result)
        return
    table = Table(title=f"{run.path}/{stage}", title_justify="left", show_header=False)
    for key, value in result.items():
        hidden = key in ("run", "stage") or (key.endswith("_nats") and len(config.event_shape) == 3)
        if value is not None and not hidden:
            shown = f"{value:.4f}" if key in figures else str(value)
            table.add_row(_LABELS.get(key, key.replace("_", " ")), shown)
    print_table(table)


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
