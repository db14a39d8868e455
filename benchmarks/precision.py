"""Number formats of training: seconds a step in one paired run, and bits/dim over seeds.

    python -m benchmarks.precision [--dataset digits] [--steps 300] [--seeds 0 1 2] [--equal-time]
        [--batch 16] [--threads 1] [--repeats 5] [--set KEY=VALUE …]

Says first whether the processor multiplies bf16 numbers; where it does not, bf16 is emulated, and
the times say nothing of one that does. The steps take turns, and the median over repeats counts.

Fits are baselines with smoothctl's own settings for `pixelcnnpp`, but for what --set says; their
bits/dim are of the dataset's validation images, computed in float32 whatever the fit's format. At
equal time the bf16 fit takes as many more (or fewer) steps as its step is faster (or slower).
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.images import SIZES, images, in_a_process, medians, ours
from smoothctl.architectures.base import Density
from smoothctl.config import parse_value
from smoothctl.smoothing.batching import evaluate, rows_that_fit
from smoothctl.training.fit import fit_baseline


class Format(NamedTuple):
    """How a step computes: what float32 products round to, and whether the rest is bf16."""

    products: str
    mixed: bool


FORMATS = {
    "float32": Format("ieee", False),
    "tf32": Format("tf32", False),
    "bf16": Format("ieee", True),
}


def instructions() -> str:
    """Returns what the processor has for products of bf16 numbers, as a sentence."""
    found = torch.cpu.get_capabilities()
    names = [name for name in ("avx512_bf16", "amx_bf16", "bf16") if found.get(name)]
    return f"has {' and '.join(names)}" if names else "has no instructions for bf16: emulated"


@contextmanager
def computing(how: Format, device: str) -> Iterator[None]:
    """Computes as a format says for the time of the block."""
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = how.products
    try:
        with torch.autocast(device, torch.bfloat16, enabled=how.mixed):
            yield
    finally:
        torch.backends.fp32_precision = before


def step(density: Density, x: Tensor, how: Format) -> Callable[[], None]:
    """Returns one optimiser step on the density's own loss, in a format."""
    adam = torch.optim.Adam(density.parameters(), lr=1e-6, fused=True)

    def take() -> None:
        adam.zero_grad()
        with computing(how, x.device.type):
            loss = density.training_loss(x).mean()
        with computing(how._replace(mixed=False), x.device.type):
            loss.backward()
        adam.step()

    return take


def step_times(
    name: str, batch: int, device: str, repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Returns the median seconds of a training step in each format, which take turns."""
    x = images(SIZES[name], batch).to(device)
    density = ours(SIZES[name], levels=256).to(device).train()
    return medians({key: step(density, x, how) for key, how in FORMATS.items()}, repeats, clock)


def bits(dataset: str, precision: str, seed: int, settings: Mapping[str, Any]) -> float:
    """Returns bits/dim of the validation images under a fit, on one thread."""
    torch.set_num_threads(1)
    options = {key: value for key, value in settings.items() if "." not in key}
    training = {key.partition(".")[2]: settings[key] for key in settings if "." in key}
    given = {"architecture": "pixelcnnpp", "device": "cpu", "seed": seed, "precision": precision}
    with tempfile.TemporaryDirectory() as folder:
        run = fit_baseline(
            dataset=dataset, out=Path(folder) / "run", options=options, training=training, **given
        )
        density, x = run.density("baseline"), run.dataset().validation.head(1000)
        with torch.no_grad():
            nats = -evaluate(density.log_prob, rows_that_fit(density), x).double().mean()
    return float(nats) / x[0].numel() / math.log(2)


def quality(dataset: str, seeds: list[int], steps: Mapping[str, int], settings: Any) -> None:
    """Prints bits/dim of both formats for each seed, and of the differences mean and spread."""
    print(f"{'seed':>6}" + "".join(f"{f'{key}, {n} steps':>22}" for key, n in steps.items()))
    found = []
    for seed in seeds:
        fits = [(dataset, key, seed, {**settings, "training.steps": n}) for key, n in steps.items()]
        row = [in_a_process(bits, *fit) for fit in fits]  # a process computes in one format
        found.append(row[1] - row[0])
        print(f"{seed:6}" + "".join(f"{value:22.4f}" for value in row), flush=True)
    spread = f" ± {statistics.stdev(found):.4f} (sd over seeds)" if len(found) > 1 else ""
    print(f"bf16 minus float32: {statistics.mean(found):+.4f}{spread}")


def main() -> None:
    """Prints times, then figures of fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--equal-time", action="store_true", help="also at equal time")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    name = torch.cpu.get_capabilities().get("cpu_name", "this processor")
    print(f"{name} {instructions()}; torch {torch.__version__}")
    times = step_times("small", arguments.batch, "cpu", arguments.repeats, time.process_time)
    ratio = times["bf16"] / times["float32"]
    print(f"\nTraining step, small, batch {arguments.batch}, CPU seconds: ", end="")
    print(f"float32 {times['float32']:.3f}, bf16 {times['bf16']:.3f}, ratio {ratio:.2f}")
    pairs = (text.partition("=") for text in arguments.set)
    settings = {key: parse_value(value) for key, _, value in pairs}
    counts = {"equal steps": arguments.steps}
    if arguments.equal_time:
        counts["equal time"] = max(1, round(arguments.steps / ratio))
    for what, taken in counts.items():
        print(f"\n{arguments.dataset}, {what}: bits/dim of validation images")
        both = {"float32": arguments.steps, "bf16": taken}
        quality(arguments.dataset, arguments.seeds, both, settings)


if __name__ == "__main__":
    main()
