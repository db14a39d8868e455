"""The cached sampler on a GPU: the work on a row is recorded once and launched as one graph."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.architectures.pixelcnnpp.network import Network
from smoothctl.architectures.pixelcnnpp.samplers import CachedSampler, Canvas, RowClass, Runner
from smoothctl.errors import UsageError

__all__ = ["GraphedSampler", "Recorded", "Work", "cuda_graphs"]

Work = Callable[[], None]
"""Operations on memory that is where it was each time."""


class GraphedSampler(CachedSampler):
    """Draws what `CachedSampler` draws, on a CUDA device, without the cost of launching kernels.

    A row of pixels is thousands of small kernels, and to launch one from Python takes longer than
    it runs. All rows of a class are the same kernels on the same memory, so that a CUDA graph of
    one does for the rest: there are the first row, and one more classes than scales.
    """

    def __call__(
        self, network: Network, canvas: Canvas, progress: Progress | None = None
    ) -> Tensor:
        """Returns the filled images; see `Sampler`.

        Raises:
            UsageError: the canvas is not on a CUDA device.
        """
        device = canvas.images.device
        if device.type != "cuda":
            raise UsageError(
                f"CUDA graphs need a CUDA device, and the images are on {device}: choose the "
                "cached sampler there."
            )
        caller, own = torch.cuda.current_stream(device), _stream(device)
        own.wait_stream(caller)
        with torch.cuda.stream(own):
            filled = super().__call__(network, canvas, progress)
        caller.wait_stream(own)
        filled.record_stream(caller)
        return filled

    def runner(self) -> Runner:
        """Returns what runs the rows of one canvas."""
        return Recorded(cuda_graphs())


class Recorded:
    """Runs the first row of a class, records the second, and replays that for all others.

    The first run is the warm-up that a recording needs: libraries choose and load their kernels.

    Args:
        record: returns the replay of work, without doing it.
    """

    def __init__(self, record: Callable[[Work], Work]) -> None:
        self.record = record
        self.seen: set[RowClass] = set()
        self.replays: dict[RowClass, Work] = {}

    def __call__(self, row: RowClass, work: Work) -> None:
        """Does the work on a row."""
        if row not in self.seen:
            self.seen.add(row)
            work()
            return
        if row not in self.replays:
            self.replays[row] = self.record(work)
        self.replays[row]()


def cuda_graphs() -> Callable[[Work], Work]:
    """Returns what records work on the present stream, which is not the default one.

    The graphs share one pool of memory. They may be replayed in any order, since nothing in the
    pool outlives a replay: what one row leaves to the next is in memory that was there before.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            work()
        replay: Work = graph.replay
        return replay

    return record


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Returns one stream a device: libraries keep working memory for each that they see."""
    return torch.cuda.Stream(device)
