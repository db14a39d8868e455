"""What each pass of a step sees: examples, classes and noise as pure functions of (seed, step)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from smoothctl.datasets.base import View
from smoothctl.distributed.processes import Processes
from smoothctl.errors import DataError
from smoothctl.kernels.base import Kernel
from smoothctl.rng import generator, seed_from
from smoothctl.runs.config import StageConfig
from smoothctl.smoothing.batching import spans

__all__ = ["Feed", "Pass", "noise_of"]


@dataclass(frozen=True)
class Pass:
    """What the model takes at once.

    Args:
        x: clean examples, (rows, *event).
        labels: their classes, (rows,), where the density is conditioned on them.
        noise: x̃ − x, shape of x; None where `draws` gives it.
        draws: the generator of what the loss draws.
        dropout: the seed of dropout.
        first: row of the step's batch that comes first.
        weight: its share of this process's rows of the step.
        last: whether it ends the step.
    """

    x: Tensor
    labels: Tensor | None
    noise: Tensor | None
    draws: Generator
    dropout: int
    first: int
    weight: float
    last: bool


class Feed:
    """Cuts the batch of each step into processes, accumulated parts and passes.

    The rows of a step's batch and their smoothing are the same however it is cut. What a loss
    draws beside the smoothing, and dropout, differ from pass to pass.

    Args:
        config: the stage's configuration.
        view: the examples to fit.
        kernel: smooths them; None for a baseline.
        labelled: whether the density is conditioned on their classes.
        processes: those that share a step.
        device: where the model is.
        note: told a sentence where a step cannot take as many examples as it should.

    Raises:
        DataError: there are fewer examples than parts of a step.
    """

    def __init__(
        self,
        config: StageConfig,
        view: View,
        kernel: Kernel | None,
        labelled: bool,
        processes: Processes,
        device: torch.device,
        note: Callable[[str], None],
    ) -> None:
        self.config, self.view, self.kernel = config, view, kernel
        self.labelled, self.processes, self.device = labelled, processes, device
        self.dtype = torch.float64 if config.precision == "float64" else torch.float32
        self.parts = processes.count * config.training.accumulate
        self.share = self._share(note)
        self.whole = self.share * self.parts

    def _share(self, note: Callable[[str], None]) -> int:
        """Returns how many examples each part of a step takes."""
        examples, wanted = len(self.view), self.config.training.batch_size
        size = min(wanted, examples)
        if size < self.parts:
            raise DataError(
                f"{self.config.dataset} has {examples} training examples and a batch {wanted}: "
                f"too few for {self.parts} parts a step."
            )
        share = size // self.parts
        if share * self.parts != wanted:
            note(
                f"A step takes {share * self.parts} examples, not {wanted}: the data has "
                f"{examples}, and a step is split into {self.parts} equal parts."
            )
        return share

    def first(self, n: int) -> Tensor:
        """Returns the first n examples that are seen, or all: (n, *event)."""
        return self.to_device(self.view.batch(self.config.seed, 0, 0, min(n, len(self.view))))

    def to_device(self, x: Tensor) -> Tensor:
        """Returns examples where and as the model takes them."""
        return x.to(self.device, self.dtype)

    def passes(self, step: int, rows: int) -> Iterator[Pass]:
        """Returns what this process sees in a step.

        Args:
            step: counted from 0.
            rows: at most so many examples in a pass.
        """
        accumulate, seed = self.config.training.accumulate, self.config.seed
        epoch, position = divmod(step, len(self.view) // self.whole)
        uncut = self.whole == min(self.share, rows)
        noise = None if uncut or self.kernel is None else self._noise(self.kernel, step)
        for part in range(accumulate):
            begin = (part * self.processes.count + self.processes.index) * self.share
            for start, stop in spans(self.share, rows):
                first, end = begin + start, begin + stop
                where = (seed, epoch, position * self.whole + first, position * self.whole + end)
                yield Pass(
                    x=self.to_device(self.view.batch(*where)),
                    labels=self.view.labels(*where).to(self.device) if self.labelled else None,
                    noise=None if noise is None else noise[first:end].to(self.device),
                    draws=generator(seed, "noise" if uncut else "draws", step, first, 0),
                    dropout=seed_from(seed, "dropout", step, first, 0),
                    first=first,
                    weight=(stop - start) / (self.share * accumulate),
                    last=part == accumulate - 1 and stop == self.share,
                )

    def _noise(self, kernel: Kernel, step: int) -> Tensor:
        """Returns the smoothing of a whole step's batch, as one pass over it would draw it."""
        source = generator(self.config.seed, "noise", step, 0, 0)
        return noise_of(kernel, (self.whole, *self.config.event_shape), self.dtype, source)


def noise_of(
    kernel: Kernel, shape: tuple[int, ...], dtype: torch.dtype, generator: Generator
) -> Tensor:
    """Returns what `kernel.sample` adds to examples of a shape, on the CPU."""
    return kernel.noise(torch.zeros((), dtype=dtype).expand(shape), generator)
