"""Images: PixelCNN++ with and without smoothing, equal in parameters and compute (ARDS 4.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from smoothctl.errors import UsageError
from smoothctl.evaluation.image_quality import ImageComparison
from smoothctl.evaluation.scores import FLOOR, Effort, Scores, partial_scores, score_run
from smoothctl.reporting.figures import columns, save
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    at_most,
    better,
    collect,
    cpu_seconds,
    parameters,
)
from smoothctl.reproduce.quality import FRECHET
from smoothctl.runs.config import StageName
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling.draw import draw_all, shown_methods
from smoothctl.smoothing.batching import Execution
from smoothctl.storage.files import write_bytes
from smoothctl.training.fit import FitSettings, fit_stage
from smoothctl.training.reporter import Reporter

__all__ = ["MNIST", "Plan", "celeba", "cifar10", "images", "mnist", "row", "scores"]

_STAGES: tuple[StageName, ...] = ("baseline", "prior", "denoiser")
_PRIOR_FILES = ("config.toml", "log.jsonl", "best.safetensors", "model.safetensors")
_DRAWS, _SHOWN = 4, 36
_SAMPLES_EACH = 5
"""Samples for each test example whose bound is taken, which costs as much as to draw five."""

_BITS = "bits/dim"
_PARTS = ("bound, 1 draw", "prior term", "kernel entropy", "denoiser term", "gain from x̃")
_ROWS = {
    "plain": "baseline",
    "two-step": "two-step",
    "single-step": "single-step",
    "test images": FLOOR,
}
"""Row -> what scores call it."""

_TRAINED: dict[str, tuple[StageName, ...]] = {
    "baseline": ("baseline",),
    "two-step": ("prior", "denoiser"),
    "single-step": ("prior",),
    FLOOR: (),
}
"""What scores tell of -> the stages that are trained for it."""


@dataclass(frozen=True)
class Plan:
    """What is fitted to which images, and for how long.

    Args:
        name: the experiment's.
        dataset: its own data; None: it asks for some.
        sigma: of the smoothing; None: that of the heuristic.
        preset: of PixelCNN++, for every stage.
        filters: of the plain model, the prior and the denoiser.
        steps: of each of them.
        stacked: steps of the paper's denoiser beside the other one; 0: none.
        by: what judges samples; None: a classifier of the training images, or their pixels.
    """

    name: str
    dataset: str | None = None
    sigma: float | None = None
    preset: str | None = None
    filters: tuple[int, int, int] = (43, 32, 32)
    steps: tuple[int, int, int] = (6000, 5000, 5800)
    stacked: int = 2700
    by: ImageComparison | None = None

    def data(self, budget: Budget) -> str:
        """Returns the data, as `open_dataset` takes them.

        Raises:
            UsageError: it has none of its own, and none are given.
        """
        dataset = budget.dataset or self.dataset
        if dataset is None:
            raise UsageError(
                f"The experiment {self.name} takes `dataset`: a name, or where images are."
            )
        return dataset

    def fit(self, folder: Path, seed: int, budget: Budget, reporter: Reporter) -> Run:
        """Fits all stages of one seed, but for those that are complete.

        Args:
            folder: the experiment's.
            seed: of the fits.
            budget: factor on the steps, and the data.
            reporter: told about progress.
        """
        for stage, filters, steps in zip(_STAGES, self.filters, self.steps, strict=True):
            settings = FitSettings(
                dataset=self.data(budget),
                architecture="pixelcnnpp",
                sigma=self.sigma if stage == "prior" else None,
                out=folder / f"seed{seed}",
                seed=seed,
                preset=self.preset,
                options={"filters": filters},
                training={"steps": budget.of(steps)},
            )
            run = fit_stage(stage, settings, reporter).run
        return run

    def fit_stacked(self, run: Run, seed: int, budget: Budget, reporter: Reporter) -> Run:
        """Fits the paper's denoiser, which sees x̃ above x, to a copy of a run's prior.

        Args:
            run: with a complete prior.
            seed: of the fit.
            budget: factor on the steps.
            reporter: told about progress.

        Returns:
            The run of both, beside the other.
        """
        out = run.path.with_name(f"{run.path.name}-stacked")
        for name in _PRIOR_FILES:
            write_bytes(out / "prior" / name, (run.path / "prior" / name).read_bytes())
        settings = FitSettings(
            architecture="pixelcnnpp",
            out=out,
            seed=seed,
            options={"filters": self.filters[-1], "conditioning": "stacked"},
            training={"steps": budget.of(self.stacked)},
        )
        return fit_stage("denoiser", settings, reporter).run

    def run(self, folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
        """Fits and scores all models; see `Experiment`."""
        runs = [self.fit(folder, seed, budget, reporter) for seed in seeds]
        rows = self._rows(runs, seeds, budget, reporter)
        picture = folder / f"{self.name}.png"
        missing: dict[str, str] = {}
        drawn = draw_all(runs[0], shown_methods(runs[0], missing), _SHOWN, seeds[0])
        save(columns({method: part.samples for method, part in drawn.items()}), picture)
        return Result(self.name, list(seeds), {}, rows, _claims(rows), [str(picture)])

    def _rows(
        self, runs: Sequence[Run], seeds: Sequence[int], budget: Budget, reporter: Reporter
    ) -> list[Row]:
        pairs = zip(runs, seeds, strict=True)
        scored = [scores(run, seed, budget, reporter, self.by) for run, seed in pairs]
        rows = [row(name, called, runs, scored) for name, called in _ROWS.items()]
        if self.stacked:
            stacked = self.fit_stacked(runs[0], seeds[0], budget, reporter)
            paper = scores(stacked, seeds[0], budget, reporter, self.by)
            rows.insert(2, row("two-step (stacked)", "two-step", [stacked], [paper]))
        return rows


def scores(
    run: Run, seed: int, budget: Budget, reporter: Reporter, by: ImageComparison | None = None
) -> Scores:
    """Scores a run as `smoothctl score` does; what a stopped command had drawn is not lost.

    Args:
        run: with complete stages, the weights of whose best validation count.
        seed: of noise and samples.
        budget: samples, and test examples, of which a fifth get a likelihood.
        reporter: told about progress.
        by: what judges samples; None: a classifier of the training images, or where these have no
            labels their pixels.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    best = load_run(run.path, "best", device, dataset=run.place)
    likelihoods = max(2, budget.examples // _SAMPLES_EACH)
    effort = Effort(likelihoods, (budget.draws or _DRAWS,), budget.examples, quadrature=0)
    kept = partial_scores(best, effort, seed, reporter.note)
    execution = Execution(partial=kept, note=reporter.note)
    by = by or ImageComparison("classifier" if best.dataset().classes else "pixels")
    return score_run(best, effort, seed, by, note=reporter.note, execution=execution)


def row(name: str, called: str, runs: Sequence[Run], scored: Sequence[Scores]) -> Row:
    """Returns the row of a model: likelihoods as far as it has them, samples, training.

    Args:
        name: of the row.
        called: what scores call the model.
        runs: one a seed.
        scored: their scores.
    """
    stages = _TRAINED[called]
    figures = []
    for run, each in zip(runs, scored, strict=True):
        seconds = {"CPU s": cpu_seconds(run, *stages)} if stages else {}
        figures.append({**_likelihood(called, each), **_quality(called, each), **seconds})
    return Row(name, parameters(runs[0], *stages), collect(figures))


def _likelihood(model: str, scored: Scores) -> dict[str, float]:
    """Returns bits/dim, exact or a bound with its terms, and what a denoiser gains from x̃."""
    found = {
        each.quantity.strip(): each.bits_per_dim
        for each in [*scored.likelihood, *([scored.gain] if scored.gain else [])]
        if each.model == model and each.bits_per_dim is not None
    }
    bits = next((found.pop(key) for key in list(found) if key not in _PARTS), None)
    return {} if bits is None else {_BITS: bits, **found}


def _quality(samples: str, scored: Scores) -> dict[str, float]:
    """Returns how near samples are to the training images, and how many are copies of those."""
    assert scored.quality is not None
    found = next(each for each in scored.quality.rows if each.samples == samples)
    figures = {
        FRECHET: found.frechet_distance,
        "kernel distance": found.kernel_distance,
        "precision": found.precision,
        "recall": found.recall,
        "density": found.density,
        "coverage": found.coverage,
        "copies, %": None if found.copies is None else 100 * found.copies,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _claims(rows: Sequence[Row]) -> list[Claim]:
    figures = {each.model: each.figures for each in rows}
    two_step, plain, single = (figures[name] for name in ("two-step", "plain", "single-step"))
    ratios = [a / b for a, b in zip(two_step[FRECHET], plain[FRECHET], strict=True)]
    distance = "Fréchet distance"
    return [
        better(
            *("two-step", two_step[FRECHET], "plain", plain[FRECHET], distance),
            published="29.83 against 54.25 on CIFAR-10",
        ),
        at_most("two-step over plain by Fréchet distance", ratios, 0.5),
        better(
            *("two-step", two_step[FRECHET], "single-step", single[FRECHET], distance),
            published="29.83 against 57.53 on CIFAR-10",
        ),
        better(
            *("two-step", two_step[_BITS], "plain", plain[_BITS], _BITS),
            published="not claimed: ≤ 3.53 against 2.92 on CIFAR-10",
        ),
    ]


_SOURCE = "ARDS (Meng et al. 2021), section 4.3"
_EQUAL = "parameters, and seconds of one core, of the plain model and of both stages together"
MNIST = Plan("mnist", "mnist", 0.5)
mnist = Experiment(
    "mnist",
    "PixelCNN++ on MNIST, smoothed against plain",
    f"{_SOURCE}, figure 6",
    MNIST.run,
    takes_dataset=True,
    equal=_EQUAL,
    paper="ARDS",
    section=4.3,
    minutes=900,
)
images = Experiment(
    "images",
    "the same on the images of --dataset, at the heuristic's σ",
    f"{_SOURCE}, figure 6",
    Plan("images").run,
    takes_dataset=True,
    equal=_EQUAL,
    paper="ARDS",
    section=4.32,
)


def _as_published(name: str, section: float, where: str) -> Experiment:
    """Returns the experiment on colour images with networks and training of the paper's size."""
    plan = Plan(
        name,
        name,
        0.3,
        preset="paper-cifar10",
        filters=(160, 160, 160),
        steps=(625_000, 625_000, 625_000),
        stacked=0,
        by=ImageComparison(),
    )
    return Experiment(
        name,
        f"PixelCNN++ of 53.7 million parameters a stage on {name}, smoothed against plain",
        f"{_SOURCE}, {where}",
        plan.run,
        takes_dataset=True,
        equal="parameters and epochs of each stage: the two-step model has two",
        paper="ARDS",
        section=section,
        gpu=True,
        note="By Inception features where their weights are at hand: smoothctl features list.",
    )


cifar10 = _as_published("cifar10", 16.0, "table 2, figures 16 and 17")
celeba = _as_published("celeba", 18.0, "figures 18 to 21")
