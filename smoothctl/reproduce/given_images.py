"""Images completed, denoised and beside their neighbours, on digits (ARDS appendix C)."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from smoothctl.architectures.base import to_grid
from smoothctl.datasets.pictures import read_mask, write_png
from smoothctl.metrics.classifier import Classifier, fit_classifier
from smoothctl.metrics.image_sets import ImageSet, of_tensor, of_view
from smoothctl.metrics.neighbours import Memorisation, Neighbours, gather, search
from smoothctl.reporting.figures import columns, neighbour_rows, save
from smoothctl.reproduce.base import (
    Budget,
    Claim,
    Experiment,
    Result,
    Row,
    collect,
    parameters,
)
from smoothctl.reproduce.fitted import OF_WHICH, fitted_runs
from smoothctl.runs.config import StageName
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw
from smoothctl.sampling.inpainting import denoise, inpaint, smooth
from smoothctl.training.reporter import Reporter

__all__ = ["experiment"]

_IMAGES, _SHOWN, _ROWS, _NEIGHBOURS = 357, 36, 8, 10
_METHODS = {"plain": "baseline", "two-step": "two-step"}
_MISSING = ("bottom-half", "right-half")
_CANDIDATES = (1, 8)
"""Of the paper, and by default."""

_CLASS, _SINGLE, _DRAWN = "of the image's class, %", "single-step error", "error of a draw"
_COPIES = "nearer than 99 % of test images, %"


def _of_class(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Returns the percentage of images, (n, C, H, W), that a classifier gives their class."""
    with torch.no_grad():
        return 100 * float((classifier(images).argmax(1) == labels).float().mean())


def _completed(run: Run, x: Tensor, mask: str, candidates: int, seed: int) -> dict[str, Tensor]:
    """Returns test images as each model completes them, (n, C, H, W)."""
    known = read_mask(mask, x.shape[1:])
    return {
        name: inpaint(run, x, known, 1, method, seed, candidates=candidates).samples[:, 0]
        for name, method in _METHODS.items()
    }


def _task(mask: str, candidates: int) -> str:
    """Returns what the completion of one half is called."""
    return mask if candidates == 1 else f"{mask} ({candidates} candidates)"


def _denoised(run: Run, x: Tensor, seed: int) -> dict[str, Tensor]:
    """Returns images, their x̃, the mean E[x|x̃] and a draw from p(x|x̃), (n, C, H, W) each."""
    x_smooth = smooth(run, x, seed)
    restored = denoise(run, x_smooth, 1, seed)
    assert restored.single_step is not None
    return {
        "test images": x,
        "x̃": x_smooth,
        "E[x|x̃]": restored.single_step,
        "p(x|x̃)": restored.samples[:, 0],
    }


def _near(
    run: Run, method: str, n: int, seed: int
) -> tuple[ImageSet, ImageSet, Neighbours, Memorisation]:
    """Returns samples, training images, the nearest of these and how many samples are copies."""
    dataset = run.dataset()
    images = to_grid(draw(run, method, n, seed).samples, dataset.levels or 256)
    samples = of_tensor("samples", images)
    train, test = (of_view(v, dataset, getattr(dataset, v)) for v in ("train", "test"))
    near, memorised = search(samples, train, test, min(_NEIGHBOURS, len(train)))
    assert memorised is not None
    return samples, train, near, memorised


def _measure(
    run: Run, classifier: Classifier, seed: int, budget: Budget
) -> dict[str, dict[str, float]]:
    """Returns each model's figures."""
    dataset = run.dataset()
    x = dataset.test.head(min(_IMAGES, max(2, budget.examples)))
    labels = dataset.test.head_labels(len(x))
    figures: dict[str, dict[str, float]] = {name: {} for name in _METHODS}
    for mask, candidates in product(_MISSING, _CANDIDATES):
        for name, images in _completed(run, x, mask, candidates, seed).items():
            task = _task(mask, candidates)
            figures[name][f"{task} {_CLASS}"] = _of_class(classifier, images, labels)
    for name, method in _METHODS.items():
        figures[name][_COPIES] = 100 * _near(run, method, len(x), seed)[-1].copies
    _, _, single, drawn = _denoised(run, x, seed).values()
    figures["two-step"] |= {_SINGLE: _squared_error(single, x), _DRAWN: _squared_error(drawn, x)}
    return figures


def _squared_error(found: Tensor, x: Tensor) -> float:
    """Returns the squared error of an image, the mean over images."""
    return float((found - x).square().flatten(1).sum(1).mean())


def _pictures(run: Run, seed: int, folder: Path) -> list[str]:
    """Draws what one run makes of the first test images."""
    x = run.dataset().test.head(_SHOWN)
    pictures = []
    for mask in _MISSING:
        given = torch.where(read_mask(mask, x.shape[1:]), x, torch.zeros(()))
        blocks = {
            "test images": x,
            "known": given,
            **_completed(run, x, mask, _CANDIDATES[-1], seed),
        }
        pictures.append(folder / f"completed-{mask}.png")
        save(columns(blocks), pictures[-1])
    pictures.append(folder / "denoised.png")
    save(columns(_denoised(run, x, seed)), pictures[-1])
    samples, train, near, _ = _near(run, "two-step", _ROWS, seed)
    pictures.append(folder / "neighbours.png")
    rows = neighbour_rows(samples.read(0, _ROWS), gather(train, near.indices))
    write_png(pictures[-1], rows)
    return list(map(str, pictures))


def _run(folder: Path, seeds: Sequence[int], budget: Budget, reporter: Reporter) -> Result:
    runs = fitted_runs(folder, seeds, budget, reporter)
    classifier, pairs = fit_classifier(runs[0].dataset()), zip(runs, seeds, strict=True)
    found = [_measure(run, classifier, seed, budget) for run, seed in pairs]
    stages: dict[str, tuple[StageName, ...]] = {
        "plain": ("baseline",),
        "two-step": ("prior", "denoiser"),
    }
    rows = [
        Row(name, parameters(runs[0], *stages[name]), collect([each[name] for each in found]))
        for name in _METHODS
    ]
    claims = _claims(*(row.figures for row in rows))
    pictures = _pictures(runs[0], seeds[0], folder)
    return Result("given-images", list(seeds), {}, rows, claims, pictures)


def _claims(
    plain: Mapping[str, Sequence[float]], smoothed: Mapping[str, Sequence[float]]
) -> list[Claim]:
    ratios = [d / s for d, s in zip(smoothed[_DRAWN], smoothed[_SINGLE], strict=True)]
    return [
        *(
            _completes(mask, candidates, plain, smoothed)
            for mask, candidates in product(_MISSING, _CANDIDATES)
        ),
        *(_chosen_well(mask, smoothed) for mask in _MISSING),
        Claim(
            "a draw from p(x|x̃) has twice the squared error of E[x|x̃], within 10 %",
            f"mean ratio {mean(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}",
            all(abs(ratio / 2 - 1) < 0.1 for ratio in ratios),
        ),
        Claim(
            "two-step samples are no copies: at most 2 % are nearer to a training image than 99 % "
            "of test images are",
            f"mean {mean(smoothed[_COPIES]):.1f} %, most {max(smoothed[_COPIES]):.1f} %",
            max(smoothed[_COPIES]) <= 2,
            "appendix C.5",
        ),
    ]


def _completes(
    mask: str,
    candidates: int,
    plain: Mapping[str, Sequence[float]],
    smoothed: Mapping[str, Sequence[float]],
) -> Claim:
    task = _task(mask, candidates)
    ours, theirs = (figures[f"{task} {_CLASS}"] for figures in (smoothed, plain))
    return Claim(
        f"{task} missing: two-step completes more images to their class than the plain model",
        f"{mean(ours):.1f} % against {mean(theirs):.1f} %",
        all(a > b for a, b in zip(ours, theirs, strict=True)),
        "appendix C.2" if candidates == 1 else "",
    )


def _chosen_well(mask: str, smoothed: Mapping[str, Sequence[float]]) -> Claim:
    one, many = (smoothed[f"{_task(mask, candidates)} {_CLASS}"] for candidates in _CANDIDATES)
    return Claim(
        f"{mask} missing: two-step completes more images to their class by {_CANDIDATES[-1]} "
        "candidates than by one",
        f"{mean(many):.1f} % against {mean(one):.1f} %",
        all(a > b for a, b in zip(many, one, strict=True)),
    )


experiment = Experiment(
    "given-images",
    "images completed, denoised and beside their nearest training images, on digits or MNIST",
    "ARDS (Meng et al. 2021), appendices C.2 to C.5",
    _run,
    takes_dataset=True,
    paper="ARDS",
    section=14.0,
    equal="parameters, and seconds of one thread, of the plain model and of both stages together",
    minutes=5,
    note=f"{OF_WHICH} "
    f"Of {_IMAGES} test images. A small classifier, fitted to the training images, says which "
    "class a completed image is of. With one candidate, the paper's way, a draw knows of what is "
    "known what comes before it; of several one is chosen by how likely it makes all that is "
    "known. Were the denoiser the true p(x|x̃), a draw's squared error "
    "would be twice that of the posterior mean.",
)
