"""PixelCNN++: sampling, training and memory, as ratios to a baseline in the same run.

    python -m benchmarks.images [--quick] [--denoisers] [--threads 1] [--repeats 3]

Times are CPU seconds of this process; variants take turns, and the median over repeats counts. The
baselines are `plain_pixelcnnpp` (the published network, ported line by line) and one teacher-forced
forward pass, of our network and of the plain one, over the same batch.
"""

import argparse
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.plain_pixelcnnpp import PlainPixelCNNpp
from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.architectures.pixelcnnpp.head import CoupledMixture


class Size(NamedTuple):
    """A network and the images that it models."""

    shape: tuple[int, int, int]
    filters: int
    blocks: int
    mixtures: int


SIZES = {
    "small": Size((1, 28, 28), 32, 2, 5),
    "large": Size((3, 32, 32), 80, 5, 10),
}
TARGETS = {
    ("small", 1): 0.5,
    ("small", 16): 0.7,
    ("small", 64): 0.7,
    ("large", 1): 1.1,
    ("large", 16): 0.9,
}
"""Network and batch -> at most this many forward passes."""


def ours(
    size: Size, denoiser: bool = False, levels: int | None = None, **options: Any
) -> PixelCNNpp:
    """Returns our network, initialised from random images."""
    torch.manual_seed(0)
    sizes = {"filters": size.filters, "blocks": size.blocks, "mixtures": size.mixtures}
    config = PixelCNNpp.Config(**{**sizes, **options})
    density = PixelCNNpp(size.shape, size.shape if denoiser else None, levels, config)
    x = images(size, 8)
    density.initialize(x, x if denoiser else None)
    return density.eval()


def plain(size: Size) -> PlainPixelCNNpp:
    """Returns the published network with as many parameters."""
    return PlainPixelCNNpp(size.shape[0], size.blocks, size.filters, size.mixtures).eval()


def images(size: Size, n: int) -> Tensor:
    """Returns random images on the grid of 8-bit values."""
    return torch.randint(0, 256, (n, *size.shape)) / 127.5 - 1


def medians(
    variants: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Returns each variant's median seconds, of the CPU by default; the variants take turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, run in variants.items():
            begun = clock()
            run()
            if repeat:  # the first time warms up
                times[name].append(clock() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def forward(network: nn.Module, x: Tensor) -> None:
    """Runs one teacher-forced pass without gradients."""
    with torch.no_grad():
        network(x)


def sampling(repeats: int, quick: bool) -> None:
    """Prints what sampling costs in units of one forward pass."""
    print(
        "\nSampling, CPU seconds, and in forward passes of our network: by native code (with what"
    )
    print("it may cost at most) and in torch; and the plain network's, a pass a pixel, over native")
    print(
        f"{'network':8}{'batch':>6}{'forward':>9}{'native':>9}{'÷ forward':>11}{'at most':>9}",
        end="",
    )
    print(f"{'torch':>9}{'÷ forward':>11}{'plain':>9}{'plain sampler ÷':>17}")
    for (name, batch), target in TARGETS.items():
        if quick and (name, batch) != ("small", 16):
            continue
        size = SIZES[name]
        density, reference, x = ours(size), plain(size), images(size, batch)
        cached = PixelCNNpp(size.shape, config=replace(density.config, sampler="cached"))
        cached.load_state_dict(density.state_dict())
        found = medians(
            {
                "forward": lambda d=density, x=x: forward(d.network, x),
                "plain": lambda r=reference, x=x: forward(r, x),
                "native": lambda d=density, b=batch: d.sample(b),
                "torch": lambda d=cached, b=batch: d.sample(b),
            },
            repeats,
        )
        one, native = found["forward"], found["native"]
        print(f"{name:8}{batch:6}{one:9.3f}{native:9.3f}{native / one:11.2f}{target:9}", end="")
        print(f"{found['torch']:9.3f}{found['torch'] / one:11.2f}{found['plain']:9.3f}", end="")
        print(f"{found['plain'] * size.shape[1] * size.shape[2] / native:17.0f}")


DENOISERS: dict[str, dict[str, Any]] = {
    "by default": {},
    "aligned": {"conditioning": "aligned"},
    "stacked": {"conditioning": "stacked"},
}
"""Denoisers beside a prior; all but the first have its depth."""


def denoisers(size: Size) -> dict[str, PixelCNNpp]:
    """Returns a denoiser of each kind."""
    options = {**DENOISERS, "by default": PixelCNNpp.suited("denoiser", 1.0, {})}
    if size.blocks != PixelCNNpp.Config().blocks:
        del options["by default"]  # a denoiser then takes what was chosen for its prior
    return {name: ours(size, levels=256, denoiser=True, **each) for name, each in options.items()}


def denoising(repeats: int, quick: bool) -> None:
    """Prints what drawing from a denoiser and a step of its training cost over the prior's."""
    print("\nDenoisers over the prior, CPU seconds: drawing (at most 1.1), training (at most 1.15)")
    print(f"{'network':8}{'batch':>6}{'':10}{'prior':>9}", end="")
    print("".join(f"{name:>12}{'÷ prior':>9}" for name in DENOISERS))
    for (name, batch), _ in TARGETS.items():
        if not quick or (name, batch) == ("small", 16):
            draw = {
                key: lambda d=d, b=batch, x=x: d.sample(b, x if d.context_shape else None)
                for key, d, x in models(name, batch)
            }
            against_prior(name, batch, "draw", draw, repeats)
    for name, batch in (("small", 16), ("large", 4)):
        if not quick or name == "small":
            train = {key: training_step(d, x) for key, d, x in models(name, batch)}
            against_prior(name, batch, "train", train, repeats)


def models(name: str, batch: int) -> list[tuple[str, PixelCNNpp, Tensor]]:
    """Returns the prior and each denoiser of a size, with images for it."""
    size = SIZES[name]
    both = {"prior": ours(size), **denoisers(size)}
    return [(key, density, images(size, batch)) for key, density in both.items()]


def against_prior(
    name: str, batch: int, what: str, work: Mapping[str, Callable[[], object]], repeats: int
) -> None:
    """Prints a row of the table of denoisers."""
    found = medians(work, repeats)
    prior = found.pop("prior")
    print(f"{name:8}{batch:6} {what:9}{prior:9.3f}", end="")
    cells = (
        f"{found[key]:12.3f}{found[key] / prior:9.2f}" if key in found else f"{'-':>12}{'-':>9}"
        for key in DENOISERS
    )
    print("".join(cells))


def training_step(density: PixelCNNpp, x: Tensor) -> Callable[[], None]:
    """Returns one optimiser step on the density's own loss."""
    adam = torch.optim.Adam(density.parameters(), lr=1e-6, fused=True)
    context = x + 0.3 if density.context_shape else None

    def take() -> None:
        density.train()
        adam.zero_grad()
        density.training_loss(x, context).mean().backward()
        adam.step()
        density.eval()

    return take


def growth(repeats: int) -> None:
    """Prints how the cost grows with the number of pixels."""
    small = SIZES["small"]
    networks = {side: ours(small._replace(shape=(1, side, side))) for side in (16, 32)}
    found = medians({str(side): lambda n=n: n.sample(16) for side, n in networks.items()}, repeats)
    ratio = found["32"] / found["16"]
    print(f"\n16 x 16 to 32 x 32 pixels, small, batch 16: {ratio:.2f} times the cost (at most 4.2)")


def training(repeats: int, quick: bool) -> None:
    """Prints the time of a training step against the plain network's."""
    print("\nTraining step, CPU seconds: plain network, ours, and the ratio (at least 1.15, 1.05)")
    for name, batch in (("small", 16), ("large", 4)):
        if quick and name == "large":
            continue
        size = SIZES[name]
        density, reference, x = ours(size, levels=256), plain(size), images(size, batch)
        found = medians(
            {
                "plain": step(reference, lambda r=reference, x=x: r(x).permute(0, 2, 3, 1), x),
                "ours": step(density, lambda d=density, x=x: d.network(x), x),
            },
            repeats,
        )
        ratio = found["plain"] / found["ours"]
        print(f"{name:8}{batch:6}{found['plain']:9.3f}{found['ours']:9.3f}{ratio:8.2f}")


def step(model: nn.Module, outputs: Callable[[], Tensor], x: Tensor) -> Callable[[], None]:
    """Returns one optimiser step with the same loss and optimiser for both networks."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
    values = x.permute(0, 2, 3, 1)

    def take() -> None:
        model.train()
        loss = -CoupledMixture.of(outputs(), x.shape[1], -7.0).log_prob(values, 256).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return take


KINDS = {
    "convolutions": ("convolution", "conv2d", "conv_dilated"),
    "matrix products": ("mm",),
    "exponentials": ("exp", "sigmoid", "tanh", "log", "softplus"),
    "copies": ("copy", "cat", "contiguous", "clone", "fill", "zero"),
}


def where_the_time_goes(quick: bool) -> None:
    """Prints the share of each kind of operation in training and sampling."""
    print("\nWhere the time goes, % of one thread's time inside operations")
    print(f"{'':35}" + "".join(f"{kind:>17}" for kind in (*KINDS, "the rest")))
    for name, batch in (("small", 16), ("large", 4)):
        if quick and name == "large":
            continue
        size = SIZES[name]
        density, x = ours(size, levels=256), images(size, batch)
        work = {
            "training step": step(density, lambda d=density, x=x: d.network(x), x),
            "sampling": lambda d=density, b=batch: d.sample(b),
        }
        for what, run in work.items():
            run()
            shares = profile(run)
            print(f"{name + ', batch ' + str(batch) + ', ' + what:35}", end="")
            print("".join(f"{100 * share:17.0f}" for share in shares))


def profile(run: Callable[[], object]) -> list[float]:
    """Returns the share of each of `KINDS`, and of the rest, in the time inside operations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run()
    totals = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in profiler.key_averages():
        operation = event.key.removeprefix("aten::")
        matches = (kind for kind, parts in KINDS.items() if any(p in operation for p in parts))
        totals[next(matches, "the rest")] += event.self_cpu_time_total
    return [total / sum(totals.values()) for total in totals.values()]


def memory() -> None:
    """Prints the peak memory of sampling against that of one forward pass without gradients."""
    print("\nPeak memory above the loaded network, MiB: forward, sample, ratio (at most 2)")
    for name, batch in (("small", 64), ("large", 16)):
        found = [in_a_process(peak, name, batch, what) for what in ("forward", "sample")]
        print(f"{name:8}{batch:6}{found[0]:9.0f}{found[1]:9.0f}{found[1] / found[0]:8.2f}")


def in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Returns what a function returns in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak(name: str, batch: int, what: str) -> float:
    """Returns by how many MiB the peak of this process rises; Linux only."""
    torch.set_num_threads(1)
    size = SIZES[name]
    density = ours(size)
    forward(density.network, images(size, 1))
    density.sample(1)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = high_water()
    if what == "forward":
        forward(density.network, images(size, batch))
    else:
        density.sample(batch)
    return (high_water() - before) / 1024


def high_water() -> int:
    """Returns the peak resident size of this process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small network only")
    parser.add_argument("--denoisers", action="store_true", help="denoisers over the prior only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, size in SIZES.items():
        millions = sum(p.numel() for p in plain(size).parameters()) / 1e6
        area = "x".join(map(str, size.shape))
        print(f"{name}: {area}, {size.filters} filters, {size.blocks} blocks, ", end="")
        print(f"{size.mixtures} mixtures, {millions:.1f} M parameters")
    denoising(arguments.repeats, arguments.quick)
    if arguments.denoisers:
        return
    sampling(arguments.repeats, arguments.quick)
    growth(arguments.repeats)
    training(arguments.repeats, arguments.quick)
    memory()
    where_the_time_goes(arguments.quick)


if __name__ == "__main__":
    main()
