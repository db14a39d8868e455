"""What Optuna knows: the settings to try next, and which of them matter. Extra `[sweep]`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smoothctl.errors import NotAvailable
from smoothctl.sweeps.space import Axis, Range
from smoothctl.sweeps.trials import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["SAMPLERS", "importance", "suggest"]

SAMPLERS: Mapping[str, str] = {"tpe": "TPESampler", "gp": "GPSampler"}
"""Ours -> Optuna's name of the samplers that need nothing but the trials so far."""


def suggest(
    sampler: str, axes: Sequence[Axis], trials: Sequence[Trial], seed: int
) -> dict[str, Any]:
    """Returns the settings of the next trial.

    The study is made anew of what the folder holds, so that workers share nothing else; trials that
    others fit count as bad where they are, so that two do not try the same.

    Args:
        sampler: a key of `SAMPLERS`.
        axes: what is swept over.
        trials: all so far.
        seed: of the sweep.

    Raises:
        NotAvailable: Optuna is not installed.
    """
    optuna = _optuna()
    settings = {"seed": (seed + len(trials)) % 2**32}
    if sampler == "tpe":
        settings["constant_liar"] = True
    chosen = getattr(optuna.samplers, SAMPLERS[sampler])(**settings)
    study = _study(axes, trials, chosen)
    params: dict[str, Any] = study.ask(_distributions(axes)).params
    return {axis.key: _typed(axis, params[axis.key]) for axis in axes}


def importance(axes: Sequence[Axis], trials: Sequence[Trial]) -> dict[str, float]:
    """Returns how much each setting matters for the best trials, the most first (PED-ANOVA).

    Raises:
        NotAvailable: Optuna is not installed, or too few trials are complete.
    """
    optuna = _optuna()
    study = _study(axes, [trial for trial in trials if trial.state() == "complete"], None)
    if len(axes) < 2 or len({trial.value for trial in study.trials}) < 4:
        raise NotAvailable("Which setting matters can be told of two or more, after four trials.")
    return dict(optuna.importance.get_param_importances(study))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise NotAvailable(
            "Optuna is not installed: pip install 'smoothctl[sweep]', or take sampler=grid or "
            "random."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(axes: Sequence[Axis], trials: Sequence[Trial], sampler: Any) -> "Study":
    study: Study = _optuna().create_study(sampler=sampler)
    distributions = _distributions(axes)
    study.add_trials([_frozen(trial, distributions) for trial in trials if _within(trial, axes)])
    return study


def _within(trial: Trial, axes: Sequence[Axis]) -> bool:
    """Returns whether a trial lies within what is swept over now."""
    known = {axis.key: axis for axis in axes}
    return trial.over.keys() == known.keys() and all(
        known[key].holds(value) for key, value in trial.over.items()
    )


def _distributions(axes: Sequence[Axis]) -> "dict[str, BaseDistribution]":
    return {axis.key: _distribution(axis) for axis in axes}


def _distribution(axis: Axis) -> "BaseDistribution":
    kinds = _optuna().distributions
    if not isinstance(axis, Range):
        return kinds.CategoricalDistribution(axis.values)  # type: ignore[no-any-return]
    if axis.whole:
        low, high = round(axis.low), round(axis.high)
        return kinds.IntDistribution(low, high, log=axis.logarithmic)  # type: ignore[no-any-return]
    return kinds.FloatDistribution(axis.low, axis.high, log=axis.logarithmic)  # type: ignore[no-any-return]


def _frozen(trial: Trial, distributions: "Mapping[str, BaseDistribution]") -> "FrozenTrial":
    """Returns a trial as Optuna knows it."""
    optuna = _optuna()
    bound, states = trial.bound(), optuna.trial.TrialState
    state, value = states.RUNNING, None
    if trial.failed is not None:
        state = states.FAIL
    elif bound is not None and trial.state() in ("complete", "pruned"):
        state, value = states.COMPLETE, bound
    return optuna.trial.create_trial(  # type: ignore[no-any-return]
        state=state, value=value, params=dict(trial.over), distributions=dict(distributions)
    )


def _typed(axis: Axis, value: Any) -> Any:
    """Returns a number with few digits, as a person types it."""
    return axis.rounded(value) if isinstance(axis, Range) else value
