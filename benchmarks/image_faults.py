"""What the figures of images say of true and of faulty digits: the tables of docs/statistics.

    python -m benchmarks.image_faults [--repeats 20]

Pixels are the features (64 of them), so that nothing has to be trained. Means over random halves
of the 1,797 digits.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from smoothctl.datasets import open_dataset
from smoothctl.metrics.frechet import frechet_distance
from smoothctl.metrics.kernel_distance import kernel_distance
from smoothctl.metrics.manifold import manifold_scores
from smoothctl.rng import generator

Sample = Callable[[Tensor, Tensor, Generator], Tensor]
"""Makes samples of true images (n, 64), their classes (n,) and a generator."""

ENOUGH = 800


def all_digits() -> tuple[Tensor, Tensor]:
    """Returns every digit, (n, 64), and its class."""
    dataset = open_dataset("digits")
    views = (dataset.train, dataset.validation, dataset.test)
    images = torch.cat([view.head() for view in views]).flatten(1)
    return images, torch.cat([view.head_labels() for view in views])


def true(x: Tensor, _: Tensor, __: Generator) -> Tensor:
    """Leaves the images as they are."""
    return x


def noisy(x: Tensor, _: Tensor, generator: Generator) -> Tensor:
    """Adds noise of standard deviation 0.2."""
    return x + 0.2 * torch.randn(x.shape, generator=generator)


def without_a_class(x: Tensor, labels: Tensor, _: Generator) -> Tensor:
    """Leaves the eights out."""
    return x[labels != 8]


def copied(x: Tensor, _: Tensor, __: Generator) -> Tensor:
    """Repeats a tenth of the images ten times each."""
    return x[: len(x) // 10].repeat(10, 1)


def averaged(x: Tensor, labels: Tensor, _: Generator) -> Tensor:
    """Mixes each image half and half with the next of its class."""
    parts = [x[labels == k] for k in range(10)]
    return torch.cat([(part + part.roll(1, 0)) / 2 for part in parts])


def strayed(x: Tensor, _: Tensor, generator: Generator) -> Tensor:
    """Replaces one image in ten by uniform noise."""
    lost = torch.rand(len(x), 1, generator=generator) < 0.1
    return torch.where(lost, 2 * torch.rand(x.shape, generator=generator) - 1, x)


FAULTS: dict[str, Sample] = {
    "noise 0.2 added": noisy,
    "one image in ten is noise": strayed,
    "mean of two images of a class": averaged,
    "no eights": without_a_class,
    "each image ten times": copied,
}


def figures(samples: Tensor, reference: Tensor, seed: int) -> list[float]:
    """Returns Fréchet and 1,000 kernel distance, precision, recall, density, coverage."""
    kernel = kernel_distance(samples, reference, seed, subsets=20, subset_size=500)
    near = manifold_scores(samples, reference)
    return [frechet_distance(samples, reference), 1000 * kernel.value, *near[:4]]


def row(name: str, n: int, sample: Sample, repeats: int) -> str:
    """Returns a table row: each figure's mean ± standard deviation over random halves."""
    images, labels = all_digits()
    values = []
    for seed in range(repeats):
        random = generator("halves", seed)
        order = torch.randperm(len(images), generator=random)
        ours, theirs = order[:n], order[n : 2 * n]
        made = sample(images[ours], labels[ours], random)
        values.append(figures(made, images[theirs], seed))
    table = torch.tensor(values)
    cells = zip(table.mean(0).tolist(), table.std(0).tolist(), strict=True)
    return " | ".join([f"| {name:34s}", *(f"{m:.2f} ± {s:.2f}" for m, s in cells), ""])


def main() -> None:
    """Prints the figures of true digits by their number, and of faulty ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    names = ["Fréchet", "1000 · kernel", "precision", "recall", "density", "coverage"]
    print(" | ".join([f"| {'':34s}", *names, ""]))
    print("|---" * (len(names) + 1) + "|")
    for n in (50, 100, 200, 400, ENOUGH):
        print(row(f"true, {n} against {n}", n, true, repeats), flush=True)
    for name, sample in FAULTS.items():
        print(row(f"{name}, {ENOUGH}", ENOUGH, sample, repeats), flush=True)


if __name__ == "__main__":
    main()
