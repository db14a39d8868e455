"""Fitting each stage into a run folder: the Python side of the fit verbs."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from smoothctl import kernels
from smoothctl.architectures.base import Density
from smoothctl.datasets.base import Dataset
from smoothctl.errors import RunError, UsageError
from smoothctl.files import move, remove, write_bytes
from smoothctl.runs import STAGES, Run, Stage, build_density
from smoothctl.stages import StageConfig, StageName, to_toml
from smoothctl.training.loop import Reporter, Trainer, accelerator_for
from smoothctl.training.objectives import OBJECTIVES
from smoothctl.training.settings import FitSettings, resolve, sources_of

__all__ = ["FitSettings", "Quiet", "fit_baseline", "fit_denoiser", "fit_joint", "fit_prior"]


class Quiet:
    """A reporter that says nothing."""

    def start(self, title: str, step: int, total: int) -> None:
        """Ignores the start."""

    def advance(self, step: int, loss: float) -> None:
        """Ignores the step."""

    def note(self, message: str) -> None:
        """Ignores the message."""

    def finish(self) -> None:
        """Ignores the end."""


def fit_baseline(reporter: Reporter | None = None, **settings: Any) -> Run:
    """Fits a plain density of unsmoothed data, what the method is compared with.

    Args:
        reporter: told about progress.
        settings: see `FitSettings`; kernel and sigma have no meaning here.

    Returns:
        The run, with a complete baseline/.
    """
    return _fit("baseline", FitSettings(**settings), reporter or Quiet())


def fit_prior(reporter: Reporter | None = None, **settings: Any) -> Run:
    """Fits p(x̃) to smoothed data, the first stage (ARDS section 3.2).

    Args:
        reporter: told about progress.
        settings: see `FitSettings`.

    Returns:
        The run, with a complete prior/.
    """
    return _fit("prior", FitSettings(**settings), reporter or Quiet())


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
    return _fit("denoiser", FitSettings(**settings), reporter or Quiet())


def fit_joint(reporter: Reporter | None = None, **settings: Any) -> Run:
    """Fits one autoregressive network over [x̃, x] for both stages (ARDS section 4.1).

    Args:
        reporter: told about progress.
        settings: see `FitSettings`.

    Returns:
        The run, with a complete joint/.
    """
    return _fit("joint", FitSettings(**settings), reporter or Quiet())


def _fit(name: StageName, settings: FitSettings, reporter: Reporter) -> Run:
    import torch

    from smoothctl.randomness import seed_from

    sources = sources_of(settings)
    config, dataset, run = resolve(name, settings, sources, reporter)
    stage = run.stage(name)
    if _is_settled(stage, run, config, settings.overwrite):
        reporter.note(f"{stage.path} is already complete with this configuration.")
        return run
    accelerator = accelerator_for(settings.device, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(config.seed, "weights"))
        density = build_density(config)
    _check_classes(density, dataset)
    kernel = None
    if config.kernel is not None and config.sigma is not None:
        kernel = kernels.load(config.kernel)(config.sigma)
    objective = OBJECTIVES[name](density, kernel)
    views = (dataset.train, dataset.validation)
    trainer = Trainer(config, objective, *views, stage, accelerator, reporter)
    with _stage_folder(stage, config, sources, settings.overwrite):
        trainer.run()
    return run


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


def _is_settled(stage: Stage, run: Run, config: StageConfig, overwrite: bool) -> bool:
    """Returns whether the stage is complete already; refuses what must not be written into.

    Of several processes only the first looks; an error there ends them all.
    """
    if not _is_main_process():
        return stage.complete and not overwrite
    for name in STAGES:
        if name != config.stage and run.stage(name).started:
            config.check_same_smoothing(run.stage(name).config(), str(run.path))
    if stage.path.is_dir() and any(stage.path.iterdir()) and not stage.started:
        raise RunError(f"{stage.path} is not empty and holds no config.toml: choose another --out.")
    if overwrite or not stage.fitted:
        return False
    changed = stage.config().differences(config)
    if changed:
        raise RunError(
            f"{stage.path} was fitted with another configuration ({'; '.join(changed)}): "
            "choose another --out, or --overwrite it."
        )
    return stage.complete


@contextmanager
def _stage_folder(
    stage: Stage, config: StageConfig, sources: Mapping[str, str], overwrite: bool
) -> Iterator[None]:
    """Writes config.toml first; a stage that is replaced is kept until the new one is complete."""
    if not _is_main_process():
        yield
        return
    replaced = stage.path.with_name(f".{stage.path.name}.replaced")
    if overwrite and stage.complete:
        remove(replaced)
        move(stage.path, replaced)
    elif overwrite and stage.started and stage.config().differences(config):
        remove(stage.path)
    write_bytes(stage.config_file, to_toml(config, sources).encode())
    yield
    remove(replaced)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
