"""What verbs work on: runs and settings in, files out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothctl.cli.console import Notes, print_json
from smoothctl.cli.endings import Stopped
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.errors import Interrupted, NotAvailable, UsageError
from smoothctl.reporting.tables import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from smoothctl.runs.run import Run, Weights
    from smoothctl.storage.partial import PartialResults

__all__ = [
    "TEST",
    "Target",
    "data_settings",
    "default_name",
    "device_name",
    "given_twice",
    "key_values",
    "note_clipping",
    "open_run",
    "read_input",
    "sampler_settings",
    "stoppable",
]

TEST = "test"
"""The INPUT that means the test examples of the run's dataset."""

_ALL = "all"
"""The mark of work that is done and whose files are being written."""

_MAX_ROWS = 16
_FEW = 8


def key_values(option: str, texts: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    """Reads the values of an option that takes KEY=VALUE.

    Raises:
        UsageError: one has no '='.
    """
    from smoothctl.config import parse_value

    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} takes KEY=VALUE, not '{text}'.")
        yield key, parse_value(value)


def given_twice(key: str) -> UsageError:
    """Returns the error for a setting that two flags give."""
    return UsageError(f"The setting '{key}' is given twice on the command line.")


def data_settings(texts: Sequence[str] | None, skip_corrupt: bool) -> dict[str, Any]:
    """Returns the dataset's settings from the values of --data and from --skip-corrupt.

    Raises:
        UsageError: a --data without '=', or a setting given twice.
    """
    return _each_once("--data", texts, {"skip_corrupt": True} if skip_corrupt else {})


def sampler_settings(texts: Sequence[str] | None, sigma: float | None = None) -> dict[str, Any]:
    """Returns the settings that --set and --sigma give to a verb that draws samples.

    Raises:
        UsageError: a --set without '=', or a setting given twice.
    """
    return _each_once("--set", texts, {} if sigma is None else {"sigma": sigma})


def _each_once(
    option: str, texts: Sequence[str] | None, settings: dict[str, Any]
) -> dict[str, Any]:
    for key, value in key_values(option, texts):
        if key in settings:
            raise given_twice(key)
        settings[key] = value
    return settings


def device_name(device: str) -> str:
    """Returns "cuda" where --device auto finds one, and "cpu" otherwise."""
    import torch

    return "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"


def open_run(
    path: Path | None,
    weights: "Weights",
    device: str,
    notes: Notes,
    sampler: Mapping[str, Any] | None = None,
    dataset: str | None = None,
) -> "Run":
    """Opens a run folder, the newest under runs/ if none is named, and says which."""
    from smoothctl.runs.run import load_run, newest_run

    if path is None:
        path = newest_run()
        notes.note(f"Takes the newest run, {path}.")
    return load_run(path, weights, device_name(device), sampler, dataset, notes.note)


def read_input(
    run: "Run",
    text: str,
    limit: int | None,
    label: int | None,
    keys: tuple[str, ...],
    reach: float,
    seed: int,
) -> tuple["Tensor", "Tensor | int | None"]:
    """Returns the events that INPUT names, (n, *event), and their classes.

    Args:
        run: an opened run.
        text: INPUT.
        limit: the value of -n.
        label: the value of --label, which wins over the dataset's classes.
        keys: arrays to look for in an .npz, the best first.
        reach: largest absolute value of an image's float.
        seed: chooses among the test examples.
    """
    from smoothctl.datasets.pictures import read_events
    from smoothctl.sampling.draw import event_shape

    if text != TEST and any(Path(text).glob("*/config.toml")):
        raise UsageError(f"{text} is a run folder: INPUT comes first, and then the run.")
    if text != TEST:
        return read_events(Path(text), event_shape(run), keys, reach)[:limit], label
    dataset, few = run.dataset(), limit or _FEW
    labels = None if dataset.classes is None else dataset.test.labels(seed, 0, 0, few)
    return dataset.test.batch(seed, 0, 0, few), labels if label is None else label


def default_name(
    run: "Run", *parts: str, seed: int, label: int | None, n: int | None = None
) -> str:
    """Returns the name of an .npz file that tells what is in it.

    Args:
        run: the run that draws; its weights and the settings of its sampler are told.
        parts: what is drawn, and how.
        seed: of the samples.
        label: their class.
        n: how many.
    """
    first, *others = parts
    sampler = [f"{key}={value}".replace("/", "_") for key, value in run.sampler.items()]
    named = [first + "-best" * (run.weights == "best"), *others, *sampler, f"seed{seed}"]
    named += [] if n is None else [str(n)]
    named += [] if label is None else [f"label{label}"]
    return "-".join(named) + ".npz"


@dataclass(frozen=True)
class Target:
    """The files that a verb writes: arrays, a picture beside them, and what is said of them.

    Args:
        path: an .npz file, a .png for the picture alone, or a folder of images.
        replace: whether what is there may be replaced.
        notes: told of a process that ended without a word.
        as_json: print JSON.
    """

    path: Path
    replace: bool
    notes: Notes
    as_json: bool

    @property
    def picture(self) -> Path:
        """The file of the picture."""
        return self.path.with_suffix(".png")

    def check(self, picture_alone: bool, folder: bool = False) -> None:
        """Checks, before any work, that the files may be written; see `check_target`."""
        from smoothctl.sampling.output import check_target

        check_target(self.path, self.replace, picture_alone, folder)

    def kept(self, key: Mapping[str, Any], processes: Processes = ALONE) -> "PartialResults":
        """Returns where work for these files keeps what it has: hidden, beside them.

        Args:
            key: what the work is a function of.
            processes: those that share it.
        """
        from smoothctl.storage.partial import PartialResults

        folder = self.path.with_name(f".{self.path.name}.parts")
        return PartialResults(folder, key, self.notes.note, processes)

    def again(self, kept: "PartialResults", mark: str = _ALL) -> "Target":
        """Returns the target; the same work, which was killed as it wrote, may write it again."""
        return replace(self, replace=self.replace or kept.has(mark))

    @contextmanager
    def writing(self, kept: "PartialResults", mark: str = _ALL) -> Iterator[None]:
        """Marks what is there as this work's until the block has written all of it; see `again`."""
        if not self.replace:
            kept.mark(mark)
        try:
            yield
        except NotAvailable:  # so that nothing was written, nor will be
            kept.done()
            raise
        kept.done()

    @contextmanager
    def held(self, left: Callable[[], str] | None = None) -> Iterator[None]:
        """Holds the files: nobody else writes them in the block.

        What a killed process left half-written is removed.

        Args:
            left: says what is left where a signal stops the block.

        Raises:
            RunError: another process writes them.
            Interrupted: by Ctrl-C or another signal.
        """
        from smoothctl.storage.files import remove
        from smoothctl.storage.locks import hold

        lock = self.path.with_name(f".{self.path.name}.lock")
        with stoppable(left or self.unwritten), hold(lock, str(self.path), self.notes.note):
            for file in {self.path, self.picture}:
                for leftover in file.parent.glob(f".{escape(file.name)}.*.tmp"):
                    remove(leftover)
            yield

    def unwritten(self) -> str:
        """Says that a signal left no files."""
        return f"Stopped before {self.path} was written."

    def save(self, arrays: "Mapping[str, Tensor | None]") -> None:
        """Writes the arrays that are there, unless the picture alone was asked for."""
        from smoothctl.sampling.output import save_arrays

        if self.path != self.picture:
            save_arrays(self.path, arrays)

    @contextmanager
    def painting(self) -> Iterator[None]:
        """Goes on after a block that cannot paint, and notes why, where arrays are written too.

        Raises:
            NotAvailable: the picture alone was asked for.
        """
        try:
            yield
        except NotAvailable as error:
            if self.path == self.picture:
                raise
            self.notes.note(f"Without a picture: {error}")

    def paint(self, figure: "Figure | None") -> Path | None:
        """Writes the picture; returns its file, None where there is no figure."""
        from smoothctl.reporting.figures import save

        if figure is None:
            return None
        save(figure, self.picture)
        return self.picture

    def paint_rows(self, named: "Mapping[str, Tensor | None]") -> Path | None:
        """Writes a picture of one row for each image, one block for each title; none of vectors."""
        from smoothctl.reporting.figures import columns

        shown = {title: images[:_MAX_ROWS] for title, images in named.items() if images is not None}
        if next(iter(shown.values())).ndim < 4:
            return None
        with self.painting():
            return self.paint(columns(shown, across=1))

    def tell(self, result: Mapping[str, Any], picture: Path | None, what: str = "samples") -> None:
        """Prints where the files are.

        Args:
            result: what else JSON says.
            picture: the file of the picture; None where there is none.
            what: the arrays are, in JSON.
        """
        written = None if self.path == self.picture else self.path
        if self.as_json:
            files = {what: written and str(written), "picture": picture and str(picture)}
            print_json({**result, **files})
        else:
            say(*map(str, filter(None, (written, picture))))


def note_clipping(notes: Notes) -> None:
    """Says what a picture of x̃ leaves out."""
    notes.note("Pictures of x̃ are clipped to [−1, 1] for show; an .npz keeps every value.")


@contextmanager
def stoppable(left: Callable[[], str]) -> Iterator[None]:
    """Says what is left where a signal stops the block.

    Args:
        left: returns a sentence.

    Raises:
        Interrupted: by Ctrl-C or another signal.
    """
    try:
        yield
    except Stopped as stop:
        raise Interrupted(left(), stop.signum) from stop
