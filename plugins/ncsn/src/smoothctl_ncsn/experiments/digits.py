"""8×8 digits: NCSN, PixelCNN++, and NCSN stopped at σ with the denoiser of PixelCNN++."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from smoothctl.reporting.figures import columns, save
from smoothctl.reproduce import digits
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    better,
    collect,
    cpu_seconds,
    parameters,
)
from smoothctl.reproduce.quality import FRECHET, Quality
from smoothctl.rng import generator
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling.draw import draw_all
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.training.fit import fit_baseline, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_SAMPLES, _SHOWN = 2000, 36

_STEPS = {"baseline": 910, "prior": 670}
"""In the CPU seconds that PixelCNN++ has for its own in `reproduce digits`."""

_NCSN, _PAIR, _SINGLE = "NCSN", "NCSN to σ, then PixelCNN++", "NCSN to σ, single step"
_PLAIN, _TWICE = "PixelCNN++", "two-step PixelCNN++"
_DATA = "training data"


def _fit(out: Path, seed: int, sigma: float, budget: Budget, reporter: Reporter) -> Run:
    """Returns an NCSN of all levels, and one down to σ as a prior."""
    common = {"dataset": "digits", "architecture": "smoothctl-ncsn:ncsn", "out": out, "seed": seed}
    plain, prior = ({"steps": budget.of(_STEPS[stage])} for stage in ("baseline", "prior"))
    fit_baseline(reporter, **common, training=plain)
    fit_prior(reporter, **common, training=prior, sigma=sigma)
    return load_run(out, "best")


def _samples(ours: Run, ncsn: Run, n: int, seed: int) -> dict[str, Tensor]:
    """Returns n samples of each row, (n, 1, 8, 8); the rows of a pair are of the same x̃."""
    smoothed, prior = ours.two_step(), ncsn.two_step()
    assert smoothed is not None
    assert prior is not None
    pair = TwoStep(prior.kernel, prior.prior, smoothed.checked_denoiser())
    x_smooth = pair.sample_smoothed(n, None, generator(seed, "smoothed"))
    drawn = draw_all(ours, ["baseline", "two-step"], n, seed)
    return {
        _DATA: ours.dataset().train.head(n),
        _NCSN: draw_all(ncsn, ["baseline"], n, seed)["baseline"].samples,
        _PAIR: pair.denoise(x_smooth, None, generator(seed, "denoised")),
        _SINGLE: pair.single_step(x_smooth),
        _PLAIN: drawn["baseline"].samples,
        _TWICE: drawn["two-step"].samples,
    }


def _costs(ours: Run, ncsn: Run) -> dict[str, tuple[int, float]]:
    """Returns parameters and CPU seconds of the fits behind each row."""
    plain, prior = (parameters(ncsn, stage) for stage in ("baseline", "prior"))
    spent, before = (cpu_seconds(ncsn, stage) for stage in ("baseline", "prior"))
    after = cpu_seconds(ours, "denoiser")
    return {
        _NCSN: (plain, spent),
        _PAIR: (prior + parameters(ours, "denoiser"), before + after),
        _SINGLE: (prior, before),
        _PLAIN: (parameters(ours, "baseline"), cpu_seconds(ours, "baseline")),
        _TWICE: (parameters(ours, "prior", "denoiser"), cpu_seconds(ours, "prior") + after),
    }


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    figures: dict[str, list[dict[str, float]]] = {}
    sizes: dict[str, int] = {}
    shown: dict[str, Tensor] = {}
    n = min(_SAMPLES, max(2, budget.examples))
    for seed in seeds:
        ours = digits.fit(folder.with_name("digits"), seed, budget, reporter)
        sigma = ours.config().sigma
        assert sigma is not None
        ncsn = _fit(folder / f"ncsn-seed{seed}", seed, sigma, budget, reporter)
        quality, costs = Quality.by_labels_of(ours.dataset()), _costs(ours, ncsn)
        found = _samples(ours, ncsn, n, seed)
        for row, samples in found.items():
            sizes[row], seconds = costs.get(row, (0, None))
            trained = {} if seconds is None else {"CPU s": seconds}
            figures.setdefault(row, []).append({**quality(samples), **trained})
        shown = shown or {row: samples[:_SHOWN] for row, samples in found.items()}
    picture = folder / "ncsn-digits.png"
    save(columns(shown), picture)
    rows = [Row(row, sizes[row], collect(found)) for row, found in figures.items()]
    claims = _claims({row.model: row.figures[FRECHET] for row in rows})
    return Result("ncsn-digits", list(seeds), {}, rows, claims, [str(picture)])


def _claims(distances: dict[str, list[float]]) -> list[Claim]:
    pairs = [(_NCSN, _PLAIN), (_PAIR, _NCSN), (_PAIR, _TWICE), (_PAIR, _SINGLE)]
    return [better(a, distances[a], b, distances[b], "Fréchet distance") for a, b in pairs]


experiment = Experiment(
    "ncsn-digits",
    "NCSN, PixelCNN++ and both together on 8×8 digits, by Fréchet distance",
    "not in the papers: NCSN (Song & Ermon 2019) inside ARDS (Meng et al. 2021)",
    _run,
    equal="CPU seconds of both plain models, and of both priors",
    note=f"Of {_SAMPLES:,} samples, by a small classifier of the training images. PixelCNN++ and "
    "the denoiser are those of `reproduce digits`.",
)
