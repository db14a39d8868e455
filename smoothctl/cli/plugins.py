"""`smoothctl plugins`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from smoothctl.cli import options
from smoothctl.cli.console import print_json

if TYPE_CHECKING:
    from smoothctl.registry.listing import Plugin

__all__ = ["command"]


def command(
    check: Annotated[
        bool,
        typer.Option("--check", help="Import every plugin, each package in a process of its own."),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0.1, help="Seconds that one import may take, with --check."),
    ] = 60.0,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit 1 if any is noisy, duplicate or broken."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List all plugins of all installed packages, and what is wrong with them.

    Without --check no plugin is imported: metadata alone are read.

    built-in: smoothctl's own. not checked: its metadata are in order. ok: it was imported and keeps
    its contract. hidden: SMOOTHCTL_PLUGINS, the comma-separated packages that may be used, does not
    name its package. noisy: it works, but prints when it is imported. duplicate: another package
    declares the same name, so package:name must be written, but of smoothctl's own. broken: it
    cannot be used.
    """
    from smoothctl.registry.listing import list_plugins

    listed = list_plugins(check, timeout)
    print_json([asdict(plugin) for plugin in listed]) if as_json else _print(listed)
    if strict and any(plugin.faulty for plugin in listed):
        raise typer.Exit(1)


def _print(plugins: list["Plugin"]) -> None:
    """Prints a table, and below it what is wrong, on lines that can be copied whole."""
    from smoothctl.reporting.tables import Table, left, print_table, say

    rows = [[f"{p.package} {p.version}", p.group, p.name, p.status.value] for p in plugins]
    print_table(Table("plugins", left("package", "group", "name", "status"), [rows]))
    for p in plugins:
        if p.error:
            say(f"{p.status.value}: {p.package} {p.version}, {p.group} '{p.name}': {p.error}")
