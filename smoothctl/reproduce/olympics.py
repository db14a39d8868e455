"""Olympics, our reconstruction: two-step against plain MADE (ARDS section 4.2, table 1)."""

from collections.abc import Mapping

from smoothctl.reproduce.base import Claim, Experiment, better
from smoothctl.reproduce.planar import EQUAL, Table, published_models, ten_logistics_claim

__all__ = ["experiment"]

_PUBLISHED = {"MADE-3": "0.80 against 1.27", "MADE-6": "0.80 against 0.80"}


def _claims(figures: Mapping[str, Mapping[str, list[float]]]) -> list[Claim]:
    two_step = "olympics: two-step with 3 logistics", figures["two-step, 3 logistics"]["nats"]
    return [
        *(
            better(*two_step, name, figures[name]["nats"], published=published)
            for name, published in _PUBLISHED.items()
        ),
        ten_logistics_claim("olympics", figures),
    ]


experiment = Experiment(
    "olympics",
    "MADE on olympics, smoothed against plain",
    "ARDS (Meng et al. 2021), section 4.2, table 1; data reconstructed",
    Table("olympics", "olympics", 0.3, published_models(), _claims).run,
    equal=EQUAL,
    paper="ARDS",
    section=4.21,
    minutes=55,
    note="The paper does not define its olympics; ours are a reconstruction, so that these figures "
    "do not compare with the paper's. Ten logistics are not the paper's but the default.",
)
