"""PixelCNN++ on a GPU: that the samplers agree, and what they and training cost.

    python -m benchmarks.gpu [--device cuda] [--quick] [--repeats 3]

Prints the card's name; then how far each sampler's images are from the naive one's (the exit code
is 1 where they differ in float64); then seconds, and forward passes over the same batch, of each
sampler; then a training step in float32, TF32 and bf16. Seconds are of the clock, with the device
idle before and after; variants take turns, and the median over repeats counts. It takes minutes.
With --device cpu it does the same on a processor, of which the figures say little.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.images import SIZES, Size, forward, images, medians, ours
from benchmarks.precision import FORMATS, computing, step_times
from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.architectures.pixelcnnpp.choice import SAMPLERS as MAKERS
from smoothctl.architectures.pixelcnnpp.samplers import NaiveSampler, Sampler
from smoothctl.errors import SmoothctlError
from smoothctl.rng import generator

SAMPLERS: dict[str, Sampler] = {
    name: make() for name, make in MAKERS.items() if name in ("cached", "graphed", "parallel")
}
"""What is compared with the naive sampler."""

CASES: dict[str, dict[str, Any]] = {
    "prior": {},
    "by class": {"classes": 3},
    "aligned denoiser": {"denoiser": True, "levels": 256, "offset": True},
    "stacked denoiser": {"denoiser": True, "levels": 256, "conditioning": "stacked"},
}
"""Models whose images are compared."""

BATCHES = (1, 16, 64)


def drawn(density: PixelCNNpp, sampler: Sampler, x: Tensor) -> Tensor:
    """Returns images for fixed noise, a band of which is given."""
    density.sampler = sampler
    known = torch.zeros(1, 1, *x.shape[2:], dtype=torch.bool)
    known[..., 2:4, 3:] = True
    context = x + 0.3 if density.context_shape else None
    labels = torch.arange(len(x), device=x.device) if density.classes else None
    return density.inpaint(x, known, context, labels, generator("gpu"))


def difference(case: str, name: str, dtype: torch.dtype, device: str) -> float:
    """Returns the largest difference between a sampler's images and the naive one's."""
    size = Size((3, 11, 10), 8, 1, 2)
    density = ours(size, **CASES[case]).to(device, dtype)
    x = images(size, 3).to(device, dtype)
    with computing(FORMATS["float32"], device):
        naive, other = (drawn(density, each, x) for each in (NaiveSampler(), SAMPLERS[name]))
    return float((naive - other).abs().max())


def equality(device: str) -> bool:
    """Prints how far images are from the naive ones; returns whether none differs in float64."""
    print("\nLargest difference from the naive sampler's images: float64, float32")
    equal = True
    for case in CASES:
        for name in SAMPLERS:
            try:
                double, single = (
                    difference(case, name, dtype, device)
                    for dtype in (torch.float64, torch.float32)
                )
            except SmoothctlError as error:
                print(f"{case:18}{name:10} not run: {error}")
                continue
            equal = equal and double < 1e-9
            print(f"{case:18}{name:10}{double:10.1e}{single:10.1e}")
    return equal


def samples(name: str, batch: int, device: str, repeats: int, clock: Callable[[], float]) -> None:
    """Prints a row of the table of samplers."""
    size = SIZES[name]
    density, x = ours(size).to(device), images(size, batch).to(device)
    work: dict[str, Callable[[], object]] = {"forward": lambda: forward(density.network, x)}
    for each, sampler in SAMPLERS.items():
        if runs(sampler, device):
            work[each] = lambda s=sampler: with_sampler(density, s).sample(batch)
    found = medians(work, repeats, clock)
    one = found.pop("forward")
    print(f"{name:8}{batch:6}{one:10.4f}{one * size.shape[1] * size.shape[2]:10.1f}", end="")
    cells = (f"{found[s]:12.3f}{found[s] / one:9.1f}" if s in found else " " * 21 for s in SAMPLERS)
    print("".join(cells), flush=True)


def with_sampler(density: PixelCNNpp, sampler: Sampler) -> PixelCNNpp:
    """Returns the density, drawing with a sampler."""
    density.sampler = sampler
    return density


def runs(sampler: Sampler, device: str) -> bool:
    """Returns whether a sampler can be used on a device, by drawing one pixel."""
    try:
        with_sampler(ours(Size((1, 1, 1), 2, 1, 1)).to(device), sampler).sample(1)
    except SmoothctlError:
        return False
    return True


def clock_of(device: str) -> Callable[[], float]:
    """Returns a clock that waits for the device."""

    def clock() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def main() -> None:
    """Prints every table; exits with 1 where samplers differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="the small network, batch 1")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    device, repeats, clock = arguments.device, arguments.repeats, clock_of(arguments.device)
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA device here: run this on a machine with one, or --device cpu.")
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    equal = equality(device)
    cases = [("small", 1)] if arguments.quick else [(n, b) for n in SIZES for b in BATCHES]
    print("\nSampling in float32, seconds; one naive sample is a forward pass a pixel")
    print(f"{'network':8}{'batch':>6}{'forward':>10}{'naive':>10}", end="")
    print("".join(f"{each:>12}{'÷ fwd':>9}" for each in SAMPLERS))
    with computing(FORMATS["float32"], device):
        for case in cases:
            samples(*case, device, repeats, clock)
    print(f"\nTraining step, seconds\n{'network':8}{'batch':>6}", end="")
    print("".join(f"{each:>10}" for each in FORMATS) + "   bf16 ÷ float32")
    for network, batch in cases:
        found = step_times(network, batch, device, repeats, clock)
        print(f"{network:8}{batch:6}" + "".join(f"{found[each]:10.4f}" for each in FORMATS), end="")
        print(f"{found['bf16'] / found['float32']:17.2f}", flush=True)
    sys.exit(0 if equal else "Samplers differ in float64 where they should not.")


if __name__ == "__main__":
    main()
