"""One self-contained HTML page of a run: settings, curves, samples, scores, commands."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from smoothctl import __version__
from smoothctl.architectures.base import Progress
from smoothctl.charts import Chart, Image, curves, histogram, points, sheet
from smoothctl.commands import (
    fit_command,
    report_command,
    sample_command,
    score_command,
    shell,
)
from smoothctl.comparison import Cell, Column, Entry, latest, read_scores, scores_table, shown
from smoothctl.datasets.base import Dataset
from smoothctl.errors import NotAvailable, SmoothctlError
from smoothctl.files import write_bytes
from smoothctl.runs import STAGES, Run, Stage
from smoothctl.sampling import available_methods, draw_all, is_image_run, usable_methods
from smoothctl.stages import StageConfig, StageName

__all__ = ["NUMBERS", "report", "write_report"]

NUMBERS = {"image": 36, "vector": 2000}
"""Samples of each method on the page, by domain."""

_STAGES: tuple[StageName, ...] = ("prior", "denoiser", "joint", "baseline")
_ORDER = ("smoothed", "single-step", "two-step", "baseline")
_TITLES = {
    "data": "test data",
    "smoothed": "smoothed x̃ ~ p(x̃)",
    "single-step": "single-step E[x|x̃]",
    "two-step": "two-step x ~ p(x|x̃)",
    "baseline": "baseline, unsmoothed",
}
_TEMPLATE = files("smoothctl") / "templates" / "report.html"
_NEIGHBOURS = 8
"""Samples that are shown with their neighbours, and neighbours of each."""

_KINDS = ("likelihood", "samples", "quality")


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


@dataclass(frozen=True)
class Panel:
    """Samples of one method, as a picture of images or a chart of vectors."""

    title: str
    image: Image | None = None
    chart: Chart | None = None


@dataclass
class View:
    """Everything that the template is given."""

    run: Run
    number: int
    seed: int
    missing: list[str] = field(default_factory=list)
    stages: list[StageView] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    neighbours: Panel | None = None
    no_samples: str = ""
    no_scores: str = ""
    entries: list[Entry] = field(default_factory=list)


def report(
    run: Run,
    *,
    number: int | None = None,
    seed: int = 0,
    samples: bool = True,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> str:
    """Returns the page; the same run and seed give the same bytes.

    What is missing is said on the page: stages, scores, data that are gone.

    Args:
        run: an opened run.
        number: samples of each method; `NUMBERS` of its domain if None.
        seed: determines the samples.
        samples: draw samples.
        progress: told (done, total) of drawing.
        note: told what the page says to be missing.
    """
    domain = "image" if is_image_run(run) else "vector"
    view = View(run, number or NUMBERS[domain], seed)
    view.stages = _stages(run, view.missing)
    view.entries, view.no_scores = _entries(run)
    view.missing += [view.no_scores] * bool(view.no_scores)
    if samples:
        _draw(view, progress)
    else:
        view.no_samples = "No samples were asked for (--no-samples)."
    for sentence in view.missing:
        note(sentence)
    return _render(view)


def write_report(run: Run, path: Path, **how: Any) -> None:
    """Writes `report` into a file, atomically.

    Args:
        run: an opened run.
        path: an .html file.
        how: see `report`.

    Raises:
        RunError: the file cannot be written.
    """
    write_bytes(path, report(run, **how).encode("utf-8", "replace"))


def _stages(run: Run, missing: list[str]) -> list[StageView]:
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


def _absent(run: Run) -> list[str]:
    """Says which stages the run lacks, and what they are for."""
    complete, path = set(run.stages()), run.path
    unfinished = {name for name in STAGES if run.stage(name).started} - complete
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
    return StageView(
        name=name,
        config=config,
        made_with=str(_raw(text).get("smoothctl", "")),
        state=_state(stage, config, log),
        parameters=_parameters(run, name, missing),
        validation=_validation(config, log),
        duration=_duration(log),
        chart=_chart(log),
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
    return isinstance(value, int | float) and math.isfinite(value)


def _chart(log: Sequence[Mapping[str, Any]]) -> Chart | None:
    series = {"loss": _series(log, "loss"), "validation": _series(log, "validation")}
    kept = {name: line for name, line in series.items() if line}
    return curves(kept, "step", "nats") if kept else None


def _validation(config: StageConfig, log: Sequence[Mapping[str, Any]]) -> str:
    """Returns the last validation loss, of 8-bit images also in bits/dim."""
    line = _series(log, "validation")
    if not line:
        return "–"
    nats = line[-1][1]
    if config.stage in ("baseline", "denoiser") and config.levels and len(config.event_shape) == 3:
        bits = nats / math.prod(config.event_shape) / math.log(2)
        return f"{nats:.2f} nats, {bits:.3f} bits/dim"
    return f"{nats:.4g} nats"


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


def _entries(run: Run) -> tuple[list[Entry], str]:
    """Returns the run's scores, or why there are none."""
    try:
        entries = read_scores(run.path)
    except SmoothctlError as error:
        return [], str(error)
    return entries, "" if entries else f"No scores yet: smoothctl score {run.path} makes them."


def _draw(view: View, progress: Progress | None) -> None:
    """Draws by every method that the run allows, and puts the data beside the samples."""
    run, reasons = view.run, dict[str, str]()
    try:
        usable = {*usable_methods(run, reasons), *{"smoothed"} & {*available_methods(run)}}
        methods = [name for name in _ORDER if name in usable]
        drawn = draw_all(run, methods, view.number, view.seed, progress)
    except SmoothctlError as error:
        view.no_samples = f"No samples: {error}"
        view.missing.append(view.no_samples)
        return
    view.missing += reasons.values()
    named = {name: drawn[name].samples.detach().cpu() for name in methods}
    dataset = _dataset(view)
    if dataset is not None:
        named = {"data": dataset.test.head(view.number), **named}
    if is_image_run(run):
        across = math.ceil(math.sqrt(view.number))
        view.panels = [Panel(_TITLES[k], image=sheet(x, across)) for k, x in named.items()]
        view.neighbours = None if dataset is None else _neighbours(named, dataset)
    elif next(iter(named.values())).shape[1] <= 2:
        view.panels = _charts(named, dataset)
    else:
        view.no_samples = "Samples of more than two dimensions have no picture."


def _neighbours(named: Mapping[str, Tensor], dataset: Dataset) -> Panel | None:
    """Returns some samples of the best method, each with its nearest training images."""
    from smoothctl.metrics.image_sets import of_tensor, of_view
    from smoothctl.metrics.neighbours import nearest

    method = next((name for name in ("two-step", "single-step", "baseline") if name in named), "")
    if not method:
        return None
    samples = named[method][:_NEIGHBOURS]
    k = min(_NEIGHBOURS, len(dataset.train))
    train = of_view(f"{dataset.name} (train)", dataset, dataset.train)
    indices = nearest(of_tensor(method, samples), train, k).indices
    near = dataset.train.rows(indices.flatten()).view(*indices.shape, *samples.shape[1:])
    rows = torch.cat([samples[:, None].to(near), near], dim=1).flatten(0, 1)
    title = f"{method.capitalize()} samples, and right of the line the {k} nearest training images"
    return Panel(title, image=sheet(rows, k + 1, lined=True))


def _dataset(view: View) -> Dataset | None:
    try:
        return view.run.dataset()
    except SmoothctlError as error:
        view.missing.append(f"The data cannot be shown beside the samples: {error}")
        return None


def _charts(named: Mapping[str, Tensor], dataset: Dataset | None) -> list[Panel]:
    arrays = {name: x.double().numpy() for name, x in named.items()}
    ranges = _ranges(next(iter(arrays.values())))
    if len(ranges) == 2:
        return [
            Panel(_TITLES[name], chart=points(x, ranges[0], ranges[1], _TITLES[name]))
            for name, x in arrays.items()
        ]
    truth = _true_density(dataset, ranges[0])
    tallest = max([y for _, y in truth] or [_tallest(x, ranges[0]) for x in arrays.values()])
    heights = (0.0, 1.15 * tallest)
    return [
        Panel(
            _TITLES[name],
            chart=histogram(
                x[:, 0], ranges[0], heights, [] if name == "smoothed" else truth, _TITLES[name]
            ),
        )
        for name, x in arrays.items()
    ]


def _ranges(samples: np.ndarray) -> list[tuple[float, float]]:
    """Returns the range of each coordinate, with room at its ends."""
    low, high = samples.min(axis=0), samples.max(axis=0)
    room = 0.15 * float((high - low).max()) or 1.0
    return [(float(a) - room, float(b) + room) for a, b in zip(low, high, strict=True)]


def _tallest(samples: np.ndarray, limits: tuple[float, float]) -> float:
    heights, _ = np.histogram(samples, bins=90, range=limits, density=True)
    return float(np.nan_to_num(heights).max()) or 1.0


def _true_density(
    dataset: Dataset | None, limits: tuple[float, float]
) -> list[tuple[float, float]]:
    x = torch.linspace(*limits, 400, dtype=torch.float64)
    try:
        density = [] if dataset is None else dataset.true_log_prob(x[:, None]).exp().tolist()
    except NotAvailable:
        return []
    return list(zip(x.tolist(), density, strict=True)) if density else []


def _render(view: View) -> str:
    from jinja2 import ChainableUndefined, Environment

    newest = {kind: entry for kind in _KINDS if (entry := latest(view.entries, kind)) is not None}
    environment = Environment(
        autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        view=view,
        title=view.run.path.name or view.run.path.absolute().name,
        config=view.stages[0].config,
        smoothed=next((s.config for s in view.stages if s.config.kernel is not None), None),
        shape=" × ".join(map(str, view.stages[0].config.event_shape)),
        newest=newest,
        table=scores_table(view.entries),
        shown=_cell,
        number=_number,
        summary=_summary,
        reasons=_reasons(newest),
        commands=_commands(view, newest),
        fitted_with=sorted({stage.made_with for stage in view.stages}),
        versions={"smoothctl": __version__, "torch": version("torch")},
    )


def _cell(cell: Cell, column: Column, strong: Callable[[str], str]) -> str:
    """Returns `shown`, the best in bold: `strong` escapes its text, as the template does others."""
    text = shown(replace(cell, best=False), column)
    return strong(text) if cell.best else text


def _number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if _is_number(value) else "–"


def _summary(entry: Entry) -> str:
    """Returns an entry's main figures in a line."""
    table = scores_table([entry])
    parts = []
    for row in table.rows:
        if row.kind == "measured":
            said = [
                f"{column.heading} {shown(row.cells[column.key], column)}"
                for column in table.columns
                if column.key in row.cells
            ]
            parts.append(f"{row.model}: {', '.join(said)}")
    return "; ".join(parts)


def _reasons(newest: Mapping[str, Entry]) -> dict[str, str]:
    """Returns what the newest scores say to be not available, and why."""
    found: dict[str, str] = {}
    for entry in newest.values():
        reasons = entry.get("not_available")
        found |= {str(k): str(v) for k, v in (reasons if isinstance(reasons, dict) else {}).items()}
    return found


def _commands(view: View, newest: Mapping[str, Entry]) -> list[tuple[str, str]]:
    run, drawing = view.run, (view.number, view.seed, view.run.weights)
    scored: list[Entry | None] = [*{id(entry): entry for entry in newest.values()}.values()]
    return [
        *((f"Fit the {stage.name}", stage.command) for stage in view.stages),
        *(("Score", shell(score_command(run.path, entry))) for entry in scored or [None]),
        ("Draw samples", shell(sample_command(run.path, *drawing))),
        ("Write this page", shell(report_command(run.path, *drawing))),
    ]
