"""The rivals of ARDS table 2, plain and smoothed, beside PixelCNN++ with and without smoothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from smoothctl.architectures.base import Density
from smoothctl.errors import NotAvailable
from smoothctl.evaluation.likelihood import bounds, latent_bounds, plain_likelihood
from smoothctl.evaluation.published import published_for
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
from smoothctl.sampling.draw import draw
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.training.fit import fit_baseline, fit_prior
from smoothctl.training.reporter import Reporter

__all__ = ["Comparison", "Rival", "experiment"]

_SAMPLES, _SHOWN, _DRAWS = 2000, 36, 16
_BITS, _SECONDS = "bits/dim", "CPU s"
_SMOOTHED_BITS, _TWO_STEP, _SINGLE = "smoothed: bits/dim ≤", "two-step Fréchet", "single-step"
_OURS = "PixelCNN++"


@dataclass(frozen=True)
class Rival:
    """An architecture with the settings of a plain model, and of a prior of half that size.

    Args:
        architecture: registered name, with its package.
        plain: settings of the plain model: as many parameters as both stages of PixelCNN++.
        prior: settings of the prior, with as many as that of PixelCNN++.
        steps: of the plain model and of the prior, in the seconds that PixelCNN++ has for each.
        weights: which are judged; the last ones where the validation loss says nothing.
    """

    architecture: str
    plain: Mapping[str, Any]
    prior: Mapping[str, Any]
    steps: tuple[int, int]
    weights: Literal["best", "last"] = "best"

    def fit(self, out: Path, seed: int, sigma: float, budget: Budget, reporter: Reporter) -> Run:
        """Fits both, but for what is complete.

        Args:
            out: run folder.
            seed: of the fits.
            sigma: standard deviation of the prior's smoothing.
            budget: factor on the steps, and the data.
            reporter: told about progress.
        """
        common = {
            "dataset": budget.dataset or "digits",
            "architecture": self.architecture,
            "out": out,
            "seed": seed,
        }
        plain, prior = ({"steps": budget.of(steps)} for steps in self.steps)
        fit_baseline(reporter, **common, options=self.plain, training=plain)
        fit_prior(reporter, **common, options=self.prior, training=prior, sigma=sigma)
        return load_run(out, self.weights)


_RIVALS: Mapping[str, Rival] = {
    "MADE": Rival("smoothctl-rivals:image-made", {"width": 711}, {"width": 486}, (4000, 4000)),
    "PixelCNN": Rival("smoothctl-rivals:pixelcnn", {"filters": 84}, {"filters": 63}, (1670, 1500)),
    "Gated PixelCNN": Rival(
        "smoothctl-rivals:gated-pixelcnn", {"filters": 82}, {"filters": 61}, (1700, 1660)
    ),
    "PixelIQN": Rival("smoothctl-rivals:pixeliqn", {"filters": 82}, {"filters": 61}, (1630, 1640)),
    "Glow": Rival("smoothctl-rivals:glow", {"width": 213}, {"width": 146}, (1760, 1400)),
    "i-ResNet": Rival("smoothctl-rivals:i-resnet", {}, {}, (1400, 1040)),
    "EBM": Rival("smoothctl-rivals:ebm", {}, {}, (2160, 1450), weights="last"),
    "VAE": Rival("smoothctl-rivals:vae", {"filters": 60}, {"filters": 45}, (2120, 1980)),
}


@dataclass(frozen=True)
class _Measured:
    """The figures of one architecture and seed, and a few of its samples."""

    figures: dict[str, float]
    plain: Tensor
    smoothed: Tensor


def _bits(density: Density, x: Tensor) -> dict[str, float]:
    """Returns bits/dim of a plain model, exact or a bound; nothing where it has no likelihood."""
    if density.tractable:
        found = plain_likelihood("plain", density, x)
    elif density.bounded:
        found = latent_bounds("plain", density, x, _DRAWS, seed=0)[-1]
    else:
        return {}
    assert found.bits_per_dim is not None
    return {_BITS: found.bits_per_dim}


def _smoothed_bits(method: TwoStep, x: Tensor, draws: int) -> dict[str, float]:
    """Returns the importance-weighted bound where the prior has a likelihood or a bound of it."""
    if not method.prior.loss_in_nats():
        return {}
    bits = bounds("two-step", method, x, draws, seed=0)[0][-1].bits_per_dim
    assert bits is not None
    return {_SMOOTHED_BITS: bits}


def _measure(run: Run, denoiser: Density, quality: Quality, seed: int, budget: Budget) -> _Measured:
    """Returns the figures of a plain model, and of its like as a prior under a denoiser."""
    plain, smoothed = run.density("baseline"), run.two_step()
    assert smoothed is not None
    method = TwoStep(smoothed.kernel, smoothed.prior, denoiser)
    x = run.dataset().test.head(budget.examples)
    n = min(_SAMPLES, max(2, budget.examples))
    samples = draw(run, "baseline", n, seed).samples
    x_smooth = method.sample_smoothed(n, None, generator(seed, "smoothed"))
    two_step = method.denoise(x_smooth, None, generator(seed, "denoised"))
    figures = {
        **_bits(plain, x),
        FRECHET: quality.frechet(samples),
        **_smoothed_bits(method, x, budget.draws or _DRAWS),
        _TWO_STEP: quality.frechet(two_step),
    }
    with suppress(NotAvailable):  # the prior has no score
        figures[_SINGLE] = quality.frechet(method.single_step(x_smooth))
    figures[_SECONDS] = cpu_seconds(run, "baseline")
    return _Measured(figures, samples[:_SHOWN], two_step[:_SHOWN])


@dataclass(frozen=True)
class Comparison:
    """Rivals, plain and smoothed, beside PixelCNN++ with and without smoothing.

    Args:
        name: of the experiment.
        rivals: row -> what is fitted.
    """

    name: str
    rivals: Mapping[str, Rival]

    def run(self, folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
        """Fits and judges every row; see `Experiment`."""
        shared = folder.with_name("digits") if budget.dataset is None else folder
        ours = [digits.fit(shared, seed, budget, reporter) for seed in seeds]
        quality = Quality.by_labels_of(ours[0].dataset())
        found: dict[str, list[_Measured]] = {}
        sizes: dict[str, int] = {_OURS: parameters(ours[0], "baseline")}
        for seed, run in zip(seeds, ours, strict=True):
            method = run.two_step()
            assert method is not None
            denoiser = method.checked_denoiser()
            mine = _measure(run, denoiser, quality, seed, budget)
            found.setdefault(_OURS, []).append(mine)
            for name, rival in self.rivals.items():
                out = folder / f"{rival.architecture.rpartition(':')[2]}-seed{seed}"
                theirs = rival.fit(out, seed, method.kernel.sigma, budget, reporter)
                sizes[name] = parameters(theirs, "baseline")
                measured = _measure(theirs, denoiser, quality, seed, budget)
                found.setdefault(name, []).append(measured)
        rows = [
            Row(name, sizes[name], collect([each.figures for each in measured]), _published(name))
            for name, measured in found.items()
        ]
        pictures = [folder / f"{self.name}-{which}.png" for which in ("plain", "smoothed")]
        save(columns({name: each[0].plain for name, each in found.items()}), pictures[0])
        save(columns({name: each[0].smoothed for name, each in found.items()}), pictures[1])
        claims = [claim for row in rows for claim in _claims(row)]
        return Result(self.name, list(seeds), {}, rows, claims, list(map(str, pictures)))


def _published(name: str) -> str:
    """Returns what table 2 has of a model on CIFAR-10: '3.14 bits/dim, FID 65.93'."""
    found = next((each for each in published_for("cifar10") if each.model == name), None)
    if found is None:
        return ""
    bits = [] if found.bits_per_dim is None else [f"{found.bits_per_dim:g} bits/dim"]
    return ", ".join([*bits, *([] if found.fid is None else [f"FID {found.fid:g}"])])


def _claims(row: Row) -> list[Claim]:
    figures, distance = row.figures, "Fréchet distance"
    return [
        better(
            f"{row.model} and our denoiser",
            figures[_TWO_STEP],
            "it alone",
            figures[FRECHET],
            distance,
        )
    ]


experiment = Experiment(
    "rivals",
    "the rivals of table 2, plain and smoothed, on 8×8 digits or the images of --dataset",
    "ARDS (Meng et al. 2021), table 2 and section 7",
    Comparison("rivals", _RIVALS).run,
    takes_dataset=True,
    paper="ARDS",
    section=4.33,
    minutes=360,
    equal="CPU seconds of each plain model, and of each prior; parameters but for i-ResNet and EBM",
    note=f"Of {_SAMPLES:,} samples, by a small classifier of the training images; likelihoods of "
    f"bounds by {_DRAWS} draws. Every prior is followed by one and the same denoiser, that of "
    "PixelCNN++. Glow and i-ResNet model values with uniform noise on them, so that their bits are "
    "a bound; PixelIQN and EBM have no likelihood. i-ResNet and EBM are smaller, since steps of "
    "1.7 million parameters would be too few; MADE is fitted for a fifth of the time and is at its "
    "best before that. The reference is CIFAR-10's.",
)
