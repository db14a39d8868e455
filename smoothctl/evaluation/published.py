"""Published figures by dataset, each with its source."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published", "published_for"]


@dataclass(frozen=True)
class Published:
    """One model's figures as its source prints them; None where it prints none.

    Args:
        model: its name.
        inception_score: higher is better.
        inception_score_deviation: over splits.
        fid: the Fréchet distance of Inception features; lower is better.
        source: authors, year, table.
        address: where the source can be read.
    """

    model: str
    inception_score: float | None
    inception_score_deviation: float | None
    fid: float | None
    source: str
    address: str


_NCSN = ("Song & Ermon 2019, table 1", "https://arxiv.org/abs/1907.05600")

PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "cifar10": (
        Published("PixelCNN", 4.60, None, 65.93, *_NCSN),
        Published("PixelIQN", 5.29, None, 49.46, *_NCSN),
        Published("EBM", 6.02, None, 40.58, *_NCSN),
        Published("WGAN-GP", 7.86, 0.07, 36.4, *_NCSN),
        Published("MoLM", 7.90, 0.10, 18.9, *_NCSN),
        Published("SNGAN", 8.22, 0.05, 21.7, *_NCSN),
        Published("ProgressiveGAN", 8.80, 0.05, None, *_NCSN),
        Published("NCSN", 8.87, 0.12, 25.32, *_NCSN),
    ),
}
"""Unconditional models, scored with Inception features.

Only figures that were checked against a copy of their source are here: of ARDS's own table 2 none
could be reached.
"""


def published_for(dataset: str) -> tuple[Published, ...]:
    """Returns the published figures of a registered dataset; none for others."""
    return PUBLISHED.get(dataset, ())
