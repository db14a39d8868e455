"""What the plugin reproduces: claims where it is quick, and that the rest runs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from smoothctl_ncsn.experiments import checkpoints, images, small
from smoothctl_ncsn.experiments.manifold import _fluctuation, _network
from smoothctl_ncsn.experiments.regions import _regions
from smoothctl_ncsn.experiments.two_modes import TwoModes

from smoothctl import reproduce
from smoothctl.evaluation.image_quality import ImageComparison
from smoothctl.reproduce.base import Budget
from smoothctl.rng import generator
from smoothctl.training.fit import Quiet

TINY = Budget(steps=0.001, examples=40)
TINY_IMAGES = Budget(steps=0.005, examples=8)


def test_weights_of_the_modes() -> None:
    data = TwoModes()
    assert data.share_of_small(data.sample(20_000, generator("x"))) == pytest.approx(0.2, abs=0.01)


def test_smoothed_score_is_that_of_smoothed_data() -> None:
    """Where one mode rules, it is that of a Gaussian of variance 1 + σ²."""
    x = torch.tensor([[6.0, 4.0]], dtype=torch.float64)
    expected = -torch.tensor([[1.0, -1.0]], dtype=torch.float64) / 1.25
    assert torch.allclose(TwoModes().smoothed_score(x, 0.5), expected, atol=1e-6)


def test_regions_part_the_plane() -> None:
    near, far = _regions(torch.tensor([[5.0, 7.9], [5.0, 8.1], [0.0, 0.0]])).values()
    assert near.tolist() == [True, False, False]
    assert torch.equal(far, ~near)


def test_only_annealing_gets_the_weights_right(tmp_path: Path) -> None:
    """NCSN figure 3, with the exact scores: both claims hold."""
    result = reproduce.load("ncsn-mixture").run(tmp_path, [0], Budget(), Quiet())
    assert all(claim.holds for claim in result.claims), result.claims
    assert Path(result.pictures[0]).is_file()


def test_fluctuation_is_that_of_the_last_half() -> None:
    assert _fluctuation([900.0, -7.0, -3.0, -3.0]) == 0
    assert _fluctuation([0.0, 0.0, -1.0, 3.0]) == 2


def test_the_auto_encoder_keeps_the_size() -> None:
    x = torch.zeros(2, 1, 8, 8)
    assert _network(1)(x).shape == x.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ncsn-regions", "ncsn-rings", "ncsn-manifold"])
def test_the_others_run(name: str, tmp_path: Path) -> None:
    """A few steps of everything: rows with a figure a seed, claims, a picture."""
    result = reproduce.load(name).run(tmp_path, [0], TINY, Quiet())
    assert result.name == name
    assert all(len(values) == 1 for row in result.rows for values in row.figures.values())
    assert result.claims
    assert Path(result.pictures[0]).is_file()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small NCSN of digits is fitted a little."""
    folder = tmp_path_factory.mktemp("reproduce")
    small.fit(folder / "any", 0, TINY_IMAGES, Quiet())
    return folder


def test_checkpoints_hold_what_the_fit_had(fitted: Path) -> None:
    """The last one has the weights of the run, the first has others."""
    run = small.fit(fitted / "any", 0, TINY_IMAGES, Quiet())
    steps = list(checkpoints._validation_losses(run))
    assert len(steps) == small.CHECKPOINTS
    first, last = (
        checkpoints._checkpoint(run, step).state_dict() for step in (steps[0], steps[-1])
    )
    whole = run.density("baseline").state_dict()
    assert all(torch.equal(last[key], whole[key]) for key in whole)
    assert not all(torch.equal(first[key], whole[key]) for key in whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ncsn-pictures", "ncsn-checkpoints", "ncsn-single-level"])
def test_experiments_on_the_small_ncsn_run(name: str, fitted: Path) -> None:
    """On the fit that they share: a figure a seed in each row, claims, pictures."""
    result = reproduce.load(name).run(fitted / name, [0], TINY_IMAGES, Quiet())
    assert all(len(values) == 1 for row in result.rows for values in row.figures.values())
    assert result.claims
    assert all(Path(picture).is_file() for picture in result.pictures)


@pytest.mark.slow
def test_images_run_as_well(tmp_path: Path) -> None:
    result = reproduce.load("ncsn-digits").run(tmp_path, [0], TINY, Quiet())
    assert len(result.rows) == 6
    assert Path(result.pictures[0]).is_file()


@pytest.mark.slow
def test_mnist_is_scored_as_the_models_beside_it(tmp_path: Path) -> None:
    """A few steps on digits: the same figures, but for what a score model has not."""
    budget = Budget(steps=0.001, examples=40, dataset="digits")
    result = reproduce.load("ncsn-mnist").run(tmp_path, [0], budget, Quiet())
    ncsn, floor = result.rows
    assert ncsn.parameters > 1_000_000  # more levels on larger images
    assert ncsn.figures.keys() - {"CPU s"} == floor.figures.keys()
    assert Path(result.pictures[0]).is_file()


@pytest.mark.slow
def test_the_published_training_runs(tmp_path: Path) -> None:
    """On digits, with a small network; only the levels that a few steps can see are many."""
    options = {"filters": 2, "steps": 1, "noise_levels": 2}
    plan = replace(images.CIFAR10, options=options, by=ImageComparison("classifier"))
    budget = Budget(steps=1e-5, examples=40, dataset="digits")
    result = plan.run(tmp_path, [0], budget, Quiet())
    assert [row.model for row in result.rows] == ["NCSN", "test images"]


@pytest.mark.slow
def test_scores_are_wrong_between_the_modes(tmp_path: Path) -> None:
    """NCSN figure 2: both claims hold."""
    result = reproduce.load("ncsn-regions").run(tmp_path, [0], Budget(), Quiet())
    assert all(claim.holds for claim in result.claims), result.claims
