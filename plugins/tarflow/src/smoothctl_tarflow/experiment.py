"""TarFlow alone, by one step, and with our denoiser, beside PixelCNN++ with and without it."""

from smoothctl_rivals.experiment import Comparison, Rival

from smoothctl.reproduce.base import Experiment

__all__ = ["experiment"]

_TARFLOW = Rival("smoothctl-tarflow:tarflow", {"width": 132}, {"width": 100}, (3200, 3000))
"""As many parameters and seconds as PixelCNN++ has, plain and as a prior."""

experiment = Experiment(
    "tarflow",
    "TarFlow plain, by a single step and with our denoiser, on 8×8 digits or the images of "
    "--dataset",
    "TarFlow (Zhai et al. 2024) as a prior of ARDS",
    Comparison("tarflow", {"TarFlow": _TARFLOW}).run,
    takes_dataset=True,
    equal="parameters, and CPU seconds of each plain model and of each prior",
    minutes=75,
    note="TarFlow's own samples are the single step's: it has no second stage. Both priors are "
    "followed by one and the same denoiser, that of PixelCNN++. Bits of the plain TarFlow are a "
    "bound, as it models values with uniform noise on them.",
)
