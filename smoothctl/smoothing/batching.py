"""How many examples a network takes at once, and working through more of them in parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import prod
from pathlib import Path

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.errors import UsageError
from smoothctl.rng import skipped
from smoothctl.storage.partial import PartialResults

__all__ = [
    "AT_ONCE",
    "KEPT_ROWS",
    "Execution",
    "check_room",
    "device_of",
    "evaluate",
    "evaluate_long",
    "evaluate_parts",
    "images_at_once",
    "inpaint",
    "map_images",
    "most_images",
    "part_of",
    "rows_that_fit",
    "sample",
    "spans",
]

_MOST_BYTES = 2**30
"""What one call may take on a CPU, so that others find room beside it."""

_GRADIENT = 4
"""How much more memory a pass takes that keeps what its gradient needs."""

_MOST_IMAGES = {"cpu": 64, "cuda": 512}
"""Images to draw at once: beyond this many a larger batch is no faster."""

_MOST_VECTORS = 2**18
"""Vectors to draw at once: a constant, so that free memory doesn't change what is drawn."""

_COPIES = 4
"""Of what is drawn, held at once where its parts are joined and written."""

KEPT_ROWS = {"image": 512, "vector": 2**16}
"""Rows of a part that is kept: constants, so that free memory doesn't change the parts."""


def device_of(density: Density) -> torch.device:
    """Returns where the density's parameters are; the CPU for one that has none."""
    first = next(density.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def rows_that_fit(density: Density, gradient: bool = False) -> int:
    """Returns how many examples one call of `log_prob` may take, at least 1.

    That is a quarter of the free memory of the density's device, at most 1 GiB on a CPU, over
    what the density says that one example takes.

    Args:
        density: the model.
        gradient: the call keeps what its gradient needs.
    """
    share = _free_bytes(device_of(density)) // 4
    factor = _GRADIENT if gradient else 1
    return max(1, share // (factor * density.bytes_per_example()))


def check_room(density: Density, rows: int, arrays: int = 1) -> None:
    """Checks, before any work, that what is to be drawn fits into the free memory.

    Args:
        density: draws it.
        rows: events of each array.
        arrays: how many of such are held.

    Raises:
        UsageError: it does not fit; the message says how much does.
    """
    device, like = device_of(density), next(density.parameters(), torch.empty(0))
    row = _COPIES * arrays * prod(density.event_shape) * like.element_size()
    free = _free_ram() if device.type == "cpu" else min(_free_ram(), _free_bytes(device))
    if rows * row > free:
        raise UsageError(
            f"The samples would take about {Decimal(rows * row >> 20) / 1024:.3g} GiB of memory, "
            f"and {free / 2**30:.3g} GiB are free: draw at most {free // row:,} in all."
        )


def spans(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Returns (start, stop) of consecutive parts of at most `size`."""
    return ((start, min(start + size, total)) for start in range(0, total, size))


@dataclass(frozen=True)
class Execution:
    """How long work is done: how much at once, by whom, who is told. Its result is the same.

    Args:
        batch_size: images drawn at once; chosen from memory if None.
        progress: told (done, total).
        processes: those that share the work; all of them do the same calls and get all results.
        partial: keeps what has been computed, so that work that was stopped goes on; None: nothing
            is kept.
        note: told what a person may want to know of how it was done.
    """

    batch_size: int | None = None
    progress: Progress | None = None
    processes: Processes = ALONE
    partial: PartialResults | None = None
    note: Callable[[str], None] = lambda _: None

    def kept(self, name: str) -> dict[str, Tensor] | None:
        """Returns a partial result that is kept; None where it is not."""
        return None if self.partial is None else self.partial.get(name)

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keeps a partial result."""
        if self.partial is not None:
            self.partial.put(name, tensors)

    def part(self, part: int, parts: int) -> "Execution":
        """Returns the execution of one of several equal parts of the work."""
        return replace(self, progress=part_of(self.progress, part, parts))


AT_ONCE = Execution()
"""In one go, by this process alone, and told to nobody."""


def part_of(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Returns what tells `progress` about one of several equal parts of the work, in percent.

    The whole counts 100 for each part, whatever the parts count in.
    """
    if progress is None:
        return None
    return lambda done, total: progress(100 * part + 100 * done // total, 100 * parts)


def evaluate(
    function: Callable[..., Tensor],
    rows: int,
    *tensors: Tensor | None,
    progress: Progress | None = None,
) -> Tensor:
    """Calls a function of tensors on `rows` rows at a time and joins the results.

    Args:
        function: takes as many tensors as are given.
        rows: at most this many in a call.
        tensors: the first has n ≥ 1 rows; each of the others as many, or is None.
        progress: told (rows done, rows).
    """
    n, results = _rows_of(tensors), []
    for start, stop in spans(n, rows):
        results.append(function(*(_cut(tensor, start, stop) for tensor in tensors)))
        if progress is not None:
            progress(stop, n)
    return results[0] if len(results) == 1 else torch.cat(results)


def evaluate_long(
    name: str,
    function: Callable[..., Tensor],
    rows: int,
    *tensors: Tensor | None,
    execution: Execution = AT_ONCE,
) -> Tensor:
    """Does `evaluate` of a function of one number a row as long work is done: returns (n,).

    Several processes take a share each, and what has been evaluated is kept part by part.

    Args:
        name: of this evaluation among those that are kept.
        function: see `evaluate`.
        rows: see `evaluate`.
        tensors: see `evaluate`.
        execution: who does it; its batch size has no meaning here.
    """
    n, results, first = _rows_of(tensors), [], tensors[0]
    assert first is not None
    for start, stop in spans(n, KEPT_ROWS["image" if first.ndim == 4 else "vector"]):
        part = f"{name}-{start:08d}"
        kept = execution.kept(part)
        if kept is None:
            cut = [_cut(tensor, start, stop) for tensor in tensors]
            kept = {"values": _evaluate_shared(execution.processes, function, rows, cut)}
            execution.keep(part, kept)
        results.append(kept["values"].to(first.device))
        if execution.progress is not None:
            execution.progress(stop, n)
    return results[0] if len(results) == 1 else torch.cat(results)


def evaluate_parts(
    name: str,
    function: Callable[[int, int], Mapping[str, Tensor]],
    parts: Sequence[tuple[int, int]],
    execution: Execution = AT_ONCE,
) -> list[Mapping[str, Tensor]]:
    """Calls a function of (start, stop) for each part of the rows, as long work is done.

    Several processes take one part each at a time, and each result is kept as it is there.

    Args:
        name: of this evaluation among those that are kept.
        function: returns named tensors; a function of its part alone.
        parts: (start, stop) of each.
        execution: who does it; its batch size has no meaning here.

    Returns:
        The results in order, in every process.
    """
    names = [f"{name}-{start:08d}" for start, _ in parts]
    results = {part: execution.kept(part) for part in names}
    missing = [i for i, part in enumerate(names) if results[part] is None]
    processes = execution.processes
    for start, stop in spans(len(missing), processes.count):
        now = missing[start:stop]
        mine = [function(*parts[now[i]]) for i in range(*processes.span(len(now)))]
        shares = processes.gather([{k: v.cpu() for k, v in each.items()} for each in mine])
        for i, result in zip(now, (each for share in shares for each in share), strict=True):
            results[names[i]] = result
            execution.keep(names[i], result)
        if execution.progress is not None:
            execution.progress(len(parts) - len(missing) + stop, len(parts))
    return [result for result in results.values() if result is not None]


def sample(
    density: Density,
    n: int,
    context: Tensor | None = None,
    labels: Tensor | None = None,
    generator: Generator | None = None,
    execution: Execution = AT_ONCE,
) -> Tensor:
    """Draws n samples, images in batches: (n, *event). The batch size doesn't change them.

    Several processes draw whole batches of images, since the last bits of a row may depend on how
    many there are beside it, and vectors all alike.

    Args:
        density: the model.
        n: how many.
        context: (n, *context_shape) for a conditional model.
        labels: classes, int64 (n,), for a class-conditional model.
        generator: draws the samples.
        execution: how they are drawn.

    Raises:
        UsageError: a batch size below one, or one for vectors.
    """
    if density.domain == "vector":
        execution = replace(execution, processes=ALONE)
    at, drawn = 0, []  # at: the row that the generator comes to next
    for start, stop, progress in _batches(density, n, execution):
        if generator is not None and start > at:
            skipped(generator, start - at)
        given, classes = _cut(context, start, stop), _cut(labels, start, stop)
        drawn.append(density.sample(stop - start, given, classes, generator, progress))
        at = stop
    if generator is not None and n > at:
        skipped(generator, n - at)
    return _joined(drawn, execution.processes).to(device_of(density))


def inpaint(
    density: Density,
    x: Tensor,
    known: Tensor,
    context: Tensor | None = None,
    labels: Tensor | None = None,
    generator: Generator | None = None,
    execution: Execution = AT_ONCE,
) -> Tensor:
    """Draws what is not known of x, images in batches; see `Density.inpaint` and `sample`.

    Processes do not share this work.
    """
    alone, drawn = replace(execution, processes=ALONE), []
    for start, stop, progress in _batches(density, len(x), alone):
        mask = known if len(known) == 1 else known[start:stop]
        given, classes = _cut(context, start, stop), _cut(labels, start, stop)
        drawn.append(density.inpaint(x[start:stop], mask, given, classes, generator, progress))
    return _joined(drawn, ALONE)


def most_images(device: torch.device) -> int:
    """Returns how many images are at most drawn at once on a device, unless one asks for more."""
    return _MOST_IMAGES.get(device.type, _MOST_IMAGES["cpu"])


def images_at_once(density: Density, n: int, chosen: int | None = None) -> int:
    """Returns the batch: vectors, whose noise is shared, are drawn by a constant number.

    Args:
        density: the model.
        n: rows in all.
        chosen: by the user; what fits into memory, and is no slower, if None.

    Raises:
        UsageError: a batch size below one, one for vectors, or more than fits into memory.
    """
    if chosen is not None and chosen < 1:
        raise UsageError(f"The batch size must be at least 1, not {chosen}.")
    if density.domain == "vector":
        if chosen is not None:
            raise UsageError("Vectors are drawn all at once: leave the batch size out.")
        return max(1, min(n, _MOST_VECTORS))
    if chosen is not None:
        most = max(1, _free_ram() // density.bytes_per_example())
        if min(n, chosen) > most:
            raise UsageError(
                f"At most {most:,} of these images fit into memory at once: choose a smaller "
                "`batch_size`, or leave it out."
            )
        return chosen
    return max(1, min(most_images(device_of(density)), rows_that_fit(density) // 2))


def map_images(
    function: Callable[..., Tensor],
    size: int,
    *tensors: Tensor | None,
    processes: Processes = ALONE,
) -> Tensor:
    """Calls a function on whole batches of images that processes share, and joins the results.

    Args:
        function: takes as many tensors as are given.
        size: rows of a batch.
        tensors: see `evaluate`.
        processes: those that share the batches; all get all results.
    """
    cuts = _shares(_rows_of(tensors), processes.first(size), processes)
    return _joined([function(*(_cut(t, a, b) for t in tensors)) for a, b in cuts], processes)


def _batches(
    density: Density, n: int, execution: Execution
) -> Iterator[tuple[int, int, Progress | None]]:
    """Yields (start, stop, progress) of each batch that this process draws."""
    processes = execution.processes
    size = processes.first(images_at_once(density, n, execution.batch_size))
    cuts = _shares(n, size, processes)
    for number, (start, stop) in enumerate(cuts):
        yield start, stop, part_of(execution.progress, number, len(cuts))


def _shares(n: int, size: int, processes: Processes) -> list[tuple[int, int]]:
    """Returns (start, stop) of the whole batches that this process takes."""
    cuts = list(spans(n, size)) or [(0, 0)]
    first, last = processes.span(len(cuts))
    return cuts[first:last]


def _joined(batches: Sequence[Tensor], processes: Processes) -> Tensor:
    """Returns the batches of all processes as one tensor."""
    if processes.count == 1:
        return batches[0] if len(batches) == 1 else torch.cat([*batches])
    shares = processes.gather([batch.cpu() for batch in batches])
    return torch.cat([batch for share in shares for batch in share])


def _evaluate_shared(
    processes: Processes,
    function: Callable[..., Tensor],
    rows: int,
    tensors: Sequence[Tensor | None],
) -> Tensor:
    """Does `evaluate` of a function of one number a row, a share in each process: (n,)."""
    if processes.count == 1:
        return evaluate(function, rows, *tensors)
    begin, end = processes.span(_rows_of(tensors))
    assert tensors[0] is not None
    values = tensors[0].new_zeros(_rows_of(tensors))
    if end > begin:
        values[begin:end] = evaluate(function, rows, *(_cut(t, begin, end) for t in tensors))
    return processes.total(values)


def _rows_of(tensors: Sequence[Tensor | None]) -> int:
    assert tensors[0] is not None
    return len(tensors[0])


def _cut(tensor: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if tensor is None else tensor[start:stop]


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return min(4 * _MOST_BYTES, _free_ram())


def _free_ram() -> int:
    """Returns the bytes that Linux says are available; elsewhere, 4 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kib) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return 4 * _MOST_BYTES
