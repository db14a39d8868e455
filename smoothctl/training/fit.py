"""Fitting each stage into a run folder: the Python side of the fit verbs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from smoothctl import datasets
from smoothctl.architectures.base import Density
from smoothctl.datasets.base import Dataset
from smoothctl.distributed.devices import accelerator_for, check_strategy
from smoothctl.distributed.processes import Processes, launched, lost
from smoothctl.distributed.threads import suited_threads
from smoothctl.errors import RunError, TrainingError, UsageError
from smoothctl.runs.config import StageName
from smoothctl.runs.models import build_density, take_weights
from smoothctl.runs.places import remember
from smoothctl.runs.run import Run, Stage
from smoothctl.training.folder import (
    check_same_config,
    claimed,
    clear_replaced,
    is_left_alone,
    is_settled,
    last_good,
    prepare,
)
from smoothctl.training.loop import Trainer
from smoothctl.training.reporter import Quiet, Reporter
from smoothctl.training.settings import FitPlan, FitSettings, resolve
from smoothctl.training.step import Objective

__all__ = [
    "FitSettings",
    "Quiet",
    "fit_baseline",
    "fit_denoiser",
    "fit_joint",
    "fit_prior",
    "fit_stage",
    "objective_of",
]


def fit_baseline(reporter: Reporter | None = None, **settings: Any) -> Run:
    """Fits a plain density of unsmoothed data, what the method is compared with.

    Args:
        reporter: told about progress.
        settings: see `FitSettings`; kernel and sigma have no meaning here.

    Returns:
        The run, with a complete baseline/.
    """
    return fit_stage("baseline", FitSettings(**settings), reporter).run


def fit_prior(reporter: Reporter | None = None, **settings: Any) -> Run:
    """Fits p(x̃) to smoothed data, the first stage (ARDS section 3.2).

    Args:
        reporter: told about progress.
        settings: see `FitSettings`.

    Returns:
        The run, with a complete prior/.
    """
    return fit_stage("prior", FitSettings(**settings), reporter).run


def fit_denoiser(reporter: Reporter | None = None, **settings: Any) -> Run:
    """Fits p(x|x̃), the second stage, for the prior in the run folder `out`.

    Dataset and its settings, kernel, sigma and (unless given) architecture and its settings are
    the prior's.

    Args:
        reporter: told about progress.
        settings: see `FitSettings`; `out` names the run.

    Returns:
        The run, with a complete denoiser/.
    """
    return fit_stage("denoiser", FitSettings(**settings), reporter).run


def fit_joint(reporter: Reporter | None = None, **settings: Any) -> Run:
    """Fits one autoregressive network over [x̃, x] for both stages (ARDS section 4.1).

    Args:
        reporter: told about progress.
        settings: see `FitSettings`.

    Returns:
        The run, with a complete joint/.
    """
    return fit_stage("joint", FitSettings(**settings), reporter).run


def fit_stage(name: StageName, settings: FitSettings, reporter: Reporter | None = None) -> FitPlan:
    """Fits a stage; the functions of the four stages are short for it.

    Args:
        name: of the stage.
        settings: what was chosen.
        reporter: told about progress.

    Returns:
        What the settings resolved to, with the run, in which the stage is complete.
    """
    reporter = reporter or Quiet()
    check_strategy()
    processes = launched(settings.device)
    plan = resolve(name, settings, reporter)
    if processes.is_first:
        _remember(plan, reporter)
    with _lost_noticed(plan.stage):
        if processes.first(processes.is_first and is_left_alone(plan)):
            _note_complete(plan.stage, reporter)
        else:
            _fit(plan, processes, reporter)
    return plan


def _fit(plan: FitPlan, processes: Processes, reporter: Reporter) -> None:
    """Fits the stage of a plan, in a folder that nobody else writes meanwhile."""
    stage = plan.stage
    with claimed(stage, processes, reporter.note) as lock:
        if processes.first(lock is not None and is_settled(plan)):
            _note_complete(stage, reporter)
        else:
            check_same_config(processes, plan.config)
            accelerator = accelerator_for(plan.settings.device, plan.config.precision)
            objective = objective_of(plan)
            size = sum(each.numel() for each in objective.parameters())
            with suited_threads(size, reporter.note):
                trainer = Trainer(plan, objective, accelerator, reporter, processes, lock)
                if lock is not None:
                    prepare(plan)
                processes.first(None)  # from here on all find the configuration
                trainer.run()
        if lock is not None:
            clear_replaced(stage)
        processes.first(None)  # and now the weights


def _note_complete(stage: Stage, reporter: Reporter) -> None:
    reporter.note(f"{stage.path} is already complete with this configuration.")


def _remember(plan: FitPlan, reporter: Reporter) -> None:
    """Keeps where the data are, for the verbs that open the run later."""
    place = plan.place
    if datasets.is_packaged(place):
        return
    try:
        remember(plan.config.data_sha256, place)
    except RunError as error:
        reporter.note(f"{error} Verbs that need these data take `dataset={place}`.")


@contextmanager
def _lost_noticed(stage: Stage) -> Iterator[None]:
    """Turns what is raised where another process has ended into a sentence.

    Raises:
        TrainingError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not lost(error):
            raise
        raise TrainingError(
            "Another process of this launch has ended or cannot be reached; "
            f"{last_good(stage)}, and the same command goes on from there."
        ) from error


def objective_of(plan: FitPlan) -> Objective:
    """Returns the model of a plan, untrained or from a file, with what it is fitted to."""
    import torch

    from smoothctl.rng import seed_from

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(plan.config.seed, "weights"))
        density = build_density(plan.config, plan.options)
    _check_classes(density, plan.dataset)
    if plan.settings.init_from is not None:
        take_weights(density, plan.settings.init_from)
    return Objective(plan.config.stage, density, plan.config.sigma or 0.0)


def _check_classes(density: Density, dataset: Dataset) -> None:
    """Checks that a class-conditional density can be fitted to the dataset's classes.

    Raises:
        UsageError: the dataset has no classes, or more than the density.
    """
    if density.classes is None:
        return
    if dataset.classes is None:
        raise UsageError(
            f"classes={density.classes} needs labelled examples, and {dataset.name} has no labels."
        )
    if dataset.classes > density.classes:
        raise UsageError(
            f"{dataset.name} has {dataset.classes} classes, more than classes={density.classes}: "
            f"set classes={dataset.classes}."
        )
