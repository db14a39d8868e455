"""Published figures by dataset, each with its source."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published", "published_for", "published_nats"]


@dataclass(frozen=True)
class Published:
    """One model's figures as its source prints them; None where it prints none.

    Args:
        model: its name.
        source: authors, year, table.
        address: where the source can be read.
        inception_score: higher is better.
        inception_score_deviation: over splits.
        fid: the Fréchet distance of Inception features; lower is better.
        kid: their kernel distance; lower is better.
        bits_per_dim: −log₂ p(x) by dimension; lower is better.
        nats: −log p(x); lower is better.
        bound: whether −log p(x) is bounded from above, by one draw, and not exact.
    """

    model: str
    source: str
    address: str
    inception_score: float | None = None
    inception_score_deviation: float | None = None
    fid: float | None = None
    kid: float | None = None
    bits_per_dim: float | None = None
    nats: float | None = None
    bound: bool = False


_NCSN = ("Song & Ermon 2019, table 1", "https://arxiv.org/abs/1907.05600")
_ARDS_1 = ("Meng et al. 2021, table 1", "https://arxiv.org/abs/2103.15089")
_ARDS_5 = ("Meng et al. 2021, section 5", "https://arxiv.org/abs/2103.15089")
_ARDS_2 = ("Meng et al. 2021, table 2", "https://arxiv.org/abs/2103.15089")

PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "cifar10": (
        Published("PixelCNN", *_ARDS_2, 4.60, fid=65.93, bits_per_dim=3.14),
        Published("PixelIQN", *_ARDS_2, 5.29, fid=49.46),
        Published("PixelCNN++", *_ARDS_2, 5.30, fid=54.25, kid=0.046, bits_per_dim=2.92),
        Published("EBM", *_ARDS_2, 6.02, fid=40.58),
        Published("i-ResNet", *_ARDS_2, fid=65.01, bits_per_dim=3.45),
        Published("MADE", *_ARDS_2, bits_per_dim=5.67),
        Published("Glow", *_ARDS_2, fid=46.90, bits_per_dim=3.35),
        Published("single-step", *_ARDS_2, 7.50, 0.08, fid=57.53, kid=0.052),
        Published(
            "two-step", *_ARDS_2, 7.84, 0.07, fid=29.83, kid=0.022, bits_per_dim=3.53, bound=True
        ),
        Published("WGAN-GP", *_NCSN, 7.86, 0.07, fid=36.4),
        Published("MoLM", *_NCSN, 7.90, 0.10, fid=18.9),
        Published("SNGAN", *_NCSN, 8.22, 0.05, fid=21.7),
        Published("ProgressiveGAN", *_NCSN, 8.80, 0.05),
        Published("NCSN", *_NCSN, 8.87, 0.12, fid=25.32),
    ),
    "checkerboard": (
        Published("RealNVP", *_ARDS_5, nats=3.72),
        Published("two-step RealNVP", *_ARDS_5, nats=3.64, bound=True),
    ),
    "rings": (
        Published("RealNVP", *_ARDS_1, nats=2.81),
        Published("CIF-RealNVP", *_ARDS_1, nats=2.81),
        Published("MADE-3", *_ARDS_1, nats=3.26),
        Published("MADE-6", *_ARDS_1, nats=2.81),
        Published("two-step, 3 logistics", *_ARDS_1, nats=2.71, bound=True),
    ),
    "olympics": (
        Published("RealNVP", *_ARDS_1, nats=1.80),
        Published("two-step RealNVP", *_ARDS_5, nats=1.32, bound=True),
        Published("CIF-RealNVP", *_ARDS_1, nats=1.74),
        Published("MADE-3", *_ARDS_1, nats=1.27),
        Published("MADE-6", *_ARDS_1, nats=0.80),
        Published("two-step, 3 logistics", *_ARDS_1, nats=0.80, bound=True),
    ),
}
"""Unconditional models. The papers do not define their olympics: ours is a reconstruction."""

_NOT_THEIRS = {"olympics"}
"""Data of one name that are not the published ones."""


def published_for(dataset: str) -> tuple[Published, ...]:
    """Returns what was published of the very data of a registered dataset; nothing for others."""
    return () if dataset in _NOT_THEIRS else PUBLISHED.get(dataset, ())


def published_nats(dataset: str, model: str) -> str:
    """Returns a published −log p(x) as a table says it, 'paper ≤ 2.71'; empty if there is none."""
    for found in PUBLISHED.get(dataset, ()):
        if found.model == model and found.nats is not None:
            said = f"paper {'≤ ' * found.bound}{found.nats:.2f}"
            return f"{said}, other data" if dataset in _NOT_THEIRS else said
    return ""
