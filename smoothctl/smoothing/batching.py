"""How many examples a network takes at once, and working through more of them in parts."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor

from smoothctl.architectures.base import Density, Progress
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.errors import UsageError
from smoothctl.rng import skipped
from smoothctl.storage.partial import Parts

__all__ = [
    "KEPT_ROWS",
    "complete",
    "device_of",
    "evaluate",
    "evaluate_kept",
    "evaluate_shared",
    "images_at_once",
    "in_batches",
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


def spans(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Returns (start, stop) of consecutive parts of at most `size`."""
    return ((start, min(start + size, total)) for start in range(0, total, size))


def evaluate(
    function: Callable[..., Tensor],
    rows: int,
    *tensors: Tensor,
    labels: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Calls a function of tensors on `rows` rows at a time and joins the results.

    Args:
        function: takes as many tensors as are given and, where labels are, `labels=`.
        rows: at most this many in a call.
        tensors: of equal length n, at least 1.
        labels: (n,), or None.
        progress: told (rows done, rows).
    """
    n, results = len(tensors[0]), []
    for start, stop in spans(n, rows):
        given = {} if labels is None else {"labels": labels[start:stop]}
        results.append(function(*(tensor[start:stop] for tensor in tensors), **given))
        if progress is not None:
            progress(stop, n)
    return results[0] if len(results) == 1 else torch.cat(results)


def evaluate_shared(
    processes: Processes,
    function: Callable[..., Tensor],
    rows: int,
    *tensors: Tensor,
    labels: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Does `evaluate` of a function of one number a row in several processes, a share in each.

    All of them must call it with the same tensors, and all get all results, (n,). The other
    arguments are those of `evaluate`.
    """
    if processes.count == 1:
        return evaluate(function, rows, *tensors, labels=labels, progress=progress)
    begin, end = processes.span(len(tensors[0]))
    found = tensors[0].new_zeros(len(tensors[0]))
    if end > begin:
        mine = [tensor[begin:end] for tensor in tensors]
        given = None if labels is None else labels[begin:end]
        found[begin:end] = evaluate(function, rows, *mine, labels=given, progress=progress)
    return processes.total(found)


def evaluate_kept(
    parts: Parts,
    name: str,
    processes: Processes,
    function: Callable[..., Tensor],
    rows: int,
    *tensors: Tensor,
    labels: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Does `evaluate_shared` in parts that are kept under a name, so that stopped work goes on.

    The other arguments are those of `evaluate_shared`.
    """
    n, found = len(tensors[0]), []

    def values(start: int, stop: int) -> dict[str, Tensor]:
        mine = [tensor[start:stop] for tensor in tensors]
        given = None if labels is None else labels[start:stop]
        return {"values": evaluate_shared(processes, function, rows, *mine, labels=given)}

    for start, stop in spans(n, KEPT_ROWS["image" if tensors[0].ndim == 4 else "vector"]):
        part = parts.part(f"{name}-{start:08d}", partial(values, start, stop))
        found.append(part["values"].to(tensors[0].device))
        if progress is not None:
            progress(stop, n)
    return found[0] if len(found) == 1 else torch.cat(found)


def part_of(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Returns what tells `progress` about one of several equal parts of the work, in percent.

    The whole counts 100 for each part, whatever the parts count in.
    """
    if progress is None:
        return None
    return lambda done, total: progress(100 * part + 100 * done // total, 100 * parts)


def sample(
    density: Density,
    n: int,
    context: Tensor | None = None,
    generator: Generator | None = None,
    progress: Progress | None = None,
    labels: Tensor | None = None,
    batch_size: int | None = None,
    processes: Processes = ALONE,
) -> Tensor:
    """Draws n samples, images in batches: (n, *event). The batch size doesn't change them.

    Several processes draw whole batches of images, and vectors all alike; all must call it with
    the same arguments and get all samples.

    Args:
        density: the model.
        n: how many.
        context: (n, *context_shape) for a conditional model.
        generator: draws the samples.
        progress: told (done, total).
        labels: classes, int64 (n,), for a class-conditional model.
        batch_size: images at once; as many as fit into memory, at most 64 on a CPU, if None.
        processes: those that share the batches.

    Raises:
        UsageError: a batch size below one, or one for vectors.
    """
    at = 0  # the row that the generator comes to next

    def draw(start: int, stop: int, progress: Progress | None) -> Tensor:
        nonlocal at
        given = density.given(None if labels is None else labels[start:stop])
        part = None if context is None else context[start:stop]
        if generator is not None:
            skipped(generator, start - at)
        at = stop
        return density.sample(
            stop - start, context=part, generator=generator, progress=progress, **given
        )

    size = images_at_once(density, n, batch_size)
    if density.domain == "vector":
        return draw(0, n, progress)
    found = in_batches(draw, n, processes.first(size), progress, processes)
    if generator is not None:
        skipped(generator, n - at)
    return found.to(device_of(density))


def complete(
    density: Density,
    x: Tensor,
    known: Tensor,
    context: Tensor | None = None,
    generator: Generator | None = None,
    progress: Progress | None = None,
    labels: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Draws what is not known of x, images in batches; see `Density.complete` and `sample`."""

    def draw(start: int, stop: int, progress: Progress | None) -> Tensor:
        given = density.given(None if labels is None else labels[start:stop])
        part = None if context is None else context[start:stop]
        mask = known if len(known) == 1 else known[start:stop]
        return density.complete(x[start:stop], mask, part, generator, progress, **given)

    return in_batches(draw, len(x), images_at_once(density, len(x), batch_size), progress)


def in_batches(
    work: Callable[[int, int, Progress | None], Tensor],
    n: int,
    size: int,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Tensor:
    """Works through n rows batch by batch and joins the results, (n, …).

    Several processes take whole batches, since the last bits of a row may depend on how many there
    are beside it; so the results are one process's to the bit.

    Args:
        work: called with (start, stop, progress) of one batch after the other.
        n: rows.
        size: rows of a batch, the same in all processes.
        progress: told (done, total) of this process's batches.
        processes: those that share the batches; all get all results.
    """
    cuts = list(spans(n, size)) or [(0, 0)]
    first, last = processes.span(len(cuts))
    mine = [
        work(start, stop, part_of(progress, part, last - first))
        for part, (start, stop) in enumerate(cuts[first:last])
    ]
    if processes.count == 1:
        return mine[0] if len(mine) == 1 else torch.cat(mine)
    shares = processes.gather([batch.cpu() for batch in mine])
    return torch.cat([batch for share in shares for batch in share])


def most_images(device: torch.device) -> int:
    """Returns how many images are at most drawn at once on a device, unless one asks for more."""
    return _MOST_IMAGES.get(device.type, _MOST_IMAGES["cpu"])


def images_at_once(density: Density, n: int, chosen: int | None = None) -> int:
    """Returns the batch: vectors are drawn all at once, as their noise is shared.

    Args:
        density: the model.
        n: rows in all.
        chosen: by the user; what fits into memory, and is no slower, if None.

    Raises:
        UsageError: a batch size below one, or one for vectors.
    """
    if chosen is not None and chosen < 1:
        raise UsageError(f"The batch size must be at least 1, not {chosen}.")
    if density.domain == "vector":
        if chosen is not None:
            raise UsageError("Vectors are drawn all at once: leave the batch size out.")
        return max(1, n)
    if chosen is not None:
        return chosen
    return max(1, min(most_images(device_of(density)), rows_that_fit(density) // 2))


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
