"""MADE with and without smoothing at equal parameter counts, on any 2-d data."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from smoothctl.datasets import open_dataset
from smoothctl.reproduce.base import (
    Claim,
    Result,
    Row,
    Scale,
    collect,
    evaluate_baseline,
    evaluate_two_step,
    parameters,
)
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_joint, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["ROWS", "compare"]

ROWS = ("MADE-3", "MADE-6", "two-step, 3 logistics", "joint, 3 logistics")
Claims = Callable[[dict[str, dict[str, list[float]]]], list[Claim]]

_BASELINES = {
    "MADE-3": {"mixtures": 3, "width": 130, "output_gain": 3.0},
    "MADE-6": {"mixtures": 6, "width": 126, "output_gain": 2.0},
}
"""Each with the gain that served it best on rings, so that the comparison is fair."""

_PRIOR = {"mixtures": 3, "width": 40}
_DENOISER = {"mixtures": 3, "width": 122}
_JOINT = {"mixtures": 3, "width": 128}
_BATCH = 1024


def compare(
    name: str,
    dataset: str,
    sigma: float,
    references: dict[str, str],
    claims: Claims,
    starts: Mapping[str, int],
    folder: Path,
    seeds: Sequence[int],
    scale: Scale,
    reporter: Reporter,
) -> Result:
    """Fits MADE-3, MADE-6, the two-step model and the joint one, each with about 37,000 weights.

    Args:
        name: the experiment's.
        dataset: registered name.
        sigma: standard deviation of the Gaussian smoothing.
        references: row -> what the paper or the theory says.
        claims: from the figures of each row.
        starts: baseline -> how many fits to choose from by validation loss; one if missing.
        folder: where the runs go; complete ones are not fitted again.
        seeds: one fit of everything for each.
        scale: how much of it.
        reporter: told about progress.
    """
    figures: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    sizes: dict[str, int] = {}
    for seed in seeds:
        for row, fit in _fits(dataset, sigma, starts, scale).items():
            slug = row.split(",")[0].lower()
            run = fit(folder / f"{dataset}-{slug}-seed{seed}", seed, reporter)
            is_baseline = row in _BASELINES
            evaluate = evaluate_baseline if is_baseline else evaluate_two_step
            figures[row].append(evaluate(run, scale))
            sizes[row] = parameters(run, *run.stages())
    rows = [Row(r, sizes[r], collect(figures[r]), references.get(r, "")) for r in ROWS]
    truth = {"true entropy, nats": open_dataset(dataset).true_entropy()}
    found = claims({row.model: row.figures for row in rows})
    return Result(name, list(seeds), truth, rows, found)


def _fits(
    dataset: str, sigma: float, starts: Mapping[str, int], scale: Scale
) -> dict[str, Callable[[Path, int, Reporter], Run]]:
    def baseline(row: str) -> Callable[[Path, int, Reporter], Run]:
        def best_of_starts(out: Path, seed: int, reporter: Reporter) -> Run:
            fitted = [
                fit_baseline(
                    reporter,
                    dataset=dataset,
                    out=out if start == 0 else out.with_name(f"{out.name}-start{start}"),
                    seed=seed + 100 * start,
                    options=_BASELINES[row],
                    training={"steps": scale.of(16_000), "batch_size": _BATCH, "warmup": 200},
                )
                for start in range(starts.get(row, 1))
            ]
            return min(fitted, key=lambda run: run.stage("baseline").log()[-1]["validation"])

        return best_of_starts

    def two_step(out: Path, seed: int, reporter: Reporter) -> Run:
        fit_prior(
            reporter,
            dataset=dataset,
            sigma=sigma,
            out=out,
            seed=seed,
            options=_PRIOR,
            training={"steps": scale.of(8_000), "batch_size": _BATCH, "warmup": 200},
        )
        return fit_denoiser(
            reporter,
            out=out,
            seed=seed,
            options=_DENOISER,
            training={"steps": scale.of(16_000), "batch_size": _BATCH, "warmup": 200},
        )

    def joint(out: Path, seed: int, reporter: Reporter) -> Run:
        return fit_joint(
            reporter,
            dataset=dataset,
            sigma=sigma,
            out=out,
            seed=seed,
            options=_JOINT,
            training={"steps": scale.of(16_000), "batch_size": _BATCH, "warmup": 200},
        )

    fits = {row: baseline(row) for row in _BASELINES}
    return {**fits, ROWS[2]: two_step, ROWS[3]: joint}
