"""What was found, as tables and as a page of Markdown: every claim beside the published figure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from smoothctl.errors import NotAvailable, RunError
from smoothctl.reporting.tables import Bold, Table, decimals, duration, left, markdown, right
from smoothctl.reproduce.base import Experiment, Result
from smoothctl.storage.files import read_json, write_bytes, write_json

__all__ = ["Stored", "cost", "page", "result_table", "store", "write_page"]

_RESULT, _LARGEST = "result.json", 2**24

_INTRODUCTION = """# Reproduced results

Written by `smoothctl reproduce --markdown`: every figure is what the command above its table
measured, mean over the seeds ± half their range. A claim that is refuted is a result.
"""


class Stored(NamedTuple):
    """An experiment and what it found; no result: it was not run here."""

    experiment: Experiment
    result: Result | None = None


def store(result: Result, folder: Path) -> None:
    """Writes what an experiment found into its folder, where its pictures are."""
    pictures = [Path(picture).name for picture in result.pictures]
    write_json(folder / _RESULT, replace(result, pictures=pictures).to_dict())


def write_page(
    file: Path, out: Path, experiments: Sequence[Experiment], note: Callable[[str], None]
) -> None:
    """Writes all results below a folder as a page, and copies their pictures.

    Args:
        file: the page, PAGE.md; the pictures go into PAGE/, where they are not there already.
        out: holds a folder with a result for each experiment, or several of one.
        experiments: those that there are, in order.
        note: told what is left out.

    Raises:
        NotAvailable: there are no results.
        RunError: one is damaged, or a picture of it is missing.
    """
    known = {experiment.name: experiment for experiment in experiments}
    stored = []
    for source in sorted(out.glob(f"*/{_RESULT}")):
        result = Result.from_dict(read_json(source, _LARGEST), str(source))
        if result.name in known:
            shown = _pictures(result, source.parent, file)
            stored.append(Stored(known[result.name], replace(result, pictures=shown)))
        else:
            note(f"Leaves {source} out: there is no experiment {result.name:.80} here.")
    if not stored:
        raise NotAvailable(f"{out} holds no results yet: smoothctl reproduce NAME makes them.")
    run = {each.experiment.name for each in stored}
    stored += [Stored(experiment) for name, experiment in known.items() if name not in run]
    write_bytes(file, page(sorted(stored, key=lambda each: each.experiment.place)).encode())


def _pictures(result: Result, folder: Path, page: Path) -> list[str]:
    """Returns the links of a page to the pictures in a result's folder, where it needs them."""
    links = []
    for name in (Path(picture).name for picture in result.pictures):
        target = page.with_suffix("") / folder.name / name
        try:
            if not target.exists() or not target.samefile(folder / name):
                write_bytes(target, (folder / name).read_bytes())
        except OSError as error:
            raise RunError(
                f"{folder / name} cannot be read ({error.strerror}): run "
                f"smoothctl reproduce {result.name:.80} again."
            ) from error
        links.append(target.relative_to(page.parent).as_posix())
    return links


def page(stored: Sequence[Stored]) -> str:
    """Returns the page: a table of all claims, then a section for each experiment that was run."""
    sections = (_section(each) for each in stored if each.result is not None)
    return "\n".join([_INTRODUCTION, markdown(_claims_table(stored)), *sections])


def result_table(experiment: Experiment, result: Result) -> Table:
    """Returns a row for each model; the title says first what they have in equal measure."""
    figures = list(dict.fromkeys(key for row in result.rows for key in row.figures))
    sized = any(row.parameters for row in result.rows)
    columns = [*left("model"), *right(*["parameters"] * sized, *figures)]
    rows = [
        [r.model, *[f"{r.parameters:,}"] * sized, *_cells(r.figures, figures)] for r in result.rows
    ]
    if any(row.reference for row in result.rows):
        columns += left("reference")
        rows = [[*cells, row.reference] for cells, row in zip(rows, result.rows, strict=True)]
    return Table(f"{result.name}: {_about(experiment, result)}", columns, [rows])


def cost(experiment: Experiment) -> str:
    """Returns about how long it takes on two cores; a dash where that is not known."""
    if experiment.gpu:
        return "GPU"
    return "–" if experiment.minutes is None else duration(60 * experiment.minutes)


def _about(experiment: Experiment, result: Result) -> str:
    """Returns the source, what the rows have in equal measure, and the seeds."""
    equal = [f"equal: {experiment.equal}"] if experiment.equal else []
    seeds = (
        [f"seeds {', '.join(map(str, result.seeds))}"]
        if any(len(values) > 1 for row in result.rows for values in row.figures.values())
        else []
    )
    return "; ".join([experiment.source, *equal, *seeds])


def _claims_table(stored: Sequence[Stored]) -> Table:
    columns = left("claim", "published", "ours", "verdict", "smoothctl reproduce …")
    return Table("", columns, [[row for each in stored for row in _claims(each)]])


def _claims(stored: Stored) -> Iterator[list[str]]:
    experiment, result = stored.experiment, stored.result
    if result is None:
        yield [experiment.summary, "", f"cost: {cost(experiment)}", "not run here", experiment.name]
        return
    for claim in result.claims:
        verdict = "holds" if claim.holds else Bold("refuted")
        name = " ".join([experiment.name, _data(result)]).strip()
        yield [claim.statement, claim.published, claim.measured, verdict, name]


def _data(result: Result) -> str:
    """Returns what the data were called that an experiment was given: '(fashion-mnist)'."""
    name = re.sub(r"[^\w.-]+", "-", Path(result.dataset).stem)  # whatever a file calls them
    return f"({name})" if result.dataset else ""


def _section(stored: Stored) -> str:
    """Returns the command, the table, what is true of the data, the pictures and the note."""
    experiment, result = stored.experiment, stored.result
    assert result is not None
    parts = [
        f"## {experiment.name} {_data(result)}".strip(),
        f"{experiment.summary[0].upper()}{experiment.summary[1:]}: {_about(experiment, result)}.",
        f"```text\n$ {_command(result)}\n```",
        markdown(replace(result_table(experiment, result), title="")) if result.rows else "",
        " ".join(f"{what}: {value:.3f}." for what, value in result.truth.items()),
        *(f"![{experiment.summary}]({picture})" for picture in result.pictures),
        experiment.note,
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _command(result: Result) -> str:
    """Returns what ran it as one line without a fence, whatever a file says."""
    said = re.sub(r"[\s`]+", " ", result.command).strip()
    return said or f"smoothctl reproduce {result.name}"


def _cells(figures: Mapping[str, Sequence[float]], headings: Sequence[str]) -> list[str]:
    """Returns 'mean ± half the range over seeds' of each figure."""
    every = [figures.get(heading) or [] for heading in headings]
    spreads = [f" ± {(max(v) - min(v)) / 2:.3f}" if len(v) > 1 else "" for v in every]
    return [decimals(mean(v), 3) + s if v else "" for v, s in zip(every, spreads, strict=True)]
