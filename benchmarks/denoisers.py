"""Denoisers of images at equal CPU time or equal steps: bits/dim, and the gain from x̃.

    python -m benchmarks.denoisers DATASET [--sigma 0.5] [--seconds 425 1260 | --steps 250]
        [--seeds 0 1 2] [--kinds aligned stacked] [--set KEY=VALUE …] [--out FOLDER]

Each fit is smoothctl's own, with its defaults but for what --set says, on one thread. Its number
of steps is what the seconds allow, as a short fit of the same tells; the CPU seconds that it took,
with its validations, are printed. Figures are of the first 300 test images and seed 0's noise.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from smoothctl.config import parse_value
from smoothctl.datasets import open_dataset
from smoothctl.evaluation.likelihood import gain_estimate
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.smoothing.batching import evaluate, rows_that_fit
from smoothctl.training.fit import fit_denoiser, fit_prior

_SHORT, _IMAGES = 40, 300


def fitted(
    folder: Path, dataset: str, sigma: float | None, seed: int, settings: Mapping[str, Any]
) -> tuple[Run, float]:
    """Returns a run with a prior of one step and a whole denoiser, whose CPU seconds are the other.

    Args:
        folder: the run's.
        dataset: as --dataset takes it.
        sigma: of the smoothing; the heuristic's if None.
        seed: of the fit.
        settings: of the denoiser; those of training are called training.KEY.
    """
    options = {key: value for key, value in settings.items() if "." not in key}
    training = {key.partition(".")[2]: settings[key] for key in settings if "." in key}
    once = {"steps": 1, "validation_limit": 2}
    given = {"architecture": "pixelcnnpp", "out": folder, "device": "cpu", "seed": seed}
    fit_prior(dataset=dataset, sigma=sigma, options={"filters": 1}, training=once, **given)
    begun = time.process_time()
    sizes = {"filters": 32, **options}
    run = fit_denoiser(options=sizes, training=training, **given)
    return run, time.process_time() - begun


def steps_in(seconds: float, dataset: str, sigma: float | None, settings: Mapping[str, Any]) -> int:
    """Returns how many steps of a fit the seconds allow."""
    taken = []
    for steps in (1, 1 + _SHORT):
        with tempfile.TemporaryDirectory() as folder:
            short = {**settings, "training.steps": steps, "training.validate_every": 10**9}
            short["training.validation_limit"] = 2
            taken.append(fitted(Path(folder), dataset, sigma, 0, short)[1])
    return max(2, int(seconds / (taken[1] - taken[0]) * _SHORT))


def figures(run: Run) -> tuple[float, float, int]:
    """Returns bits/dim of the denoiser term, the gain from x̃, and the number of weights."""
    method, x = run.two_step(), run.dataset().test.head(_IMAGES)
    assert method is not None
    assert method.denoiser is not None
    denoiser = method.denoiser
    x_smooth = method.kernel.sample(x, generator(0, "benchmark"))
    with torch.no_grad():
        nats = -evaluate(denoiser.log_prob, rows_that_fit(denoiser), x, x_smooth).double().mean()
    gain = gain_estimate("", method, x, seed=0)
    assert gain is not None
    assert gain.bits_per_dim is not None
    weights = sum(p.numel() for p in denoiser.parameters())
    return float(nats) / x[0].numel() / math.log(2), gain.bits_per_dim, weights


def main() -> None:
    """Prints a row a fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--sigma", type=float)
    parser.add_argument("--seconds", type=float, nargs="*", default=[])
    parser.add_argument("--steps", type=int, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", nargs="+", default=["aligned"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="where the runs stay; nowhere by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = (text.partition("=") for text in arguments.set)
    chosen = {key: parse_value(value) for key, _, value in pairs}
    dataset, sigma = arguments.dataset, arguments.sigma
    print(f"{open_dataset(dataset).slug}: " + " ".join(arguments.set))
    print(
        f"{'kind':9}{'seed':>5}{'weights':>10}{'steps':>7}{'CPU s':>8}{'bits/dim':>10}{'gain':>8}"
    )
    for kind in arguments.kinds:
        settings = {**chosen, "conditioning": kind}
        counts = [steps_in(s, dataset, sigma, settings) for s in arguments.seconds]
        for steps in [*arguments.steps, *counts]:
            for seed in arguments.seeds:
                with tempfile.TemporaryDirectory() as scratch:
                    folder = Path(scratch)
                    if arguments.out is not None:
                        folder = arguments.out / f"{kind}-{steps}-seed{seed}"
                    every = {**settings, "training.steps": steps}
                    run, seconds = fitted(folder, dataset, sigma, seed, every)
                    bits, gain, weights = figures(run)
                print(f"{kind:9}{seed:5}{weights:10,}{steps:7}{seconds:8.0f}", end="")
                print(f"{bits:10.4f}{gain:8.4f}", flush=True)


if __name__ == "__main__":
    main()
