"""The command lines that recreate a run: from stored settings back to what a person types."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smoothctl import architectures
from smoothctl.architectures.base import Density
from smoothctl.config import as_dict, parse_value
from smoothctl.errors import SmoothctlError
from smoothctl.runs.config import StageConfig, TrainingConfig

__all__ = ["fit_command", "report_command", "sample_command", "score_command", "shell"]

_WIDTH = 78
_SPLIT = re.compile(r"(.*) \((train|validation|test)\)")
"""The name of a set of images that is a split of a dataset."""

_FLAGS = {"steps": "--steps", "batch_size": "--batch-size", "learning_rate": "--learning-rate"}
"""The settings of training that have flags of their own."""

_ANNEALING = ("temperatures", "moves", "leapfrogs", "chains")


def fit_command(
    config: StageConfig, out: str | Path, prior: StageConfig | None = None
) -> list[str]:
    """Returns the command whose settings resolve to a stage's configuration.

    It names data, architecture, smoothing and whatever else differs from what the verb takes by
    itself; of a denoiser, what differs from its prior.

    Args:
        config: the stage's configuration.
        out: the run folder to fit into.
        prior: the configuration of the prior that a denoiser inherits from; None: it is not
            known, so nothing is left out.
    """
    inherits = config.stage == "denoiser" and prior is not None
    same = inherits and prior is not None and prior.architecture == config.architecture
    arguments = ["smoothctl", f"fit-{config.stage}"]
    if not inherits:
        arguments += _flags({"--dataset": config.dataset})
        for key, value in config.data.items():
            arguments += ["--data", f"{key}={_text(value)}"]
        arguments += _flags({"--kernel": config.kernel, "--sigma": config.sigma})
        if _may_standardise(config):
            arguments += ["--set", f"standardise={_text(config.scale is not None)}"]
    inherited = prior.preset if same and prior else None
    arguments += _flags(
        {
            "--arch": None if same else config.architecture,
            "--preset": None if config.preset == inherited else config.preset,
            "--seed": config.seed or None,
            "--precision": None if config.precision == "float32" else config.precision,
            "--init-from": config.init_from,
        }
    )
    options, training = _unsaid(config, prior if same else None)
    arguments += _training_flags(config.training, training)
    arguments += _settings("", config.options, options)
    return [*arguments, "--out", _path(out)]


def sample_command(run: str | Path, number: int, seed: int, weights: str) -> list[str]:
    """Returns the command that draws samples by all methods from the same x̃."""
    return ["smoothctl", "sample", _path(run), "--method", "all", *_drawing(number, seed, weights)]


def report_command(run: str | Path, number: int, seed: int, weights: str) -> list[str]:
    """Returns the command that writes the report with these samples."""
    return ["smoothctl", "report", _path(run), *_drawing(number, seed, weights)]


def score_command(run: str | Path, scores: Mapping[str, Any] | None = None) -> list[str]:
    """Returns the command that scores a run.

    Args:
        run: the run folder.
        scores: an entry of scores.json, whose settings are taken; None: the verb's own.
    """
    arguments = ["smoothctl", "score", _path(run)]
    if scores is None:
        return arguments
    draws, quality, annealing = (scores.get(key) for key in ("draws", "quality", "annealing"))
    flags = {
        "--limit": _limit(scores),
        "--draws": ",".join(map(str, draws)) if isinstance(draws, list) else draws,
        "--samples": scores.get("samples_each"),
        "--quadrature": scores.get("quadrature"),
        **(_annealing(scores, annealing) if isinstance(annealing, dict) else {}),
        **(_comparing(scores, quality) if isinstance(quality, dict) else {}),
        "--seed": scores.get("seed"),
        "--weights": scores.get("weights"),
    }
    sampler = scores.get("sampler")
    settings = sampler.items() if isinstance(sampler, dict) else ()
    chosen = [word for key, value in settings for word in ("--set", f"{key}={_text(value)}")]
    return arguments + _flags(flags) + chosen


def shell(arguments: Sequence[str], width: int = _WIDTH) -> str:
    """Returns a command quoted for a POSIX shell, on several lines where it is long.

    Args:
        arguments: program and arguments.
        width: characters a line, where an argument is not longer by itself.
    """
    lines, line = [], ""
    for word in _with_values(arguments):
        if line and len(line) + len(word) + 1 > width - 2:
            lines.append(line)
            line = "    " + word
        else:
            line = f"{line} {word}" if line else word
    return " \\\n".join([*lines, line])


def _annealing(scores: Mapping[str, Any], annealing: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the flags of a bound that was annealed."""
    settings = annealing.get("settings")
    known = settings if isinstance(settings, dict) else {}
    return {"--bound": scores.get("bound")} | {f"--{name}": known.get(name) for name in _ANNEALING}


def _flags(values: Mapping[str, Any]) -> list[str]:
    """Returns each flag that has a value, and the value."""
    given = {flag: value for flag, value in values.items() if value is not None}
    return [word for flag, value in given.items() for word in (flag, str(value))]


def _drawing(number: int, seed: int, weights: str) -> list[str]:
    return ["--number", str(number), "--seed", str(seed), "--weights", weights]


def _with_values(arguments: Sequence[str]) -> list[str]:
    """Quotes the arguments, and keeps a flag and its value on one line."""
    words: list[str] = []
    for argument in arguments:
        quoted = shlex.quote(argument)
        if words and words[-1].startswith("--") and " " not in words[-1] and quoted[:2] != "--":
            words[-1] += " " + quoted
        else:
            words.append(quoted)
    return words


def _unsaid(
    config: StageConfig, prior: StageConfig | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the options and the training that the command gives without --set.

    Nothing can be left unsaid where the architecture's package is not installed.
    """
    try:
        cls = architectures.load(config.architecture)
    except SmoothctlError:
        return {}, {}
    inherited = {} if prior is None else dict(prior.options)
    inherited.pop(cls.noise_setting, None)
    options = {**as_dict(cls.Config()), **inherited}
    training = {**as_dict(TrainingConfig()), **cls.training_defaults}
    for key, value in _preset(cls, config, prior).items():
        name = key.removeprefix("training.")
        if name != key:
            training[name] = value
        elif prior is None or config.preset not in (None, prior.preset):
            options[name] = value
    said = set(cls.suited(config.stage, 1.0, config.options))  # which may depend on the examples
    if config.stage == "prior":
        said.add(cls.noise_setting)
    return {key: value for key, value in options.items() if key not in said}, training


def _may_standardise(config: StageConfig) -> bool:
    """Returns whether the columns of the data may be such as are standardised by default."""
    smoothed, vectors = config.kernel is not None, len(config.event_shape) == 1
    return config.scale is not None or (smoothed and vectors and "/" in config.dataset)


def _preset(
    cls: type[Density], config: StageConfig, prior: StageConfig | None
) -> Mapping[str, Any]:
    """Returns the preset that is in force: the stage's own, or else that of the prior."""
    name = config.preset if config.preset is not None or prior is None else prior.preset
    return {} if name is None else cls.presets.get(name, {})


def _training_flags(training: TrainingConfig, unsaid: Mapping[str, Any]) -> list[str]:
    values = as_dict(training)
    arguments = []
    for key, flag in _FLAGS.items():
        if key not in unsaid or values[key] != unsaid[key]:
            arguments += [flag, _text(values[key])]
    rest = {key: value for key, value in values.items() if key not in _FLAGS}
    return arguments + _settings("training.", rest, unsaid)


def _settings(prefix: str, values: Mapping[str, Any], unsaid: Mapping[str, Any]) -> list[str]:
    arguments = []
    for key, value in values.items():
        if value is not None and not (key in unsaid and _plain(unsaid[key]) == value):
            arguments += ["--set", f"{prefix}{key}={_text(value)}"]
    return arguments


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    """Returns the right side of KEY=VALUE that `parse_value` reads as the value."""
    if isinstance(value, str) and parse_value(value) == value:
        return value
    import tomlkit

    return str(tomlkit.item(value).as_string())


def _path(path: str | Path) -> str:
    """Returns a path that no parser takes for an option."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _comparing(scores: Mapping[str, Any], quality: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the features, and the reference where it is not the run's own training images."""
    reference, own = str(quality.get("reference")), Path(str(scores.get("dataset"))).name
    flags = {"--features": quality.get("features")}
    if reference == f"{own} (train)" or "reference" not in quality:
        return flags
    named = _SPLIT.fullmatch(reference)
    name, split = named.groups() if named else (reference, None)
    return {**flags, "--reference": name, "--split": split}


def _limit(scores: Mapping[str, Any]) -> int | None:
    """Returns how many test examples were taken, 0 for all; None where it cannot be told."""
    if "limit" in scores:
        limit: int | None = scores["limit"]
        return limit or 0
    exact = [e for e in scores.get("likelihood", []) if "quadrature" not in str(e.get("quantity"))]
    return max((e["examples"] for e in exact if isinstance(e.get("examples"), int)), default=None)
