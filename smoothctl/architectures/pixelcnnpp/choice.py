"""The samplers by name, and the one that takes the fastest."""

from collections.abc import Callable, Mapping

from torch import Tensor

from smoothctl.architectures.base import Progress
from smoothctl.architectures.pixelcnnpp.compiled import CompiledSampler
from smoothctl.architectures.pixelcnnpp.graphs import GraphedSampler
from smoothctl.architectures.pixelcnnpp.network import Network
from smoothctl.architectures.pixelcnnpp.parallel import ParallelSampler
from smoothctl.architectures.pixelcnnpp.samplers import (
    CachedSampler,
    Canvas,
    NaiveSampler,
    Sampler,
)

__all__ = ["SAMPLERS", "FastestSampler"]


class FastestSampler:
    """Draws by the compiled sampler where it can, else by the cached one."""

    def __init__(self) -> None:
        self.compiled = CompiledSampler()

    def __call__(
        self, network: Network, canvas: Canvas, progress: Progress | None = None
    ) -> Tensor:
        """Returns the filled images; see `Sampler`."""
        sampler = CachedSampler() if self.compiled.why_not(network) else self.compiled
        return sampler(network, canvas, progress)


SAMPLERS: Mapping[str, Callable[[], Sampler]] = {
    "auto": FastestSampler,
    "compiled": CompiledSampler,
    "cached": CachedSampler,
    "graphed": GraphedSampler,
    "parallel": ParallelSampler,
    "naive": NaiveSampler,
}
"""Setting -> what makes a model its sampler; all draw the same images."""
