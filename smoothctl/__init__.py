"""Generative modelling by distribution smoothing: kernels, priors, denoisers and their bounds."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothctl import architectures, datasets, kernels
    from smoothctl.api import Run, evaluate, fit, load
    from smoothctl.runs.run import load_run
    from smoothctl.smoothing.two_step import TwoStep
    from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_joint, fit_prior

__version__ = "0.1.0"
__all__ = [
    "Run",
    "TwoStep",
    "architectures",
    "datasets",
    "evaluate",
    "fit",
    "fit_baseline",
    "fit_denoiser",
    "fit_joint",
    "fit_prior",
    "kernels",
    "load",
    "load_run",
]

_HOMES = {
    **dict.fromkeys(("Run", "evaluate", "fit", "load"), "smoothctl.api"),
    "TwoStep": "smoothctl.smoothing.two_step",
    "fit_baseline": "smoothctl.training.fit",
    "fit_denoiser": "smoothctl.training.fit",
    "fit_joint": "smoothctl.training.fit",
    "fit_prior": "smoothctl.training.fit",
    "load_run": "smoothctl.runs.run",
}


def __getattr__(name: str) -> Any:
    """Imports the public names on first use, so that `import smoothctl` does not import torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in __all__:
        return import_module(f"smoothctl.{name}")
    raise AttributeError(f"module 'smoothctl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
