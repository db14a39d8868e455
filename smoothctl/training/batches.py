"""What each step sees: examples, classes and noise as pure functions of (seed, step)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from smoothctl.distributed.processes import Processes
from smoothctl.errors import DataError
from smoothctl.rng import generator, seed_from
from smoothctl.training.memory import fewer_rows
from smoothctl.training.settings import FitPlan

__all__ = ["BatchSchedule", "MicroBatch"]


@dataclass(frozen=True)
class MicroBatch:
    """What the model takes at once.

    Args:
        x: clean examples, (rows, *event).
        x_smooth: the same smoothed, shape of x; for a baseline, x.
        labels: their classes, (rows,), where the density is conditioned on them.
        generator: of what the loss draws beside the smoothing.
        dropout_seed: the seed of dropout.
        sigma: the smoothing of each, (rows,), where the density takes it as an input.
        first: row of the step's batch that comes first.
        weight: its share of this process's rows of the step.
        last: whether it ends the step.
    """

    x: Tensor
    x_smooth: Tensor
    labels: Tensor | None
    generator: Generator
    dropout_seed: int
    sigma: Tensor | None
    first: int
    weight: float
    last: bool


class BatchSchedule:
    """Cuts the batch of each step into processes, accumulated parts and micro-batches.

    The rows of a step's batch and their smoothing are the same however it is cut. What a loss
    draws beside the smoothing, and dropout, differ from micro-batch to micro-batch.

    Args:
        plan: what is fitted to what.
        labelled: whether the density is conditioned on their classes.
        processes: those that share a step.
        device: where the model is.

    Raises:
        DataError: there are fewer examples than parts of a step.
    """

    def __init__(
        self, plan: FitPlan, labelled: bool, processes: Processes, device: torch.device
    ) -> None:
        self.config, self.view, self.kernel = plan.config, plan.dataset.train, plan.kernel
        self.labelled, self.processes, self.device = labelled, processes, device
        self.lowest_sigma = plan.lowest_sigma
        config, view = self.config, self.view
        self.dtype = torch.float64 if config.precision == "float64" else torch.float32
        self.parts = processes.count * config.training.accumulate
        wanted = config.training.batch_size
        self.share = min(wanted, len(view)) // self.parts
        if not self.share:
            raise DataError(
                f"{config.dataset} has {len(view)} training examples and a batch {wanted}: too few "
                f"for {self.parts} parts a step."
            )
        self.batch_size = self.share * self.parts
        self.steps_per_epoch = len(view) // self.batch_size
        self.rows = self.share

    def shortfall(self) -> str | None:
        """Returns a sentence where a step cannot take as many examples as it should."""
        wanted = self.config.training.batch_size
        if self.batch_size == wanted:
            return None
        return (
            f"A step takes {self.batch_size} examples, not {wanted}: the data has "
            f"{len(self.view)}, and a step is split into {self.parts} equal parts."
        )

    def halve(self, error: RuntimeError) -> None:
        """Halves the rows of a micro-batch for the rest of the run; see `fewer_rows`."""
        accumulate = self.config.training.accumulate
        self.rows = fewer_rows(error, self.rows, accumulate, self.processes)

    def first(self, n: int) -> Tensor:
        """Returns the first n examples that are seen, or all: (n, *event)."""
        return self.to_device(self.view.batch(self.config.seed, 0, 0, min(n, len(self.view))))

    def to_device(self, x: Tensor) -> Tensor:
        """Returns examples where and as the model takes them."""
        return x.to(self.device, self.dtype)

    def sigmas(self, n: int, *keys: int | str) -> Tensor | None:
        """Draws the smoothing of n examples, log-uniformly: (n,).

        Args:
            n: examples.
            keys: what it is a function of beside the seed.

        Returns:
            None where there is one σ for all.
        """
        if self.kernel is None or not self.lowest_sigma:
            return None
        draws = generator(self.config.seed, "sigma", *keys)
        share = torch.rand(n, generator=draws, dtype=torch.float64)
        ratio = self.lowest_sigma / self.kernel.sigma
        return (self.kernel.sigma * ratio**share).to(self.device, self.dtype)

    def smooth(self, x: Tensor, generator: Generator, sigma: Tensor | None = None) -> Tensor:
        """Draws x̃ ~ q(x̃|x), shape of x; x itself for a baseline.

        Args:
            x: clean examples, (rows, *event).
            generator: draws the noise.
            sigma: standard deviation for each, (rows,); the kernel's if None.
        """
        if self.kernel is None:
            return x
        return x + self._scaled(self.kernel.noise(x, generator), sigma)

    def _scaled(self, noise: Tensor, sigma: Tensor | None) -> Tensor:
        """Returns noise of the kernel's σ with other ones, which a kernel of noise/σ makes it."""
        if self.kernel is None or sigma is None:
            return noise
        return noise * (sigma / self.kernel.sigma).view(-1, *[1] * (noise.ndim - 1))

    def micro_batches(self, step: int) -> Iterator[MicroBatch]:
        """Returns what this process sees in a step, at most `rows` examples at once.

        Args:
            step: counted from 0.
        """
        cuts = self._cuts()
        whole = cuts == [(0, self.batch_size)]
        noise = None if whole else self._noise(step)
        sigmas = self.sigmas(self.batch_size, step)
        for first, stop in cuts:
            x, labels = self._examples(step, first, stop)
            draws = generator(self.config.seed, "noise" if whole else "draws", step, first, 0)
            known = None if noise is None else noise[first:stop].to(self.device)
            sigma = None if sigmas is None else sigmas[first:stop]
            yield MicroBatch(
                x=x,
                x_smooth=self.smooth(x, draws, sigma)
                if known is None
                else x + self._scaled(known, sigma),
                labels=labels,
                generator=draws,
                dropout_seed=seed_from(self.config.seed, "dropout", step, first, 0),
                sigma=sigma,
                first=first,
                weight=(stop - first) * self.processes.count / self.batch_size,
                last=(first, stop) == cuts[-1],
            )

    def _cuts(self) -> list[tuple[int, int]]:
        """Returns (first, stop) of each micro-batch of this process in the batch of a step."""
        count, share = self.processes.count, self.share
        starts = range(self.processes.index * share, self.batch_size, count * share)
        return [
            (first, min(first + self.rows, start + share))
            for start in starts
            for first in range(start, start + share, self.rows)
        ]

    def _examples(self, step: int, first: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Returns rows of a step's batch and their classes, where those are needed."""
        epoch, position = divmod(step, self.steps_per_epoch)
        begin = position * self.batch_size
        where = (self.config.seed, epoch, begin + first, begin + stop)
        labels = self.view.labels(*where).to(self.device) if self.labelled else None
        return self.to_device(self.view.batch(*where)), labels

    def _noise(self, step: int) -> Tensor | None:
        """Returns the noise of a whole step's batch, as one micro-batch would draw it."""
        if self.kernel is None:
            return None
        like = torch.zeros((), dtype=self.dtype).expand(self.batch_size, *self.config.event_shape)
        return self.kernel.noise(like, generator(self.config.seed, "noise", step, 0, 0))
