"""`smoothctl quickstart`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothctl.cli import options
from smoothctl.cli.console import Notes, print_json, print_table, work

if TYPE_CHECKING:
    from smoothctl.metrics.scores import Scores
    from smoothctl.runs import Run

__all__ = ["command"]

_STEPS = {"baseline": 5000, "prior": 3000, "denoiser": 9000}
_OPTIONS: dict[str, dict[str, Any]] = {
    "baseline": {"mixtures": 3, "width": 130},
    "prior": {"mixtures": 3, "width": 64},
    "denoiser": {"mixtures": 3, "width": 112},
}
"""About 37,000 parameters for the baseline, and as many for prior and denoiser together."""


def command(
    dataset: Annotated[
        str, typer.Option("--dataset", help="A 1-d or 2-d dataset, or an .npy or .npz file.")
    ] = "rings",
    steps_factor: Annotated[
        float, typer.Option("--steps-factor", min=1e-4, help="Factor on all training steps.")
    ] = 1.0,
    seed: options.Seed = 0,
    device: options.Device = options.DeviceChoice.auto,
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
    run = _fit_all(dataset, steps_factor, seed, device.value, out, overwrite, notes)
    from smoothctl.metrics.scores import append_scores, score_run

    with work(quiet) as progress:
        scores = score_run(run, draws=64, quadrature=0, seed=seed, progress=progress)
    append_scores(run, scores)
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


def _fit_all(
    dataset: str, factor: float, seed: int, device: str, out: Path, overwrite: bool, notes: Notes
) -> "Run":
    from smoothctl.runs import load_run
    from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior

    common = {"out": out, "seed": seed, "device": device, "overwrite": overwrite}

    def stage(name: str) -> dict[str, Any]:
        steps = max(2, round(_STEPS[name] * factor))
        return {**common, "options": _OPTIONS[name], "training": {"steps": steps}}

    fit_baseline(notes, dataset=dataset, **stage("baseline"))
    fit_prior(notes, dataset=dataset, **stage("prior"))
    fit_denoiser(notes, **stage("denoiser"))
    return load_run(out)


def _picture(run: "Run", seed: int) -> Path | None:
    from smoothctl.plots import panels, save
    from smoothctl.sampling import draw

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
    for heading in ("two-step", "single-step", "baseline", "floor", "better"):
        table.add_column(heading, justify="right")
    for figure, cells, digits in _figures(scores):
        shown = ["–" if value is None else f"{value:.{digits}f}" for value in cells]
        two_step, baseline, floor = cells[0], cells[2], cells[3]
        table.add_row(figure, *shown, _by_how_much(two_step, baseline, floor))
    print_table(table)


Cells = tuple[float | None, float | None, float | None, float | None]


def _figures(scores: "Scores") -> list[tuple[str, Cells, int]]:
    """Returns each figure's values for two-step, single-step, baseline and the floor."""
    nats = {(e.model, e.quantity): e.nats for e in scores.likelihood}
    bound = nats["two-step", f"bound, {scores.draws} draws"]
    rows: list[tuple[str, Cells, int]] = [
        ("−log p(x), nats", (bound, None, nats["baseline", "exact"], scores.true_entropy), 3)
    ]
    by_method = {s.method: s for s in scores.samples}
    order = ("two-step", "single-step", "baseline", "true sample (floor)")
    found = [by_method.get(method) for method in order]
    energy = tuple(s and s.energy_distance for s in found)
    sliced = tuple(s and s.sliced_wasserstein for s in found)
    off = tuple(None if s is None or s.off_support is None else 100 * s.off_support for s in found)
    rows.append(("energy distance", energy, 4))  # type: ignore[arg-type]
    rows.append(("sliced Wasserstein", sliced, 4))  # type: ignore[arg-type]
    rows.append(("samples off the support, %", off, 2))  # type: ignore[arg-type]
    return rows


def _by_how_much(two_step: float | None, baseline: float | None, floor: float | None) -> str:
    if two_step is None or baseline is None:
        return "–"
    name = "two-step" if two_step < baseline else "baseline"
    difference = f"{name} by {abs(two_step - baseline):.3f}"
    if floor is None or min(two_step, baseline) <= floor:
        return difference
    excess = sorted([two_step - floor, baseline - floor])
    return f"{difference} ({excess[1] / excess[0]:.1f}× nearer the floor)"


def _verdict(scores: "Scores") -> str:
    (_, (two_step, _, baseline, entropy), _), *_ = _figures(scores)
    assert two_step is not None
    assert baseline is not None
    name, gap = (
        ("better", baseline - two_step) if two_step < baseline else ("worse", two_step - baseline)
    )
    truth = "" if entropy is None else f" (the true entropy is {entropy:.3f})"
    return f"Smoothing is {name} by {gap:.3f} nats an example than the plain model{truth}."
