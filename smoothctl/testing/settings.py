"""Settings at their extremes: whatever a person types ends in a sentence or in a finite loss."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor

from smoothctl.architectures.base import Density, Shape
from smoothctl.config import build
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.kernels.gaussian import Gaussian
from smoothctl.rng import generator

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["check_any_settings"]

_STAGES = ("prior", "denoiser", "baseline", "joint")
_INTEGERS = [-1, 0, 1, 2, 3, 8, 50, 1000, 10**5, 10**9, 2**63, 10**40]
_FLOATS = [-1e300, -50.0, -1.0, 0.0, 1e-300, 1e-8, 0.5, 1.0, 3.0, 50.0, 1e8, 1e38, 1e300]
_NUMBERS = 2**17
"""Parameters and the like of the largest model that is made: a larger one is only sized."""

_SHORT = 64
"""The largest whole number of a setting that samples are drawn with: it may count their steps."""


def check_any_settings(
    density_class: type[Density], options: Mapping[str, Any], shape: Shape, examples: int
) -> None:
    """Checks an architecture at settings that hypothesis chooses, extremes among them.

    A model of each kind that it can be is made, initialised, given one loss and two samples:
    either somebody is told in a sentence why not, or all of it is finite.

    Args:
        density_class: the architecture.
        options: small ones, of which each example changes some.
        shape: of the events.
        examples: how many to try.
    """
    pytest.importorskip("hypothesis")
    from hypothesis import HealthCheck, given
    from hypothesis import settings as how
    from hypothesis import strategies as some

    @how(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        chosen=_changes(density_class.Config),
        stage=some.sampled_from(_STAGES),
        sigma=some.sampled_from([1e-3, 0.3, 10.0]),
    )
    def check(chosen: dict[str, Any], stage: str, sigma: float) -> None:
        try:
            config = build(density_class.Config, {**options, **chosen}, "the settings")
            found = _tried(density_class, config, stage, shape, sigma)
        except (UsageError, NotAvailable) as said:
            if len(str(said)) < 20:
                raise
            return
        assert all(tensor.isfinite().all() for tensor in found), (stage, chosen, found)

    check()


def _changes(config: type) -> "SearchStrategy[dict[str, Any]]":
    """Returns a strategy of a few settings, right and wrong ones."""
    from hypothesis import strategies as some

    hints = get_type_hints(config)
    names = [field.name for field in fields(config)]
    if not names:
        return some.just({})
    one = some.sampled_from(names).flatmap(
        lambda name: some.tuples(some.just(name), _values(hints[name]))
    )
    return some.lists(one, max_size=4).map(dict)


def _values(kind: Any) -> "SearchStrategy[Any]":
    """Returns a strategy of values of a type, right and wrong ones."""
    from hypothesis import strategies as some

    if get_origin(kind) is Literal:
        return some.sampled_from([*get_args(kind), "neither", 1])
    integers, floats = some.sampled_from(_INTEGERS), some.sampled_from(_FLOATS)
    if kind is bool:
        return some.booleans()
    if kind is int:
        return some.one_of(integers, some.integers(1, 12))
    if kind is float:
        return some.one_of(floats, some.floats(), some.floats(0, 1))
    numbers = some.one_of(integers, floats, some.text(max_size=3))
    return some.one_of(numbers, some.lists(numbers, max_size=3))


def _tried(cls: type[Density], config: Any, stage: str, shape: Shape, sigma: float) -> list[Tensor]:
    """Returns losses and samples of a stage; nothing of one that is too large to be made here."""
    levels = 256 if cls.domain == "image" and stage in ("denoiser", "baseline") else None

    def made() -> Density:
        if stage == "joint":
            return cls.joint(shape, config)
        return cls(shape, shape if stage == "denoiser" else None, levels, config)

    if _size(made) > _NUMBERS:
        return []
    torch.manual_seed(0)
    density = made()
    density = density.at(max(sigma, density.lowest_sigma))
    x = _data(shape, levels)
    x_smooth, draws = Gaussian(sigma).sample(x, generator("smoothed")), generator("loss")
    context = x_smooth if stage == "denoiser" else None
    if stage == "prior":
        density.initialize_prior(x, x_smooth, sigma)
        loss = density.prior_loss(x, x_smooth, sigma, None, draws)
    else:
        x = torch.cat([x_smooth, x], dim=1) if stage == "joint" else x
        density.initialize(x, context)
        loss = density.training_loss(x, context, None, draws)
    if any(type(number) is int and number > _SHORT for number in vars(config).values()):
        return [loss]
    given = None if context is None else context[:2]
    return [loss, density.eval().sample(2, given, None, generator("samples"))]


def _size(made: Any) -> int:
    """Returns how many numbers a model holds; 0 of one that cannot be made without memory."""
    try:
        with torch.device("meta"):
            return sum(tensor.numel() for tensor in made().state_dict().values())
    except (RuntimeError, TypeError, ValueError, ArithmeticError):
        return 0


def _data(shape: Shape, levels: int | None) -> Tensor:
    """Returns a few examples, on a grid of levels where there are any."""
    x = 0.5 * torch.randn(32, *shape, generator=generator("data"))
    if levels is None:
        return x
    return ((x.clamp(-1, 1) + 1) * (levels - 1) / 2).round() * 2 / (levels - 1) - 1
