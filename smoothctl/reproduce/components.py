"""Fewer logistics with smoothing against more without, on rings (ARDS figure 12)."""

from collections.abc import Mapping

from smoothctl.reproduce.base import Claim, Experiment, better
from smoothctl.reproduce.planar import EQUAL, MADE, Table, TwoStep

__all__ = ["experiment"]

_PLAIN = {5: MADE(5, 127, 2.0), 6: MADE(6, 126, 2.0), 7: MADE(7, 124, 2.0)}
_SMOOTHED = {2: TwoStep(2, 40, 123), 3: TwoStep(3, 40, 122), 4: TwoStep(4, 40, 120)}


def _claims(figures: Mapping[str, Mapping[str, list[float]]]) -> list[Claim]:
    return [
        better(
            *(f"rings: two-step, {few} logistics", figures[f"two-step, {few} logistics"]["nats"]),
            *(f"MADE-{many}", figures[f"MADE-{many}"]["nats"]),
            published="figure 12",
        )
        for few, many in zip(_SMOOTHED, _PLAIN, strict=True)
    ]


experiment = Experiment(
    "components",
    "two-step MADE of 2, 3 and 4 logistics against plain MADE of 5, 6 and 7, on rings",
    "ARDS (Meng et al. 2021), figure 12",
    Table(
        "components",
        "rings",
        0.3,
        {
            **{f"MADE-{n}": model for n, model in _PLAIN.items()},
            **{f"two-step, {n} logistics": model for n, model in _SMOOTHED.items()},
        },
        _claims,
    ).run,
    equal=EQUAL,
    paper="ARDS",
    section=12.0,
    minutes=65,
)
