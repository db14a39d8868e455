"""The command line: one module per verb; errors become one sentence and an exit code."""

import os
import sys
import traceback
from typing import NoReturn

import typer

from smoothctl.cli import (
    compare,
    denoise,
    fit_baseline,
    fit_denoiser,
    fit_joint,
    fit_prior,
    inpaint,
    neighbours,
    plugins,
    quickstart,
    registries,
    report,
    reproduce,
    sample,
    score,
    sigma_heuristic,
)
from smoothctl.cli.options import version_option
from smoothctl.errors import SmoothctlError

__all__ = ["app", "main"]

DEBUG = "SMOOTHCTL_DEBUG"
"""Environment variable: set it to see the traceback of an error."""

app = typer.Typer(
    name="smoothctl",
    help="Generative modelling by distribution smoothing: blur the data, fit a prior to it, "
    "then fit a denoiser that brings sharp samples back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.callback()(version_option)

METHOD, FIGURES, DATA = "The method", "Figures", "What there is"
app.command("quickstart", rich_help_panel="Start here")(quickstart.command)
app.command("fit-prior", rich_help_panel=METHOD)(fit_prior.command)
app.command("fit-denoiser", rich_help_panel=METHOD)(fit_denoiser.command)
app.command("fit-joint", rich_help_panel=METHOD)(fit_joint.command)
app.command("fit-baseline", rich_help_panel=METHOD)(fit_baseline.command)
app.command("sample", rich_help_panel=METHOD)(sample.command)
app.command("denoise", rich_help_panel=METHOD)(denoise.command)
app.command("inpaint", rich_help_panel=METHOD)(inpaint.command)
app.command("sigma-heuristic", rich_help_panel=METHOD)(sigma_heuristic.command)
app.command("score", rich_help_panel=FIGURES)(score.command)
app.command("neighbours", rich_help_panel=FIGURES)(neighbours.command)
app.command("compare", rich_help_panel=FIGURES)(compare.command)
app.command("report", rich_help_panel=FIGURES)(report.command)
app.command("reproduce", rich_help_panel=FIGURES)(reproduce.command)
for group in registries.GROUPS:
    app.add_typer(registries.verbs(group), name=group.plural, rich_help_panel=DATA)
app.command("plugins", rich_help_panel=DATA)(plugins.command)


def main() -> None:
    """Runs the command line; the entry point of the `smoothctl` script."""
    try:
        app()
    except SmoothctlError as error:
        _fail(str(error), error.exit_code, error)
    except KeyboardInterrupt as error:
        _fail("Interrupted.", 130, error)
    except UnicodeEncodeError as error:
        _fail(f"{error.object!r} is not valid text: rename it.", 2, error)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{where}.", 1, error)
    except MemoryError as error:
        _fail("Out of memory; take a smaller model, batch or number of samples.", 1, error)
    except Exception as error:
        if "allocate memory" in str(error) or "out of memory" in str(error):
            _fail("Out of memory; take a smaller model, batch or number of samples.", 1, error)
        _fail(
            f"Internal error, please report it: {type(error).__name__}: {error} "
            f"({DEBUG}=1 shows the traceback).",
            1,
            error,
        )


def _fail(message: str, code: int, error: BaseException) -> NoReturn:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    sys.stderr.write(f"Error: {message}\n")
    sys.exit(code)
