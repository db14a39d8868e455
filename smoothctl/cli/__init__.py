"""The command line: one module per verb; errors become one sentence and an exit code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import typer

from smoothctl.cli import (
    compare,
    datasets,
    denoise,
    fit,
    inpaint,
    neighbours,
    plugins,
    quickstart,
    registries,
    report,
    reproduce,
    runs,
    sample,
    score,
    share,
    sigma_heuristic,
    sweep,
)
from smoothctl.cli.endings import Stopped, by_first, by_one, fail, raised_signals
from smoothctl.cli.options import program
from smoothctl.distributed.processes import check_variables, is_first, leave

__all__ = ["app", "main"]

app = typer.Typer(
    name="smoothctl",
    help="Generative modelling by distribution smoothing: blur the data, fit a prior to it, "
    "then fit a denoiser that brings sharp samples back.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.callback()(program)

METHOD, FIGURES, SHARE, DATA = "The method", "Figures", "To and from others", "What there is"
app.command("quickstart", rich_help_panel="Start here")(by_one(quickstart.command))
app.command("fit-prior", rich_help_panel=METHOD)(fit.verb("prior", fit.Prior))
app.command("fit-denoiser", rich_help_panel=METHOD)(fit.verb("denoiser", fit.Denoiser))
app.command("fit-joint", rich_help_panel=METHOD)(fit.verb("joint", fit.Joint))
app.command("fit-baseline", rich_help_panel=METHOD)(fit.verb("baseline", fit.Baseline))
app.command("sweep", rich_help_panel=METHOD)(by_one(sweep.command))
app.command("sample", rich_help_panel=METHOD)(sample.command)
app.command("denoise", rich_help_panel=METHOD)(by_first(denoise.command))
app.command("inpaint", rich_help_panel=METHOD)(by_first(inpaint.command))
app.command("sigma-heuristic", rich_help_panel=METHOD)(by_first(sigma_heuristic.command))
app.command("score", rich_help_panel=FIGURES)(score.command)
app.command("neighbours", rich_help_panel=FIGURES)(by_first(neighbours.command))
app.command("compare", rich_help_panel=FIGURES)(by_first(compare.command))
app.command("report", rich_help_panel=FIGURES)(by_first(report.command))
app.command("reproduce", rich_help_panel=FIGURES)(by_one(reproduce.command))
app.command("pack", rich_help_panel=SHARE)(by_first(share.pack))
app.command("push", rich_help_panel=SHARE)(by_first(share.push))
app.command("pull", rich_help_panel=SHARE)(by_first(share.pull))
app.add_typer(runs.verbs, name="runs", rich_help_panel=DATA)
for group in registries.GROUPS:
    own = datasets.show if group is registries.DATASETS else None
    app.add_typer(registries.verbs(group, own), name=group.plural, rich_help_panel=DATA)
app.command("plugins", rich_help_panel=DATA)(by_first(plugins.command))


def main() -> None:
    """Runs the command line; the entry point of the `smoothctl` script."""
    try:
        with raised_signals():
            _run()
    except (Exception, Stopped) as error:
        fail(error)
    finally:
        leave()


def _run() -> None:
    """Runs the verb; of several processes of a launch the first alone prints."""
    check_variables()
    with _stdout_of_first():
        code = app(standalone_mode=False)  # which raises wrong options as errors
    sys.stdout.flush()  # here and not later, where nobody could say what went wrong
    sys.exit(code)


@contextmanager
def _stdout_of_first() -> Iterator[None]:
    if is_first():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield
