"""Random numbers as pure functions of their keys: the same on every device, rank and restart."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

__all__ = ["forked", "generator", "normal", "row_generators", "seed_from", "skipped", "uniform"]


def seed_from(*keys: int | str) -> int:
    """Returns a 63-bit seed that depends on every key and on their order."""
    text = "\x1f".join(map(str, keys)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator(*keys: int | str) -> Generator:
    """Returns a CPU generator seeded by the keys, such as (seed, "noise", step, rank)."""
    return torch.Generator().manual_seed(seed_from(*keys))


def row_generators(n: int, source: Generator | None = None) -> list[Generator]:
    """Returns a CPU generator for each of n rows, seeded by the next number of `source`.

    What a row draws from its own does not depend on the rows beside it: the i-th row of a source
    is the same however the rows are cut into batches.

    Args:
        n: how many.
        source: where the seeds come from; fresh entropy if None.
    """
    if source is None:
        source = torch.Generator()
        source.seed()
    return [torch.Generator().manual_seed(seed) for seed in _seeds(n, source).tolist()]


class _Rows(Generator):
    """Gives rows the seeds that it was made of, in order, as `row_generators` takes them."""

    def __new__(cls, seeds: Tensor) -> "_Rows":
        """Returns a generator of the CPU, which the seeds are no device of."""
        del seeds
        return super().__new__(cls)

    def __init__(self, seeds: Tensor) -> None:
        super().__init__()
        self.left = seeds
        self.manual_seed(seed_from(*seeds[:1].tolist()))

    def take(self, n: int) -> Tensor:
        """Returns the next seeds."""
        taken, self.left = self.left[:n], self.left[n:]
        return taken


def forked(n: int, source: Generator | None, parts: int) -> list[Generator]:
    """Returns a source for each of several draws of the same n rows.

    A row takes one number of `source`, whatever the parts draw: the i-th row is the same however
    rows are cut into batches.

    Args:
        n: rows.
        source: where the seeds come from; fresh entropy if None.
        parts: how many draws.
    """
    if source is None:
        source = torch.Generator()
        source.seed()
    seeds = _seeds(n, source).tolist()
    return [
        _Rows(torch.tensor([seed_from(seed, part) for seed in seeds], dtype=torch.int64))
        for part in range(parts)
    ]


def skipped(source: Generator, rows: int) -> Generator:
    """Returns the source after it has given the seeds of so many rows, which are not drawn.

    Args:
        source: moved on in place.
        rows: how many; each takes one number, as in `row_generators`.
    """
    _seeds(rows, source)
    return source


def normal(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Draws standard normals of the given shape, with the dtype and device of `like`."""
    device = like.device if generator is None else generator.device
    draws = torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=device)
    return draws.to(like.device)


def uniform(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Draws uniforms on the open interval (0, 1), with the dtype and device of `like`."""
    device = like.device if generator is None else generator.device
    draws = torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=device)
    tiny = torch.finfo(like.dtype).eps / 4
    return draws.clamp_(tiny, 1 - 2 * tiny).to(like.device)


def _seeds(n: int, source: Generator) -> Tensor:
    if isinstance(source, _Rows):
        return source.take(n)
    return torch.randint(2**62, (n,), generator=source, device=source.device)
