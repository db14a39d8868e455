"""What the page shows of each stage: state, size, curve, settings, command."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smoothctl.errors import NotAvailable, SmoothctlError
from smoothctl.metrics.gain import gain_note
from smoothctl.reporting.figures import comparison, curves, svg
from smoothctl.reporting.tables import MISSING, Table, duration, is_number, left, right
from smoothctl.runs.commands import fit_command, shell
from smoothctl.runs.config import StageConfig, StageName, Unit, to_toml
from smoothctl.runs.models import loss_unit
from smoothctl.runs.run import Run, Stage
from smoothctl.storage.files import without_folders
from smoothctl.training.preview import previews

__all__ = ["StageView", "stage_views", "stages_table"]

_STAGES: tuple[StageName, ...] = ("prior", "denoiser", "joint", "baseline")


@dataclass(frozen=True)
class StageView:
    """What the page shows of one stage.

    Args:
        name: of the stage.
        config: its settings.
        made_with: the version of smoothctl that fitted it.
        state: complete, or how far it is.
        cells: its row in the table of stages.
        hint: what to do about a denoiser that hardly uses x̃.
        curves: its losses over steps as SVG.
        previews: samples that were drawn on the way, as SVG; '' without any.
        settings: key, value and source of each line of its config.toml.
        toml: that file, as the weights say.
        command: fits it.
    """

    name: str
    config: StageConfig
    made_with: str
    state: str
    cells: list[str]
    hint: str
    curves: str
    previews: str
    settings: list[tuple[str, str, str]]
    toml: str
    command: str

    @property
    def chosen(self) -> Table | None:
        """The settings that are neither defaults nor the prior's; None where all are."""
        rows = [row for row in self.settings if row[2] not in ("", "default", "prior")]
        return Table("Settings", left("setting", "value", "source"), [rows]) if rows else None

    @property
    def inherits(self) -> bool:
        """Whether a setting is the prior's."""
        return any(source == "prior" for _, _, source in self.settings)


def stages_table(stages: Sequence[StageView]) -> Table:
    """Returns a row for each stage."""
    columns = [
        *left("stage", "architecture"),
        *right("parameters", "steps", "batch", "seed"),
        *left("precision", "validation loss", "gain from x̃", "time", "state"),
    ]
    return Table("Stages", columns, [[stage.cells for stage in stages]])


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
    views = [_stage(run, name, configs, missing) for name in configs]
    complete = run.stages()
    lacking = [name for name in configs if name not in complete]
    if "joint" not in complete:
        lacking += [name for name in _STAGES[:2] if not run.stage(name).started][:1]
    missing += [run.stage(name).lacking() for name in lacking]
    return views


def _stage(
    run: Run, name: StageName, configs: Mapping[StageName, StageConfig], missing: list[str]
) -> StageView:
    stage, config = run.stage(name), configs[name]
    log, unit, seconds = stage.log(), loss_unit(config), stage.seconds().wall
    state = _state(stage, config, log)
    text = stage.config_file.read_text(encoding="utf-8", errors="replace")
    made_with = str(tomllib.loads(text).get("smoothctl", ""))
    sources = {key: without_folders(source) for key, _, source in _settings(text)}
    text = to_toml(config, sources, made_with)  # as the weights say, and without places
    return StageView(
        name=name,
        config=config,
        made_with=made_with,
        state=state,
        cells=[
            name,
            config.architecture + (f" ({config.preset})" if config.preset else ""),
            _parameters(run, name, missing),
            f"{config.training.steps:,}",
            str(config.training.batch_size),
            str(config.seed),
            config.precision,
            _last(log, "validation", unit),
            _last(log, "gain", unit),
            duration(seconds) if seconds else MISSING,
            state,
        ],
        hint=_hint(config, log),
        curves=_curves(name, log, unit, missing),
        previews=_previews(run, name, missing),
        settings=_settings(text),
        toml=text,
        command=shell(fit_command(config, without_folders(str(run.path)), configs.get("prior"))),
    )


def _state(stage: Stage, config: StageConfig, log: Sequence[Mapping[str, float]]) -> str:
    if stage.complete:
        return "complete"
    last = int(log[-1]["step"]) if log else 0
    return f"not complete: step {last:,} of {config.training.steps:,}"


def _parameters(run: Run, name: StageName, missing: list[str]) -> str:
    if not run.stage(name).complete:
        return MISSING
    try:
        return f"{sum(p.numel() for p in run.density(name).parameters()):,}"
    except SmoothctlError as error:
        missing.append(f"The {name} cannot be loaded: {error}")
        return MISSING


def _series(log: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(e["step"], float(e[key])) for e in log if is_number(e.get(key))]


def _curves(name: str, log: Sequence[Mapping[str, Any]], unit: Unit, missing: list[str]) -> str:
    """Returns the losses of a log over its steps; '' where it has none, or they cannot be drawn."""
    lines = {key: _series(log, key) for key in ("loss", "validation")}
    shown = {
        key: [(step, value * unit.per_nat) for step, value in line]
        for key, line in lines.items()
        if line
    }
    if not shown:
        return ""
    ends = "; ".join(f"{key} ends at {line[-1][1]:.4g}" for key, line in shown.items())
    loss = unit.name or "loss"
    try:
        return svg(curves(shown, loss), f"{loss} over step of the {name}: {ends}.")
    except NotAvailable as error:
        missing.append(f"The {name} has no curves: {error}")
        return ""


def _previews(run: Run, name: StageName, missing: list[str]) -> str:
    """Returns the samples that a stage's fit drew on the way; '' where there are none."""
    try:
        kept = previews(run.stage(name))
        if not kept:
            return ""
        images = next(iter(kept.values())).ndim == 4
        figure = comparison(
            {f"step {step:,}": samples for step, samples in kept.items()},
            None if images else run.dataset(),
        )
        if figure is None:
            return ""
        steps = ", ".join(f"{step:,}" for step in kept)
        return svg(figure, f"Samples of the {name} from the same noise after steps {steps}.")
    except SmoothctlError as error:
        missing.append(f"The {name} has no strip of samples: {error}")
        return ""


def _last(log: Sequence[Mapping[str, Any]], key: str, unit: Unit) -> str:
    """Returns the last value of a log's validations in the unit of users."""
    line = _series(log, key)
    return unit.text(line[-1][1]).replace("-", "−") if line else MISSING


def _hint(config: StageConfig, log: Sequence[Mapping[str, Any]]) -> str:
    """Returns what to do about a denoiser that hardly uses x̃."""
    line = _series(log, "gain")
    return (line and gain_note(line[-1][1], config.event_shape)) or ""


def _settings(text: str) -> list[tuple[str, str, str]]:
    """Returns every value of a config.toml with its comment, which is its source."""
    import tomlkit
    from tomlkit.items import Table as Section

    document = tomlkit.parse(text)
    values: dict[str, Any] = {}
    for key in document:
        item = document.item(key)
        if isinstance(item, Section):
            values |= {f"{key}.{name}": item.value.item(name) for name in item}
        else:
            values[key] = item
    return [(k, v.as_string(), v.trivia.comment.lstrip("# ")) for k, v in values.items()]
