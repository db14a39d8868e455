"""`smoothctl kernels | architectures | datasets | features | models`, each with list and show."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from smoothctl.cli import completion, options
from smoothctl.cli.console import print_json
from smoothctl.cli.endings import by_first
from smoothctl.registry.groups import REGISTRIES
from smoothctl.registry.registry import Registry, printable
from smoothctl.registry.summaries import describe, summary_of

__all__ = [
    "DATASETS",
    "GROUPS",
    "Group",
    "print_details",
    "print_rows",
    "rows_of",
    "show_entry",
    "verbs",
]


@dataclass(frozen=True)
class Group:
    """One registry on the command line.

    Args:
        plural: the command and, after "smoothctl.", the entry-point group: "kernels".
        details: returns what `show` says beyond the summary, from the loaded class.
        option: how its settings are given.
    """

    plural: str
    details: Callable[[type], dict[str, Any]]
    option: str = "--set"

    @property
    def registry(self) -> Registry[Any]:
        """Its registry."""
        return REGISTRIES[f"smoothctl.{self.plural}"]


def _kernel_details(cls: type) -> dict[str, Any]:
    kernel = cls(1.0)
    reason = kernel.exact_density_only
    return {
        "entropy at sigma 1 (nats per dimension)": round(kernel.entropy_per_dimension(), 4),
        "single-step denoising": f"exact densities only: {reason}" if reason else "yes",
    }


def _architecture_details(cls: Any) -> dict[str, Any]:
    from smoothctl.config import settings_of

    sampler = sorted(cls.sampler_settings)
    return {
        "domain": cls.domain,
        "likelihood": _likelihood(cls),
        "may be": "prior, denoiser or baseline" if cls.conditional else "prior or baseline",
        **({"sigma of a prior": cls.suggested_sigma} if cls.suggested_sigma else {}),
        "training defaults": dict(cls.training_defaults),
        **{f"--preset {name}": dict(values) for name, values in cls.presets.items()},
        **({"for sample --set": ", ".join(sampler)} if sampler else {}),
        "settings": settings_of(cls.Config),
    }


def _likelihood(cls: Any) -> str:
    if cls.tractable:
        return "tractable"
    return "bounded" if cls.bounded else "not available"


def _dataset_details(cls: Any) -> dict[str, Any]:
    """Says what is known without opening images, which may have to be downloaded."""
    from smoothctl.config import settings_of

    if cls.domain == "image":
        defaults = getattr(cls, "defaults", {})
        settings = [] if cls.Config is None else settings_of(cls.Config)
        details = {
            "classes": cls.classes,
            "settings": [s | {"default": defaults.get(s["name"], s["default"])} for s in settings],
        }
        dataset = cls
    else:
        dataset = cls()
        details = {"true entropy (nats)": _entropy(dataset)}
    shape = getattr(dataset, "event_shape", None)
    return {
        "domain": dataset.domain,
        "event shape": None if shape is None else list(shape),
        "levels": dataset.levels,
        "suggested sigma": dataset.suggested_sigma,
        "source": dataset.source,
        "licence": dataset.licence,
        **details,
    }


def _entropy(dataset: Any) -> float | None:
    from smoothctl.errors import NotAvailable

    try:
        return round(float(dataset.true_entropy()), 4)
    except NotAvailable:
        return None


def _model_details(model: Any) -> dict[str, Any]:
    from smoothctl.runs.commands import fit_command
    from smoothctl.runs.run import Run

    run, out = Run(model.folder), Path("runs") / model.folder.name
    configs = run.configs()
    commands = {
        f"{name} by": shlex.join(fit_command(config, out, configs.get("prior")))
        for name, config in configs.items()
    }
    return {
        "data": run.config().dataset,
        "event shape": list(run.config().event_shape),
        "stages": ", ".join(f"{name} ({config.architecture})" for name, config in configs.items()),
        "licence": printable(model.licence, 300),
        **commands,
        "card": str(model.folder / "README.md"),
    }


def _features_details(cls: Any) -> dict[str, Any]:
    return {
        "preprocessing": cls.preprocessing,
        "weights file": "--feature-weights" if cls.takes_weights else None,
    }


DATASETS = Group("datasets", _dataset_details, "--data")
GROUPS = (
    Group("architectures", _architecture_details),
    Group("kernels", _kernel_details),
    DATASETS,
    Group("features", _features_details),
    Group("models", _model_details),
)


def verbs(group: Group, show: Callable[..., None] | None = None) -> typer.Typer:
    """Returns the sub-commands `list` and `show NAME` of one registry.

    Args:
        group: the registry's.
        show: the second one, where it has options of its own.
    """
    app = typer.Typer(help=f"List the {group.plural}, or show one.", no_args_is_help=True)

    @app.command("list")
    @by_first
    def list_(as_json: options.Json = False) -> None:
        """List every installed one, its package and what it is."""
        rows = rows_of(group.registry)
        print_json(rows) if as_json else print_rows(group.plural, rows)

    def show_(
        name: Annotated[
            str,
            typer.Argument(
                help="Its name, or package:name.", autocompletion=completion.names(group.plural)
            ),
        ],
        as_json: options.Json = False,
    ) -> None:
        """Show one: where it comes from, what it is, and its settings."""
        show_entry(group, name, as_json)

    app.command("show")(by_first(show or show_))
    return app


def show_entry(group: Group, name: str, as_json: bool) -> None:
    """Prints what is known of one entry of a registry, before anything of it is used."""
    entry = group.registry.find(name)
    cls = group.registry.load_entry(entry)
    result = {
        "name": entry.name,
        "package": f"{printable(entry.package)} {printable(entry.version)}",
        "summary": summary_of(cls),
        **group.details(cls),
    }
    print_json(result) if as_json else print_details(result, group.option)


def rows_of(registry: Registry[Any]) -> list[dict[str, str | None]]:
    """Returns name, package, version and summary of every entry; of a broken one its error."""
    return [
        {
            "name": printable(found.entry.name),
            "package": printable(found.entry.package),
            "version": printable(found.entry.version),
            "summary": found.summary,
            "error": found.error,
        }
        for found in describe(registry)
    ]


def print_rows(title: str, rows: list[dict[str, str | None]]) -> None:
    """Prints what `rows_of` returned as a table."""
    from smoothctl.reporting.tables import Table, left, print_table

    cells = [
        [
            str(row["name"]),
            f"{row['package']} {row['version']}",
            str(row["summary"]) if row["error"] is None else f"broken: {row['error']}",
        ]
        for row in rows
    ]
    print_table(Table(title, left("name", "package", "what it is"), [cells]))


def print_details(result: dict[str, Any], option: str = "") -> None:
    """Prints facts in two columns, and settings in a table below.

    Args:
        result: what is known; "settings" is taken out of it.
        option: how settings are given.
    """
    from smoothctl.reporting.tables import Table, left, print_table

    settings = result.pop("settings", None)
    rows = []
    for key, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name}={item}" for name, item in value.items()) or "general ones"
        rows.append([key, "none" if value is None else str(value)])
    print_table(Table("", left("", ""), [rows]))
    if settings:
        cells = [[s["name"], s["type"], str(s["default"]), s["description"]] for s in settings]
        columns = left("key", "type", "default", "what it is")
        print_table(Table(f"settings ({option} KEY=VALUE)", columns, [cells]))
