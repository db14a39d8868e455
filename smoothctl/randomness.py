"""Random numbers as pure functions of their keys: the same on every device, rank and restart."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

__all__ = ["generator", "normal", "seed_from", "uniform"]


def seed_from(*keys: int | str) -> int:
    """Returns a 63-bit seed that depends on every key and on their order."""
    text = "\x1f".join(map(str, keys)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator(*keys: int | str) -> Generator:
    """Returns a CPU generator seeded by the keys, such as (seed, "noise", step, rank)."""
    return torch.Generator().manual_seed(seed_from(*keys))


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
