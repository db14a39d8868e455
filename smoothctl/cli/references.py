"""Sets of images on the command line: what is judged, and what it is compared with."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from smoothctl.cli.console import Notes
from smoothctl.cli.targets import data_settings
from smoothctl.errors import SmoothctlError, UsageError

if TYPE_CHECKING:
    from smoothctl.metrics.image_sets import ImageSet

__all__ = ["ReferenceImages", "is_run", "needs_reference", "refuse_options_of_runs"]


@dataclass(frozen=True)
class ReferenceImages:
    """The images to compare with, as the options name them.

    Args:
        text: the value of --reference.
        split: the value of --split.
        data: the values of --data.
        skip_corrupt: the value of --skip-corrupt.
        notes: told what a person should know.
    """

    text: str | None
    split: str | None
    data: list[str] | None
    skip_corrupt: bool
    notes: Notes

    def open(self) -> "ImageSet | None":
        """Opens them; None where none are named.

        Raises:
            UsageError: an unknown name, split or setting, or settings without a reference.
            DataError: fewer than two images, of several sizes, or damaged.
        """
        if self.text is not None:
            return self._open(self.text, self.split, self.data)
        for option, given in (("--split", self.split), ("--data", self.data)):
            if given:
                raise UsageError(f"{option} is of the reference: name one with --reference.")
        return None

    def open_test(self) -> "ImageSet | None":
        """Opens the test images beside a reference of training images; None where none are."""
        if self.text is None or self.split not in (None, "train"):
            return None
        try:
            return self._open(self.text, "test", self.data)
        except UsageError:
            return None

    def open_judged(self, text: str) -> "ImageSet":
        """Opens the images to be judged, all of them.

        Raises:
            UsageError: an unknown name.
            DataError: fewer than two images, of several sizes, or damaged.
        """
        return self._open(text, None, None)

    def _open(self, text: str, split: str | None, data: list[str] | None) -> "ImageSet":
        from smoothctl import datasets
        from smoothctl.metrics.image_sets import open_images

        skip = self.skip_corrupt and datasets.is_local(text)  # of files alone
        return open_images(text, split, data_settings(data, skip), self.notes.note)


def is_run(text: str) -> bool:
    """Returns whether this is a run folder, complete or not, or a model, rather than images."""
    from smoothctl.runs.packaged import is_packaged
    from smoothctl.runs.run import STAGES, Run

    if is_packaged(text):
        return True
    run = Run(Path(text))
    return any(run.stage(name).started or run.stage(name).fitted for name in STAGES)


def needs_reference(target: str) -> SmoothctlError:
    """Returns the error for what is no run, where no reference is named."""
    from smoothctl import datasets
    from smoothctl.runs.packaged import no_run

    if Path(target).exists() or target in datasets.names():
        return UsageError(
            f"{target} is no run folder: name the images to compare with by --reference "
            "NAME_OR_PATH."
        )
    return no_run(target)


def refuse_options_of_runs(context: typer.Context, target: str, names: Iterable[str]) -> None:
    """Checks that no option was given that means nothing for a set of images.

    Args:
        context: of the command.
        target: the images.
        names: the parameters.

    Raises:
        UsageError: one of them was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(p.opts[0] for p in context.command.params if p.name == name)
            raise UsageError(f"{option} is for runs, and {target} is no run folder: leave it out.")
