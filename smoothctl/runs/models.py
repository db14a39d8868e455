"""Models from configurations, and from weights files that others may have made."""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl import architectures
from smoothctl.config import build
from smoothctl.errors import NotAvailable, RunError, SmoothctlError, UsageError
from smoothctl.runs.config import StageConfig, Unit
from smoothctl.storage.weights import read_weights

if TYPE_CHECKING:
    from smoothctl.architectures.base import Density

__all__ = ["build_density", "check_sizes", "load_density", "loss_unit", "take_weights"]

_MOST_LEVELS = 2**16
_SMALL = 2**28
_SPARE = 2**24
"""Numbers that a model may have more than its file."""

_COPIES = 5


def loss_unit(config: StageConfig) -> Unit:
    """Returns what users see a stage's loss in: of a score model, nothing."""
    try:
        return config.unit(architectures.load(config.architecture).loss_in_nats())
    except SmoothctlError:
        return config.unit(in_nats=False)


def build_density(config: StageConfig, options: Any = None) -> "Density":
    """Returns the untrained model that a configuration describes, in its precision.

    Args:
        config: of one stage.
        options: the architecture's `Config`, where the configuration's were read into it already.

    Raises:
        UsageError: it describes no model, or one that could not be trained in this memory.
    """
    options = _options(config) if options is None else options
    shapes = None if _is_small(config) else _shapes(config, options)
    if shapes is not None:
        _check_memory(config, _numbers(shapes))
    return _built(config, options)


def load_density(
    path: str | Path, sampler: Mapping[str, Any] | None = None
) -> "tuple[Density, StageConfig]":
    """Loads one model from its weights file alone, in evaluation mode.

    Nothing is allocated for a model that is much larger than what is in the file. Some shapes may
    differ until the weights are there: those of buffers that were chosen from data.

    Args:
        path: the weights file.
        sampler: settings that change samples alone, chosen anew.

    Raises:
        RunError: missing, truncated, foreign, or weights of another architecture.
    """
    tensors, metadata = read_weights(Path(path))
    config = StageConfig.from_dict(metadata, str(path))
    check_sizes(config, str(path))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        options = _options(config, sampler)
        expected = None if _is_small(config) else _shapes(config, options)
        if expected is not None and _numbers(expected) > _numbers(shapes) + _SPARE:
            raise _unfit(path, _difference(shapes, expected))
        density = _built(config, options)
        density.load_state_dict(tensors)
    except (NotAvailable, UsageError) as error:
        if sampler:
            raise
        raise RunError(f"{path} describes no model: {error}") from error
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise _unfit(path, " ".join(str(error).split())[:300]) from error
    return density.eval().requires_grad_(False), config


def take_weights(density: "Density", path: str | Path) -> None:
    """Gives a model the weights of another one of the same architecture and settings.

    Args:
        density: the model, changed in place.
        path: the other's weights file.

    Raises:
        RunError: missing, damaged or foreign, or it holds other tensors.
    """
    other, config = load_density(path)
    given, wanted = (_shapes_of(model) for model in (other, density))
    if given != wanted:
        raise RunError(
            f"{path} holds a {config.stage} ({config.architecture}) that this stage cannot start "
            f"from: {_difference(given, wanted)}"
        )
    density.load_state_dict(other.state_dict())


def check_sizes(config: StageConfig, where: str) -> None:
    """Checks that the events are of a size that a model may have.

    Raises:
        RunError: no coordinate, more than 2²², or an impossible number of levels.
    """
    from smoothctl.datasets.base import LARGEST_EVENT

    shape = config.event_shape
    if not shape or min(shape) < 1 or math.prod(shape) > LARGEST_EVENT:
        said = "×".join(f"{size:.3g}" for size in shape[:4]) or "nothing"
        raise RunError(
            f"{where} describes events of shape {said}: there must be 1 to {LARGEST_EVENT:,} "
            "coordinates."
        )
    if config.levels is not None and not 2 <= config.levels <= _MOST_LEVELS:
        raise RunError(
            f"{where} describes {config.levels:.3g} levels: there must be 2 to {_MOST_LEVELS:,}."
        )


def _options(config: StageConfig, sampler: Mapping[str, Any] | None = None) -> Any:
    """Returns the architecture's `Config`, with those of the sampler's settings that it has."""
    cls, chosen = architectures.load(config.architecture), dict(sampler or {})
    chosen = {key: chosen[key] for key in cls.sampler_settings & chosen.keys()}
    return build(cls.Config, {**config.options, **chosen}, config.architecture)


def _built(config: StageConfig, options: Any) -> "Density":
    import torch

    cls = architectures.load(config.architecture)
    if config.stage == "joint":
        density = cls.joint(config.event_shape, options)
    else:
        context = config.event_shape if config.stage == "denoiser" else None
        levels = config.levels if config.stage in ("denoiser", "baseline") else None
        density = _denoiser_of_steps(cls, config, options) or cls(
            config.event_shape, context, levels, options
        )
    return density.to(torch.float64 if config.precision == "float64" else torch.float32)


def _denoiser_of_steps(cls: "type[Density]", config: StageConfig, options: Any) -> "Density | None":
    """Returns the cascade that a denoiser's settings describe; None where it has one step."""
    import torch

    from smoothctl.smoothing.cascade import Cascade, ImageCascade

    if config.stage != "denoiser" or config.sigma is None or not getattr(options, "sigmas", ()):
        return None
    sigmas, shape, levels = options.sigmas_below(config.sigma), config.event_shape, config.levels
    network = cls(shape, shape, levels, replace(options, lowest_sigma=sigmas[0], sigmas=()))
    scale = None if config.scale is None else torch.tensor(config.scale, dtype=torch.float64)
    kind = ImageCascade if network.domain == "image" else Cascade
    return kind(network, (*sigmas, config.sigma), scale)


def _shapes(config: StageConfig, options: Any) -> dict[str, tuple[int, ...]] | None:
    """Returns the shapes of a model's tensors by name, found without memory for them.

    Returns:
        None for an architecture that cannot be built without memory.

    Raises:
        UsageError: the configuration describes no model.
    """
    import torch

    try:
        with torch.device("meta"):
            density = _built(config, options)
    except (RuntimeError, TypeError, ValueError, ArithmeticError):
        return None
    return _shapes_of(density)


def _shapes_of(density: "Density") -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in density.state_dict().items()}


def _check_memory(config: StageConfig, parameters: int) -> None:
    """Checks that weights, their gradients, Adam's two moments and the average fit into memory.

    Where there is a GPU they are there, and the machine holds the weights alone.

    Raises:
        UsageError: they do not.
    """
    import torch

    copies = 1 if torch.cuda.is_available() else _COPIES
    needed = copies * parameters * (8 if config.precision == "float64" else 4)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UsageError(
            f"This {config.architecture} has {parameters:,} parameters: training it takes "
            f"{needed / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f} GiB; choose a "
            "smaller one."
        )


def _numbers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _difference(
    given: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> str:
    """Returns the first tensor that differs, and how."""
    name = next(n for n in sorted({*given, *expected}) if given.get(n) != expected.get(n))
    have, want = (
        "no such tensor" if shape is None else f"shape {'×'.join(map(str, shape)) or 'of a number'}"
        for shape in (given.get(name), expected.get(name))
    )
    return f"{name:.80} is given as {have} and described as {want}."


def _unfit(path: str | Path, reason: str) -> RunError:
    return RunError(f"{path} does not fit its own configuration: {reason}")


def _is_small(config: StageConfig) -> bool:
    """Returns whether the settings are too small to describe a model that memory cannot hold.

    Finding the shapes takes torch a second, most of it to get ready.
    """
    numbers = [*config.event_shape, *(config.options.values())]
    sizes = [abs(number) for number in numbers if type(number) is int]
    plain = all(isinstance(number, int | float | str) or number == [] for number in numbers)
    return plain and math.prod(size for size in sizes if size) ** 2 < _SMALL
