"""The verbs of the command line as Python functions: `fit`, `load`, `evaluate`, and a `Run`'s own.

Densities are in nats where nothing else is said, and −log p is given: lower is better. Images span
−1 to 1, (n, C, H, W); vectors are in the units of their data, (n, D).
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from smoothctl.cli.console import Notes
from smoothctl.datasets.pictures import read_columns, read_mask
from smoothctl.errors import UsageError
from smoothctl.evaluation.compare import of_records
from smoothctl.evaluation.image_quality import ImageComparison, Quality, score_images
from smoothctl.evaluation.records import append_scores, plain
from smoothctl.evaluation.scores import Bound, Scores, effort_for, score_run
from smoothctl.metrics.image_sets import ImageSet, of_array, open_images
from smoothctl.reporting.page import write_report
from smoothctl.reporting.scores import print_quality, print_scores
from smoothctl.runs import run as folders
from smoothctl.runs.config import Precision
from smoothctl.runs.run import Weights, load_run
from smoothctl.sampling import inpainting
from smoothctl.sampling.draw import (
    Samples,
    best_method,
    draw,
    draw_all,
    event_shape,
    is_image_run,
    shown_methods,
)
from smoothctl.sampling.inpainting import Denoised, Inpainted
from smoothctl.sharing.hub import pull
from smoothctl.sharing.pack import pack, unpack
from smoothctl.smoothing.annealing import Annealing
from smoothctl.smoothing.batching import Execution
from smoothctl.training.fit import FitSettings, fit_stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["Judged", "Run", "Scored", "evaluate", "fit", "load"]

_SAMPLES, _IMAGES = 5000, 64


@dataclass(frozen=True)
class Run(folders.Run):
    """A run folder with what the command line does with it; see `runs.run.Run` for the rest."""

    def sample(
        self,
        n: int | None = None,
        method: str | None = None,
        seed: int = 0,
        label: int | None = None,
        batch_size: int | None = None,
        quiet: bool = False,
    ) -> Samples:
        """Draws samples, as `smoothctl sample` does.

        Args:
            n: how many; 5000, or 64 images, if None.
            method: "two-step", "single-step", "smoothed" or "baseline"; the best if None.
            seed: determines them; the same seed gives all methods the same x̃.
            label: the class to draw, of class-conditional models.
            batch_size: drawn at once, which does not change them; None: what memory allows.
            quiet: no progress bar.

        Returns:
            samples (n, *event), the x̃ that they come from, and their classes.

        Raises:
            UsageError: an unknown method or class.
            RunError: the run lacks a stage that the method needs.
            NotAvailable: the kernel has no usable posterior mean.
        """
        number = n or (_IMAGES if is_image_run(self) else _SAMPLES)
        method = method or best_method(self)
        with _execution(method, batch_size, quiet) as execution:
            return draw(self, method, number, seed, label, execution)

    def picture(self, n: int | None = None, seed: int = 0, quiet: bool = False) -> "Figure":
        """Draws samples by all methods from the same x̃, side by side (ARDS figure 6).

        Args:
            n: of each method; 5000, or 64 images, if None.
            seed: determines them.
            quiet: no progress bar.

        Raises:
            UsageError: data of more than two dimensions that are no images.
        """
        from smoothctl.reporting.figures import comparison

        images = is_image_run(self)
        methods = shown_methods(self, {})
        with _execution("samples", None, quiet) as execution:
            drawn = draw_all(
                self, methods, n or (_IMAGES if images else _SAMPLES), seed, None, execution
            )
        named: dict[str, Tensor] = {method: drawn[method].samples for method in methods}
        figure = comparison(named, None if images else self.dataset())
        if figure is None:
            raise UsageError(f"{self.path} models vectors of more than two dimensions: no picture.")
        return figure

    def denoise(
        self,
        x: Tensor | np.ndarray,
        draws: int = 4,
        add_noise: bool = False,
        seed: int = 0,
        labels: Tensor | int | None = None,
        batch_size: int | None = None,
        quiet: bool = False,
    ) -> Denoised:
        """Draws from p(x|x̃), as `smoothctl denoise` does.

        Args:
            x: noisy events x̃, (n, *event), never clipped; or clean ones.
            draws: how many for each.
            add_noise: they are clean: smooth them by the run's kernel first.
            seed: determines noise and draws.
            labels: classes, (n,), or one for all, of class-conditional models.
            batch_size: drawn at once, which does not change them.
            quiet: no progress bar.

        Returns:
            smoothed and single_step (n, *event), samples (n, draws, *event).

        Raises:
            UsageError: fewer than one draw.
            RunError: a stage is missing or half done.
        """
        x_smooth = torch.as_tensor(x)
        if add_noise:
            x_smooth = inpainting.smooth(self, x_smooth, seed)
        with _execution("denoise", batch_size, quiet) as execution:
            return inpainting.denoise(self, x_smooth, draws, seed, labels, execution)

    def inpaint(
        self,
        x: Tensor | np.ndarray,
        mask: str | Tensor | None = None,
        draws: int = 4,
        method: str | None = None,
        seed: int = 0,
        labels: Tensor | int | None = None,
        batch_size: int | None = None,
        quiet: bool = False,
        candidates: int | None = None,
    ) -> Inpainted:
        """Draws what is missing, as `smoothctl inpaint` does; what is known stays exactly.

        Args:
            x: clean events, (n, *event).
            mask: what is missing, as the command line names it ("bottom-half", "1,2"); or a bool
                tensor of what is known, (1 or n, 1, H, W) or (1 or n, D). None: the last half.
            draws: how many for each.
            method: "two-step", "single-step" or "baseline"; the best if None.
            seed: determines the draws.
            labels: classes, (n,), or one for all, of class-conditional models.
            batch_size: drawn at once, which does not change them.
            quiet: no progress bar.
            candidates: completions that each draw is chosen from, by how likely they make all that
                is known; 8, or 1 where the model cannot weigh them, if None.

        Returns:
            images (n, *event), known, and samples (n, draws, *event).

        Raises:
            UsageError: an unknown method or mask, or fewer than one draw or candidate.
            RunError: a stage that the method needs is missing or half done.
            NotAvailable: the architecture cannot inpaint, or not weigh candidates.
        """
        images = is_image_run(self)
        mask = ("bottom-half" if images else "last-half") if mask is None else mask
        if isinstance(mask, str):
            mask = (read_mask if images else read_columns)(mask, event_shape(self))
        with _execution("inpaint", batch_size, quiet) as execution:
            return inpainting.inpaint(
                self, torch.as_tensor(x), mask, draws, method, seed, labels, execution, candidates
            )

    def score(
        self,
        limit: int | None = None,
        draws: tuple[int, ...] | int | None = None,
        samples: int | None = None,
        quadrature: int | None = None,
        bound: Bound = "weighted",
        annealing: Annealing | None = None,
        seed: int = 0,
        quiet: bool = False,
    ) -> "Scored":
        """Scores every complete stage, as `smoothctl score` does, and adds to scores.json.

        Args:
            limit: test examples, the first ones; 0: all.
            draws: K of the importance-weighted bounds.
            samples: to draw and judge; 0: none.
            quadrature: examples of the exact likelihood in 1-d and 2-d; 0: none.
            bound: the tightest of two-step models: "weighted" alone; "ais", too; or "sandwich",
                that and both sides of −log p of the model's own samples.
            annealing: how much work "ais" and "sandwich" are.
            seed: of all that is random.
            quiet: no progress bar and no notes.

        Raises:
            UsageError: numbers that make no sense.
            RunError: a stage is damaged, or scores.json cannot be written.
            DataError: the data cannot be opened.
        """
        notes = Notes(quiet)
        effort = effort_for(self, limit, draws, samples, quadrature, bound, annealing)
        with notes.work() as progress:
            scores = score_run(self, effort, seed, progress=progress, note=notes.note)
        append_scores(self.path, scores.to_dict())
        return Scored(scores)

    def report(self, path: str | Path | None = None, seed: int = 0, quiet: bool = False) -> Path:
        """Writes one HTML page with all that belongs to the run, as `smoothctl report` does.

        Args:
            path: an .html file; report.html in the run if None.
            seed: of the samples.
            quiet: no progress bar and no notes.

        Returns:
            The file.

        Raises:
            RunError: it cannot be written.
        """
        notes, file = Notes(quiet), self.path / "report.html" if path is None else Path(path)
        with notes.work() as progress:
            write_report(self, file, seed=seed, progress=progress("samples"), note=notes.note)
        return file

    def pack(self, out: str | Path, licence: str | None = None, half: bool = False) -> Path:
        """Makes one folder or .zip file of the run, to be given to others; see `sharing.pack`."""
        return pack(self, Path(out), licence, half)


class _Shown:
    """A result that a person reads as the command line prints it, in a notebook, too."""

    def __repr__(self) -> str:
        return str(self)

    def _printed(self, show: Callable[[Mapping[str, Any]], None], record: Mapping[str, Any]) -> str:
        text = io.StringIO()
        with redirect_stdout(text):
            show(record)
        return text.getvalue().rstrip()


@dataclass(frozen=True, repr=False)
class Scored(_Shown):
    """The figures of a run; prints as a table.

    Args:
        scores: all of them, typed.
    """

    scores: Scores

    def __str__(self) -> str:
        return self._printed(print_scores, self.scores.to_dict())

    def to_pandas(self) -> "DataFrame":
        """Returns a row for each model and floor, a column for each figure and each error.

        −log p in nats, or bits/dim of images (of two-step models a bound); shares in percent.
        """
        import pandas as pd

        rows: dict[str, dict[str, float]] = {}
        for row in of_records([self.scores.to_dict()]).rows:
            cells = rows.setdefault(row.model, {})
            for key, cell in row.cells.items():
                cells[key] = cell.value
                if cell.error is not None:
                    cells[f"{key}_error"] = cell.error
        return pd.DataFrame.from_dict(rows, orient="index")


@dataclass(frozen=True, repr=False)
class Judged(_Shown):
    """How near sets of images are to a reference; prints as a table.

    Args:
        quality: all figures, typed.
    """

    quality: Quality

    def __str__(self) -> str:
        return self._printed(print_quality, plain(self.quality))

    def to_pandas(self) -> "DataFrame":
        """Returns a row for each set, a column for each figure of `QualityRow`."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.quality.rows]).set_index("samples")


def fit(
    dataset: str | Path | None = None,
    out: str | Path | None = None,
    *,
    architecture: str | None = None,
    kernel: str | None = None,
    sigma: float | None = None,
    steps: int | None = None,
    baseline: bool = False,
    seed: int = 0,
    precision: Precision = "float32",
    device: str = "auto",
    preset: str | None = None,
    data: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Run:
    """Fits a prior and its denoiser, and goes on with what was begun, as the fit verbs do.

    Args:
        dataset: registered name, path, or id on the Hugging Face hub; rings if None.
        out: run folder; runs/DATASET-ARCHITECTURE if None.
        architecture: registered name; MADE for vectors and PixelCNN++ for images if None.
        kernel: registered name; gaussian if None.
        sigma: standard deviation of the smoothing, in data units; suggested if None.
        steps: of each stage.
        baseline: fit a plain density of the same data, too, to compare with.
        seed: determines everything that is random.
        precision: "float32", "float64", or "bf16" mixed precision.
        device: "auto" or "cpu".
        preset: named settings of the architecture.
        data: settings of the dataset.
        options: settings of the architecture, in each stage.
        training: settings of training (`TrainingConfig`), of each stage.
        quiet: no notes and no progress bar.

    Returns:
        The run, with complete stages.

    Raises:
        UsageError: an unknown name or setting, or values that do not go together.
        DataError: the data cannot be opened.
        RunError: the folder holds stages of other settings.
        TrainingError: a loss or gradient is not finite.
    """
    notes = Notes(quiet)
    training = {**(training or {}), **({} if steps is None else {"steps": steps})}
    plain = FitSettings(
        dataset=None if dataset is None else str(dataset),
        architecture=architecture,
        out=out,
        seed=seed,
        precision=precision,
        device=device,
        preset=preset,
        data=data or {},
        options=options or {},
        training=training,
    )
    folder = fit_stage("prior", replace(plain, kernel=kernel, sigma=sigma), notes).run.path
    fit_stage("denoiser", replace(plain, out=folder, architecture=None, preset=None), notes)
    if baseline:
        fit_stage("baseline", replace(plain, out=folder), notes)
    return Run(folder)


def load(
    source: str | Path,
    weights: Weights = "last",
    device: str = "cpu",
    sampler: Mapping[str, Any] | None = None,
    dataset: str | None = None,
    out: str | Path | None = None,
) -> Run:
    """Opens a run, wherever it is; nothing in it can run code.

    Args:
        source: a run folder, the name of an installed model, a .zip file or folder that `pack`
            wrote, or owner/name on the Hugging Face hub.
        weights: "last", the averaged weights at the end, or "best", of the lowest validation loss.
        device: where the models go.
        sampler: settings that change samples alone.
        dataset: where its data are, if they are needed and not where they were.
        out: the run folder that a file or a model of the hub is put into; runs/NAME if None.

    Raises:
        RunError: it is none of these, or damaged.
        DataError: the hub cannot be reached, or has no such model.
    """
    path, target = Path(source), None if out is None else Path(out)
    if path.is_file():
        path = unpack(path, target)
    elif str(source).count("/") == 1 and not path.exists():
        path = pull(str(source), target)
    opened = load_run(path, weights, device, sampler, dataset, Notes().note)
    return Run(opened.path, weights, device, opened.sampler, dataset)


def evaluate(
    images: str | Path | Tensor | np.ndarray | Samples,
    reference: str | Path | Tensor | np.ndarray,
    features: str | None = None,
    test: str | Path | Tensor | np.ndarray | None = None,
    seed: int = 0,
    device: str = "cpu",
    quiet: bool = False,
) -> Judged:
    """Judges a set of images against a reference, as `smoothctl score IMAGES --reference` does.

    Args:
        images: a folder or file of images, a registered dataset, an array (n, C, H, W) of bytes or
            of numbers in [−1, 1], or samples.
        reference: what they should be like, as `images`; of a dataset its training split.
        features: a registered extractor; the best that can be had if None.
        test: images that no model was fitted to, for the figures of memorisation.
        seed: of the subsets of the kernel distance.
        device: where the features are computed.
        quiet: no progress bar and no notes.

    Raises:
        UsageError: an unknown name.
        DataError: fewer than two images, or of another shape than the reference.
        NotAvailable: the named features cannot be had.
    """
    notes = Notes(quiet)
    judged = _images("images", images.samples if isinstance(images, Samples) else images, notes)
    about = _images("reference", reference, notes)
    fresh = None if test is None else _images("test", test, notes)
    by = ImageComparison(features, about).extractor(about, device, notes.note)
    with notes.work() as progress:
        return Judged(score_images({judged.name: judged}, by, fresh, seed, progress))


def _images(name: str, images: str | Path | Tensor | np.ndarray, notes: Notes) -> ImageSet:
    if isinstance(images, str | Path):
        return open_images(str(images), note=notes.note)
    return of_array(name, np.asarray(images))


@contextmanager
def _execution(title: str, batch_size: int | None, quiet: bool) -> Iterator[Execution]:
    """Yields how samples are drawn: with a progress bar, and notes of how it was done."""
    notes = Notes(quiet)
    with notes.work() as progress:
        yield Execution(batch_size, progress(title), note=notes.note)
