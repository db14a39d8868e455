"""A learned score is right where data are, and wrong between them (NCSN figure 2)."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smoothctl.reporting.figures import save
from smoothctl.reproduce.base import Budget, Claim, Experiment, Result, Row, collect, parameters
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline
from smoothctl.training.reporter import Reporter
from smoothctl_ncsn.base import ScoreModel
from smoothctl_ncsn.experiments.two_modes import TwoModes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["experiment"]

_DATA = TwoModes()
_REACH, _POINTS, _NEAR = 8.0, 81, 3.0
_SMOOTH = {"octaves": 0, "activation": "softplus"}
_TRAINING = {"batch_size": 128, "learning_rate": 1e-3, "warmup": 0, "decay": "constant"}
_STEPS = 10_000
"""As published."""

_FITS: dict[str, dict[str, Any]] = {
    "sliced": {
        **_SMOOTH,
        "loss": "sliced",
        "output": "raw",
        "noise_levels": 1,
        "sigma_end": 0.1,
    },
    "ncsn": {**_SMOOTH, "sigma_begin": 20.0, "sigma_end": 1.0, "noise_levels": 10},
}
"""One score of (almost) clean data, as in the figure, and one for ten levels of noise."""

_MODELS = {
    "clean data, sliced score matching": ("sliced", 0),
    "NCSN, least noise": ("ncsn", -1),
    "NCSN, most noise": ("ncsn", 0),
}
_REGIONS = ("near a mode", "far from both")
_CLAIMED = 5.0


def _grid() -> Tensor:
    axis = torch.linspace(-_REACH, _REACH, _POINTS)
    return torch.cartesian_prod(axis, axis)


def _regions(x: Tensor) -> dict[str, Tensor]:
    """Returns which points lie within three standard deviations of a mode, and which do not."""
    distance = torch.cdist(x, torch.tensor(_DATA.centres)).amin(1)
    return dict(zip(_REGIONS, (distance <= _NEAR, distance > _NEAR), strict=True))


def _scores(run: Run, level: int) -> tuple[Tensor, Tensor]:
    """Returns the model's and the true score on the grid at a level of the model's."""
    model = run.density("baseline")
    assert isinstance(model, ScoreModel)
    x, index = _grid(), level % len(model.sigmas)
    with torch.no_grad():
        found = model.level_score(x, torch.full((len(x),), index))
    return found, _DATA.smoothed_score(x, float(model.sigmas[index]))


def _errors(run: Run, level: int) -> dict[str, float]:
    """Returns ‖s − true‖/‖true‖ in percent, root mean squares over each region."""
    found, true = _scores(run, level)
    error, size = (v.square().sum(1) for v in (found - true, true))
    return {
        f"error {name}, %": 100 * float((error[inside].mean() / size[inside].mean()).sqrt())
        for name, inside in _regions(_grid()).items()
    }


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in _MODELS}
    runs: dict[str, Run] = {}
    for seed in seeds:
        for fit, options in _FITS.items():
            runs[fit] = fit_baseline(
                reporter,
                dataset="smoothctl-ncsn:two-modes",
                architecture="smoothctl-ncsn:ncsn-mlp",
                out=folder / f"{fit}-seed{seed}",
                seed=seed,
                options=options,
                training={**_TRAINING, "steps": budget.of(_STEPS)},
            )
        for name, (fit, level) in _MODELS.items():
            figures[name].append(_errors(runs[fit], level))
    rows = [
        Row(name, parameters(runs[fit], "baseline"), collect(figures[name]))
        for name, (fit, _) in _MODELS.items()
    ]
    picture = folder / "ncsn-regions.png"
    save(_picture(runs), picture)
    claims = _claims({row.model: row.figures for row in rows})
    return Result("ncsn-regions", list(seeds), {}, rows, claims, [str(picture)])


def _claims(figures: dict[str, dict[str, list[float]]]) -> list[Claim]:
    clean, _, noisy = (list(figures[name].values()) for name in _MODELS)
    ratios = [far / near for near, far in zip(*clean, strict=True)]
    return [
        Claim(
            f"clean data: the error far from both modes is over {_CLAIMED:g} times that near one",
            f"mean ratio {mean(ratios):.1f}, least {min(ratios):.1f}",
            min(ratios) > _CLAIMED,
            "figure 2",
        ),
        Claim(
            "with the most noise the score is right far from both modes, too: error below 10 %",
            f"mean {mean(noisy[1]):.1f} %, largest {max(noisy[1]):.1f} %",
            max(noisy[1]) < 10,
        ),
    ]


def _picture(runs: dict[str, Run]) -> "Figure":
    """Draws, for each model, its score as arrows over the size of its error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(_MODELS), 3.4), layout="constrained")
    axes = figure.subplots(1, len(_MODELS), squeeze=False)[0]
    side, few = (_POINTS, _POINTS), slice(None, None, 8)
    places = _grid().view(*side, 2).numpy()
    for axis, (title, (fit, level)) in zip(axes, _MODELS.items(), strict=True):
        found, true = _scores(runs[fit], level)
        error = ((found - true).norm(dim=1) / true.norm(dim=1).mean()).view(side).numpy()
        shown = axis.pcolormesh(places[..., 0], places[..., 1], error, cmap="Reds", vmin=0)
        arrows = found.view(*side, 2).numpy()[few, few]
        at = places[few, few]
        axis.quiver(at[..., 0], at[..., 1], arrows[..., 0], arrows[..., 1], width=0.004)
        axis.set_title(title, fontsize=9)
        axis.set_aspect("equal")
        axis.tick_params(labelsize=7)
        figure.colorbar(shown, ax=axis, shrink=0.7, label="error / mean true score")
    return figure


experiment = Experiment(
    "ncsn-regions",
    "the error of a learned score near data and far from them",
    "NCSN (Song & Ermon 2019), figure 2",
    _run,
    paper="NCSN",
    section=3.21,
    minutes=5.5,
    equal="parameters, and 10,000 steps of 128 examples",
)
