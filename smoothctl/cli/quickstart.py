"""`smoothctl quickstart`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json, print_table

if TYPE_CHECKING:
    from smoothctl.evaluation.scores import Scores
    from smoothctl.runs.run import Run

__all__ = ["command"]

_STEPS = {"baseline": 8000, "prior": 3000, "denoiser": 9000}
_OPTIONS: dict[str, dict[str, Any]] = {
    "baseline": {"mixtures": 3, "width": 130, "output_gain": 3.0},
    "prior": {"mixtures": 3, "width": 40},
    "denoiser": {"mixtures": 3, "width": 122},
}
"""About 37,000 parameters for the baseline, and as many for prior and denoiser together."""


def command(
    dataset: Annotated[
        str, typer.Option("--dataset", help="A 1-d or 2-d dataset, or a .csv, .npy or .npz file.")
    ] = "rings",
    steps_factor: Annotated[
        float,
        typer.Option("--steps-factor", min=1e-4, max=1e3, help="Factor on all training steps."),
    ] = 1.0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    out: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/quickstart"),
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """See the whole method work in two minutes: fit, sample, score, one picture, one table.

    Fits a plain MADE and, with as many parameters together, a smoothed prior and a denoiser.
    """
    begun = time.monotonic()
    notes = Notes(quiet)
    settings = {"seed": seed, "device": device, "out": out, "overwrite": overwrite}
    run = _fit_all(dataset, steps_factor, settings, notes)
    from smoothctl.evaluation.records import append_scores
    from smoothctl.evaluation.scores import effort_for, score_run

    with notes.work() as progress:
        scores = score_run(run, effort_for(run, draws=64, quadrature=0), seed, progress=progress)
    append_scores(run.path, scores.to_dict())
    picture = _picture(run, seed)
    seconds = time.monotonic() - begun
    if as_json:
        summary = {"run": str(run.path), "picture": picture and str(picture), "seconds": seconds}
        print_json({**summary, "scores": scores.to_dict()})
        return
    _print_comparison(scores)
    print(f"{_verdict(scores)}\nRun: {run.path}   Seconds: {seconds:.0f}")
    if picture is not None:
        print(f"Picture: {picture}")


def _fit_all(dataset: str, factor: float, settings: dict[str, Any], notes: Notes) -> "Run":
    """Fits the three stages, with `settings` for each."""
    from smoothctl.runs.run import load_run
    from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior

    fits = {"baseline": fit_baseline, "prior": fit_prior, "denoiser": fit_denoiser}
    for stage, fit in fits.items():
        training = {"steps": max(2, round(_STEPS[stage] * factor))}
        data = {} if stage == "denoiser" else {"dataset": dataset}
        own = {"architecture": "made", "options": _OPTIONS[stage], "training": training}
        fit(notes, **data, **own, **settings)
    return load_run(settings["out"])


def _picture(run: "Run", seed: int) -> Path | None:
    from smoothctl.reporting.figures import panels, save
    from smoothctl.sampling.draw import draw

    dataset = run.dataset()
    if dataset.event_shape[0] > 2:
        return None
    n = 5000
    two_step = draw(run, "two-step", n, seed)
    assert two_step.smoothed is not None
    named = {
        "data": dataset.test.head(n),
        "smoothed samples x̃": two_step.smoothed,
        "single-step E[x|x̃]": draw(run, "single-step", n, seed).samples,
        "two-step x ~ p(x|x̃)": two_step.samples,
        "baseline, unsmoothed": draw(run, "baseline", n, seed).samples,
    }
    path = run.path / "quickstart.png"
    save(panels(named, dataset), path)
    return path


def _print_comparison(scores: "Scores") -> None:
    from rich.table import Table

    table = Table(
        title=f"{scores.dataset}: two-step against a plain model of equal size (lower is better)",
        title_justify="left",
    )
    table.add_column("figure")
    for heading in ("two-step", "single-step", "baseline", "floor", "better", "by"):
        table.add_column(heading, justify="left" if heading == "better" else "right")
    for figure, cells, digits in _figures(scores):
        shown = ["–" if value is None else f"{value:.{digits}f}" for value in cells]
        table.add_row(figure, *shown, *_winner(cells[0], cells[2], digits))
    print_table(table)


def _figures(scores: "Scores") -> list[tuple[str, list[float | None], int]]:
    """Returns name, values (two-step, single-step, baseline, floor) and digits of each figure."""
    nats = {(e.model, e.quantity): e.nats for e in scores.likelihood}
    bound = nats["two-step", f"bound, {scores.draws[-1]} draws"]
    plain = nats["baseline", "exact"]
    by_method = {s.method: s for s in scores.samples}
    order = ("two-step", "single-step", "baseline", "true sample (floor)")
    drawn = [by_method.get(method) for method in order]
    off = [None if s is None else s.off_support for s in drawn]
    return [
        ("−log p(x), nats", [bound, None, plain, scores.true_entropy], 3),
        ("energy distance", [None if s is None else s.energy_distance for s in drawn], 4),
        ("sliced Wasserstein", [None if s is None else s.sliced_wasserstein for s in drawn], 4),
        ("off the support, %", [None if share is None else 100 * share for share in off], 2),
    ]


def _winner(two_step: float | None, baseline: float | None, digits: int) -> tuple[str, str]:
    if two_step is None or baseline is None:
        return "–", "–"
    name = "two-step" if two_step < baseline else "baseline"
    return name, f"{abs(two_step - baseline):.{digits}f}"


def _verdict(scores: "Scores") -> str:
    two_step, _, baseline, entropy = _figures(scores)[0][1]
    assert two_step is not None
    assert baseline is not None
    name, gap = "better" if two_step < baseline else "worse", abs(two_step - baseline)
    truth = "" if entropy is None else f" (the true entropy is {entropy:.3f})"
    return f"Smoothing is {name} by {gap:.3f} nats an example than the plain model{truth}."
