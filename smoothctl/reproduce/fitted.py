"""The runs that several experiments look at: those of `digits`, or with data those of `mnist`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smoothctl import architectures
from smoothctl.config import as_dict
from smoothctl.reproduce import digits
from smoothctl.reproduce.base import Budget
from smoothctl.reproduce.images import MNIST
from smoothctl.runs.run import Run, load_run, place_of
from smoothctl.training.fit import fit_denoiser, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["OF_WHICH", "fitted_like", "fitted_runs"]

OF_WHICH = (
    "The models are those of `reproduce digits` or, where --dataset says where MNIST is, of "
    "`reproduce mnist`."
)
"""What the note of such an experiment says first."""


def fitted_runs(
    folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter
) -> list[Run]:
    """Returns a run of all stages for each seed, with the weights of the best validation.

    Args:
        folder: of the experiment that asks; the runs are beside it, and are fitted if need be.
        seeds: of the runs.
        budget: factor on the steps; its data are a copy of MNIST, whose models are taken then.
        reporter: told about progress.
    """
    if budget.dataset is None:
        shared = folder.with_name("digits")
        return [digits.fit(shared, seed, budget, reporter) for seed in seeds]
    shared = folder.with_name(MNIST.name)
    runs = [MNIST.fit(shared, seed, budget, reporter) for seed in seeds]
    return [load_run(run.path, "best", dataset=run.place) for run in runs]


def fitted_like(
    one: Run,
    out: Path,
    sigma: float,
    reporter: Reporter,
    prior: Mapping[str, Any] | None = None,
    denoiser: Mapping[str, Any] | None = None,
) -> Run:
    """Returns both stages with the settings, the steps and the seed of a run, at another σ.

    Args:
        one: the other run, of both stages.
        out: folder; what is complete there is not fitted again.
        sigma: standard deviation of the smoothing.
        reporter: told about progress.
        prior: settings of the prior that are other than that run's.
        denoiser: those of the denoiser.
    """
    first, second = (one.stage(name).config() for name in ("prior", "denoiser"))
    common: dict[str, Any] = {
        "dataset": one.place or place_of(first, str(one.path)),
        "data": first.data,
        "architecture": first.architecture,
        "out": out,
        "seed": first.seed,
    }
    options, training = {**first.options, **(prior or {})}, as_dict(first.training)
    options.pop(architectures.load(first.architecture).noise_setting, None)  # of that run's σ
    fit_prior(reporter, **common, sigma=sigma, options=options, training=training)
    options, training = {**second.options, **(denoiser or {})}, as_dict(second.training)
    fit_denoiser(reporter, **common, options=options, training=training)
    return load_run(out, one.weights, dataset=one.place)
