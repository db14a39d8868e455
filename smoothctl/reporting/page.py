"""One self-contained HTML page of a run: settings, curves, samples, scores, commands."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl import __version__
from smoothctl.architectures.base import Progress
from smoothctl.errors import NotAvailable, SmoothctlError, escaped
from smoothctl.evaluation.compare import of_records
from smoothctl.evaluation.measurements import ScoreRecord, latest
from smoothctl.evaluation.records import read_scores
from smoothctl.reporting.flags import with_flags
from smoothctl.reporting.pictures import Pictures, pictures_of
from smoothctl.reporting.scores import (
    annealing_sentence,
    comparison_table,
    gain_sentence,
    likelihood_table,
    shown,
)
from smoothctl.reporting.stages import stage_views, stages_table
from smoothctl.reporting.tables import Bold, Table, left, right
from smoothctl.runs.commands import report_command, sample_command, score_command, shell
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import is_image_run
from smoothctl.storage.files import said_without_folders, without_folders, write_bytes

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["NUMBERS", "report", "write_report"]

NUMBERS = {"image": 36, "vector": 2000}
"""Samples of each method on the page, by domain."""

_TEMPLATE = files("smoothctl.reporting") / "report.html"
_KINDS = ("likelihood", "samples", "quality")
_MOST_COLUMNS = 5
"""Of a table of figures: where there are more, each figure has a row."""


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
    template = _template()
    number = number or NUMBERS["image" if is_image_run(run) else "vector"]
    missing: list[str] = []
    stages, records = stage_views(run, missing), _records(run, missing)
    pictures = Pictures([], reason="No samples were asked for.")
    if samples:
        pictures = pictures_of(run, number, seed, missing, progress)
    pictures = pictures._replace(reason=with_flags(pictures.reason))
    missing = [with_flags(sentence) for sentence in missing]
    for sentence in missing:
        note(sentence)
    missing = [_without_places(said, run.path) for said in (*missing, *run.contradictions())]
    folder = without_folders(str(run.path))
    drawn = (number, seed, run.weights)
    return template.render(
        run=run,
        title=run.path.name or run.path.absolute().name,
        number=number,
        seed=seed,
        missing=missing,
        stages=stages,
        configs=[stage.config for stage in stages],
        stages_table=stages_table(stages),
        pictures=pictures,
        **_of_scores(folder, records),
        sample_command=shell(sample_command(folder, *drawn)),
        report_command=shell(report_command(folder, *drawn)),
        versions={"smoothctl": __version__, "torch": version("torch")},
    )


def _without_places(sentence: str, run: Path) -> str:
    """Returns a sentence that names files, but not the folders above them."""
    if run.is_absolute():  # with whatever spaces
        sentence = sentence.replace(f"{run.parent}/", "./")
    return said_without_folders(sentence)


def write_report(run: Run, path: Path, **how: Any) -> None:
    """Writes `report` into a file, atomically.

    Args:
        run: an opened run.
        path: an .html file.
        how: see `report`.

    Raises:
        RunError: the file cannot be written.
    """
    write_bytes(path, report(run, **how).encode())


def _template() -> "Template":
    """Returns the template of the page.

    Raises:
        NotAvailable: jinja2 is not installed.
    """
    try:
        from jinja2 import ChainableUndefined, Environment
    except ImportError as error:
        raise NotAvailable("The report needs jinja2: run pip install jinja2.") from error
    environment = Environment(
        autoescape=True,
        finalize=_readable,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["bold"] = lambda text: isinstance(text, Bold)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _readable(value: Any) -> Any:
    """Returns what the page shows of a value: what others wrote `escaped`, lines kept."""
    if hasattr(value, "__html__"):  # a picture, which is the page's own
        return value
    return "\n".join(map(escaped, str(value).split("\n")))


def _records(run: Run, missing: list[str]) -> list[ScoreRecord]:
    """Returns the run's scores, and says why there are none."""
    try:
        records = read_scores(run.path)
    except SmoothctlError as error:
        missing.append(str(error))
        return []
    if not records:
        missing.append(f"No scores yet: smoothctl score {run.path} makes them.")
    return records


def _of_scores(folder: str, records: Sequence[ScoreRecord]) -> dict[str, Any]:
    """Returns what the page says of scores; where there are many figures, each has a row."""
    newest = {kind: latest(records, kind) or {} for kind in _KINDS}
    scored = [record for record in records if any(record is each for each in newest.values())]
    reasons: dict[str, Any] = {}
    for record in scored:
        reasons |= record.get("not_available") or {}
    comparison = of_records(records)
    figures = comparison_table(comparison, runs=False)
    if len(comparison.columns) > _MOST_COLUMNS:
        figures = figures.transposed("figure")
    commands = [score_command(folder, record) for record in scored or (None,)]
    return {
        "figures": figures,
        "likelihood": likelihood_table(newest["likelihood"], every_unit=True),
        "gain": gain_sentence(newest["likelihood"]),
        "annealing": annealing_sentence(newest["likelihood"]),
        "quality": newest["quality"].get("quality"),
        "scored": scored,
        "reasons": reasons,
        "history": _history(records),
        "score_commands": [shell(command) for command in commands],
    }


def _history(records: Sequence[ScoreRecord]) -> Table:
    """Returns a row for each scoring, the newest first."""
    columns = [
        *left("time", "smoothctl", "weights"),
        *right("seed", "draws", "samples"),
        *left("figures"),
    ]
    keys = ("time", "smoothctl", "weights", "seed", "draws", "samples_each")
    rows = [
        [*(str(record.get(key, "")).strip("[]") for key in keys), _summary(record)]
        for record in reversed(records)
    ]
    return Table("History of scores", columns, [rows])


def _summary(record: ScoreRecord) -> str:
    """Returns a record's main figures in a line."""
    comparison = of_records([record])
    titles = {measure.key: measure for measure in comparison.columns}
    parts = []
    for row in [row for row in comparison.rows if row.kind == "measured"]:
        said = [f"{titles[key].heading} {shown(m, titles[key])}" for key, m in row.cells.items()]
        parts.append(f"{row.model}: {', '.join(said)}")
    return "; ".join(parts)
