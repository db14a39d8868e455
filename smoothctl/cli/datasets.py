"""`smoothctl datasets show`: a registered dataset, or a user's own before anything is fitted."""

import shlex
from typing import Annotated, Any

import typer

from smoothctl.cli import completion, options
from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.registries import DATASETS, print_details, show_entry
from smoothctl.cli.targets import data_settings
from smoothctl.errors import UsageError

__all__ = ["show"]

_EXAMPLES = 10_000
"""Of which the range of values is told."""


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|PATH",
            help="Registered, or your own data.",
            autocompletion=completion.datasets,
        ),
    ],
    data: options.DataSettings = None,
    skip_corrupt: options.SkipCorrupt = False,
    as_json: options.Json = False,
) -> None:
    """Show one: where it comes from, what it is, and its settings.

    Your own data, named as for --dataset, are opened: how many examples there are, of what shape
    and range, what the heuristic's sigma is, and how long a fit of the prior would take.
    """
    from smoothctl import datasets

    if not datasets.is_local(name):
        if data or skip_corrupt:
            raise UsageError(f"{name} is shown as it is registered: leave --data out.")
        show_entry(DATASETS, name, as_json)
        return
    facts = _own(name, data_settings(data, skip_corrupt))
    if as_json:
        print_json(facts)
    else:
        print_details({key: value for key, value in facts.items() if value is not None})


def _own(path: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what there is to know of a user's data."""
    from smoothctl.reporting.tables import duration
    from smoothctl.training.fit import FitSettings
    from smoothctl.training.rehearsal import seconds_a_step
    from smoothctl.training.settings import resolve

    plan = resolve("prior", FitSettings(dataset=path, data=settings), Notes())
    dataset, config = plan.dataset, plan.config
    views = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    values = dataset.train.head(_EXAMPLES)
    seconds, training = seconds_a_step(plan), config.training
    chosen = [word for key, value in settings.items() for word in ("--data", f"{key}={value}")]
    return {
        "data": path,
        "domain": dataset.domain,
        "event shape": list(dataset.event_shape),
        "examples": {split: len(view) for split, view in views.items()},
        "classes": dataset.classes,
        "levels": dataset.levels,
        "values from, to": [float(values.min()), float(values.max())],
        "sigma by the heuristic": config.sigma,
        "unit of sigma": None if config.scale is None else "each column's spread",
        "a fit of the prior": f"{config.architecture}, {training.steps:,} steps of "
        f"{training.batch_size} examples",
        "seconds a step here": round(seconds, 4),
        "the whole fit": f"about {duration(seconds * training.steps)}",
        "command": shlex.join(["smoothctl", "fit-prior", "--dataset", path, *chosen]),
    }
