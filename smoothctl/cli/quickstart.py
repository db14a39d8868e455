"""`smoothctl quickstart`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json
from smoothctl.errors import NotAvailable
from smoothctl.reporting.tables import say

if TYPE_CHECKING:
    from smoothctl.evaluation.scores import Scores
    from smoothctl.runs.run import Run

__all__ = ["command"]

_STEPS = {"baseline": 12_000, "prior": 3_000, "denoiser": 9_000}
"""As many for the plain model as for prior and denoiser together."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "baseline": {"width": 121},
    "prior": {"width": 40},
    "denoiser": {"width": 109},
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
    """See the whole method work in three minutes: fit, sample, score, one picture, one table.

    Fits a plain MADE and, with as many parameters and steps together, a prior and a denoiser.
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
    picture = _picture(run, seed, notes)
    seconds = time.monotonic() - begun
    if as_json:
        summary = {"run": str(run.path), "picture": picture and str(picture), "seconds": seconds}
        print_json({**summary, "scores": scores.to_dict()})
        return
    _print_comparison(scores)
    say(f"Run: {run.path}   Seconds: {seconds:.0f}")
    if picture is not None:
        say(f"Picture: {picture}")


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


def _picture(run: "Run", seed: int, notes: Notes) -> Path | None:
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
    try:
        save(panels(named, dataset), path)
    except NotAvailable as error:
        notes.note(str(error))
        return None
    return path


def _print_comparison(scores: "Scores") -> None:
    """Prints all figures, and how much better or worse smoothing makes the likelihood."""
    from smoothctl.evaluation.compare import of_records
    from smoothctl.reporting.scores import comparison_table
    from smoothctl.reporting.tables import print_table

    comparison = of_records([scores.to_dict()])
    title = f"{scores.dataset}: two-step against a plain model of equal size"
    print_table(comparison_table(comparison, runs=False, title=title).transposed("figure"))
    nats = {row.model: row.cells["nats"].value for row in comparison.rows if "nats" in row.cells}
    if not {"baseline", "two-step"} <= nats.keys():  # not finite
        return
    gain = nats["baseline"] - nats["two-step"]
    verdict = f"{'better' if gain > 0 else 'worse'} by {abs(gain):.3f} nats an example"
    entropy = nats.get("true entropy")
    truth = "" if entropy is None else f" (the true entropy is {entropy:.3f})"
    say(f"Smoothing is {verdict} than the plain model{truth}.")
