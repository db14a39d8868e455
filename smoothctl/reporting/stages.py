"""What the page shows of each stage: state, size, curve, settings, command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from smoothctl import architectures
from smoothctl.errors import SmoothctlError
from smoothctl.metrics.gain import gain_note
from smoothctl.reporting.charts import Chart, curves
from smoothctl.runs.commands import fit_command, shell
from smoothctl.runs.config import StageConfig, StageName, Unit
from smoothctl.runs.run import Run, Stage

__all__ = ["Setting", "StageView", "decimals", "stage_views"]

_INFINITE = 1e100
"""What is as good as infinite in a chart."""

_STAGES: tuple[StageName, ...] = ("prior", "denoiser", "joint", "baseline")


@dataclass(frozen=True)
class Setting:
    """One line of a config.toml: key, value and where it came from."""

    key: str
    value: str
    source: str


@dataclass(frozen=True)
class StageView:
    """What the page shows of one stage."""

    name: str
    config: StageConfig
    made_with: str
    state: str
    parameters: int | None
    validation: str
    gain: str
    hint: str
    duration: str
    chart: Chart | None
    settings: list[Setting]
    toml: str
    command: str

    @property
    def chosen(self) -> list[Setting]:
        """The settings that are neither defaults nor the prior's."""
        return [s for s in self.settings if s.source not in ("", "default", "prior")]

    @property
    def inherits(self) -> bool:
        """Whether a setting is the prior's."""
        return any(setting.source == "prior" for setting in self.settings)


def stage_views(run: Run, missing: list[str]) -> list[StageView]:
    """Returns what there is of each stage that was started.

    Args:
        run: an opened run.
        missing: is told in a sentence each what is not there.
    """
    started = [name for name in _STAGES if run.stage(name).started]
    configs: dict[StageName, StageConfig] = {}
    for name in started:
        try:
            configs[name] = run.stage(name).config()
        except SmoothctlError as error:
            missing.append(str(error))
    found = [_stage(run, name, configs, missing) for name in configs]
    missing += _absent(run)
    return found


def decimals(value: Any, digits: int) -> str:
    """Returns a number with so many decimals, or a dash for what is no finite number."""
    return f"{value:.{digits}f}".replace("-", "−") if _is_number(value) else "–"


def _absent(run: Run) -> list[str]:
    """Says which stages the run lacks, and what they are for."""
    complete, path = set(run.stages()), run.path
    unfinished = {name for name in _STAGES if run.stage(name).started} - complete
    found = [
        f"The {name} is not complete: repeat its command below to go on." for name in unfinished
    ]
    if "joint" in complete or {"prior", "denoiser"} <= complete:
        return sorted(found)
    if "prior" not in complete | unfinished:
        found.append(f"There is no prior: smoothctl fit-prior --out {path} fits one to x̃.")
    elif "denoiser" not in unfinished:
        found.append(
            "There is no denoiser, so no two-step samples and no bound: "
            f"smoothctl fit-denoiser --out {path} fits one."
        )
    return sorted(found)


def _stage(
    run: Run, name: StageName, configs: Mapping[StageName, StageConfig], missing: list[str]
) -> StageView:
    stage, config = run.stage(name), configs[name]
    log = stage.log()
    text = _text_of(stage.config_file)
    unit = _unit(config)
    return StageView(
        name=name,
        config=config,
        made_with=str(_raw(text).get("smoothctl", "")),
        state=_state(stage, config, log),
        parameters=_parameters(run, name, missing),
        validation=_last(log, "validation", unit),
        gain=_last(log, "gain", unit),
        hint=_hint(config, log),
        duration=_duration(log),
        chart=_chart(log, unit),
        settings=_settings(text),
        toml=text,
        command=shell(fit_command(config, run.path, configs.get("prior"))),
    )


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _raw(text: str) -> Mapping[str, Any]:
    import tomllib

    return tomllib.loads(text)


def _state(stage: Stage, config: StageConfig, log: Sequence[Mapping[str, float]]) -> str:
    if stage.complete:
        return "complete"
    last = int(log[-1]["step"]) if log else 0
    return f"not complete: step {last:,} of {config.training.steps:,}"


def _parameters(run: Run, name: StageName, missing: list[str]) -> int | None:
    if not run.stage(name).complete:
        return None
    try:
        return sum(p.numel() for p in run.density(name).parameters())
    except SmoothctlError as error:
        missing.append(f"The {name} cannot be loaded: {error}")
        return None


def _series(log: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(e["step"], float(e[key])) for e in log if _is_number(e.get(key))]


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) < _INFINITE


def _unit(config: StageConfig) -> Unit:
    """Returns what the stage's loss is shown in; a score model's has no unit."""
    try:
        return config.unit(architectures.load(config.architecture).loss_in_nats())
    except SmoothctlError:
        return config.unit(in_nats=False)


def _chart(log: Sequence[Mapping[str, Any]], unit: Unit) -> Chart | None:
    lines = {name: _series(log, name) for name in ("loss", "validation")}
    kept = {
        name: [(step, value * unit.per_nat) for step, value in line]
        for name, line in lines.items()
        if line
    }
    return curves(kept, "step", unit.name or "loss") if kept else None


def _last(log: Sequence[Mapping[str, Any]], key: str, unit: Unit) -> str:
    """Returns the last value of a log's validations in the unit of users."""
    line = _series(log, key)
    return unit.text(line[-1][1]).replace("-", "−") if line else "–"


def _hint(config: StageConfig, log: Sequence[Mapping[str, Any]]) -> str:
    """Returns what to do about a denoiser that hardly uses x̃."""
    line = _series(log, "gain")
    return (line and gain_note(line[-1][1], config.event_shape)) or ""


def _duration(log: Sequence[Mapping[str, Any]]) -> str:
    """Returns how long the steps of a log took, from their rates."""
    seconds, before = 0.0, 0
    for entry in log:
        rate = entry.get("steps_per_second")
        if _is_number(rate) and rate > 0:
            seconds += (entry["step"] - before) / rate
        before = int(entry["step"])
    if not seconds:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _settings(text: str) -> list[Setting]:
    """Returns every value of a config.toml with its comment, which is its source."""
    import tomlkit
    from tomlkit.items import Table

    document = tomlkit.parse(text)
    found: list[Setting] = []
    for key in document:
        item = document.item(key)
        if isinstance(item, Table):
            found += [_setting(f"{key}.{name}", item.value.item(name)) for name in item]
        else:
            found.append(_setting(key, item))
    return found


def _setting(key: str, item: Any) -> Setting:
    return Setting(key, item.as_string(), item.trivia.comment.lstrip("# "))
