"""Samples of a run's models, any range of their rows by itself: what `sampling` is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.distributed.processes import Processes
from smoothctl.errors import UsageError
from smoothctl.rng import generator, skipped
from smoothctl.runs.run import Run
from smoothctl.smoothing import batching
from smoothctl.smoothing.batching import part_of
from smoothctl.smoothing.two_step import TwoStep

__all__ = ["FRAMED", "METHODS", "Drawn", "Method", "Source", "class_labels"]

Method = Literal["two-step", "single-step", "smoothed", "baseline"]
METHODS: tuple[Method, ...] = get_args(Method)
FRAMED: tuple[Method, ...] = ("smoothed", "baseline")
"""The methods whose samples may have intermediate states, and come from no x̃."""


class Drawn(NamedTuple):
    """Samples (n, *event) with what belongs to them."""

    samples: Tensor
    smoothed: Tensor | None = None
    """The x̃ of each, for methods that start from it."""
    labels: Tensor | None = None
    """The class that each was drawn for, (n,), where the model has classes."""


@dataclass(frozen=True)
class Source:
    """The models of some methods, with what determines their samples.

    Args:
        methods: some of METHODS.
        two_step: what draws the methods that start from x̃.
        baseline: the unsmoothed model.
        seed: of all noise.
        label: the class to draw; all in turn if None.
        batch_size: images at once; chosen from memory if None.
        processes: those that share the batches of images.
        device: where joined samples go.
    """

    methods: Sequence[str]
    two_step: TwoStep | None
    baseline: Density | None
    seed: int
    label: int | None
    batch_size: int | None
    processes: Processes
    device: "str | torch.device"

    @classmethod
    def of(
        cls,
        run: Run,
        methods: Sequence[str],
        seed: int,
        label: int | None,
        batch_size: int | None,
        processes: Processes,
    ) -> "Source":
        """Loads the models of a run; see `sampling.draw`."""
        two_step = run.method() if set(methods) - {"baseline"} else None
        baseline = run.density("baseline") if "baseline" in methods else None
        if two_step is not None and "single-step" in methods:
            two_step.check_single_step()
        if two_step is not None:
            two_step = replace(two_step, processes=processes)
        rest = (seed, label, batch_size, processes, run.device)
        return cls(methods, two_step, baseline, *rest)

    def draw(self, start: int, stop: int, progress: Progress | None) -> dict[str, Tensor]:
        """Draws a range of rows by all methods: the samples of each, and x̃ as "smoothed"."""
        two_step, n, found = self.two_step, stop - start, {}
        passes = (two_step is not None) + ("two-step" in self.methods) + (self.baseline is not None)
        told = [part_of(progress, part, passes) for part in range(passes)]
        if two_step is not None:
            labels, size = self._labels(two_step, start, stop), self.batch_size
            stream = self._stream("smoothed", start)
            x_smooth = two_step.sample_smoothed(n, stream, told.pop(0), labels, size)
            found["smoothed"] = x_smooth
            if "single-step" in self.methods:
                found["single-step"] = two_step.single_step(x_smooth, labels)
            if "two-step" in self.methods:
                stream = self._stream("denoised", start)
                found["two-step"] = two_step.denoise(x_smooth, stream, told.pop(0), labels, size)
        if self.baseline is not None:
            rest = (self._labels(self.baseline, start, stop), self.batch_size, self.processes)
            stream = self._stream("baseline", start)
            found["baseline"] = batching.sample(self.baseline, n, None, stream, told.pop(0), *rest)
        return found

    def joined(self, shards: Sequence[Mapping[str, Tensor]], n: int) -> dict[str, Drawn]:
        """Returns all samples by method."""
        whole = {
            name: torch.cat([shard[name] for shard in shards]).to(self.device) for name in shards[0]
        }
        found = {}
        for method in self.methods:
            model = self.baseline if method == "baseline" else self.two_step
            assert model is not None
            x_smooth = None if method in FRAMED else whole["smoothed"]
            found[method] = Drawn(whole[method], x_smooth, self._labels(model, 0, n))
        return found

    def _stream(self, name: str, start: int) -> Generator:
        """Returns the generator of one method's noise, skipped to a row."""
        return skipped(generator(self.seed, name), start)

    def _labels(self, model: TwoStep | Density, start: int, stop: int) -> Tensor | None:
        labels = class_labels(model, stop, self.label)
        return None if labels is None else labels[start:]


def class_labels(model: TwoStep | Density, n: int, label: int | None = None) -> Tensor | None:
    """Returns the classes of n samples: the given one, or all in turn; None without classes.

    Returns:
        int64 (n,), on the model's device.

    Raises:
        UsageError: there is no such class, or the model has none.
    """
    classes = model.classes
    if classes is None:
        if label is not None:
            raise UsageError("This run was fitted without classes: leave --label out.")
        return None
    if label is not None and not 0 <= label < classes:
        raise UsageError(f"There is no class {label}; this run has 0 to {classes - 1}.")
    device = batching.device_of(model.prior if isinstance(model, TwoStep) else model)
    if label is None:
        return torch.arange(n, device=device) % classes
    return torch.full((n,), label, device=device)
