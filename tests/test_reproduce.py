"""The papers' claims. Slow: `nox -s reproduce`, or with fitted runs `-- --runs=runs/reproduce`."""

from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from smoothctl import reproduce
from smoothctl.datasets import open_dataset
from smoothctl.datasets.pictures import to_uint8
from smoothctl.errors import UsageError
from smoothctl.reproduce.base import Budget, Claim, Result, at_most, better, cpu_seconds
from smoothctl.reproduce.images import Plan
from smoothctl.runs.run import Run
from smoothctl.testing import CommandLine
from smoothctl.training.fit import Quiet

SEEDS = (0, 1, 2)


def _result(name: str, folder: Path) -> Result:
    return reproduce.load(name).run(folder / name, SEEDS, Budget(), Quiet())


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where fitted runs are: --runs, or nowhere yet."""
    chosen = request.config.getoption("--runs")
    return Path(chosen) if chosen else tmp_path


def _failed(claims: list[Claim]) -> list[Claim]:
    return [claim for claim in claims if not claim.holds]


@pytest.mark.slow
def test_rings(folder: Path) -> None:
    """All of the rings claims hold at every seed."""
    assert not _failed(_result("rings", folder).claims)


@pytest.mark.slow
def test_olympics(folder: Path) -> None:
    """Three logistics after smoothing beat three without."""
    result = _result("olympics", folder)
    assert result.claims[0].holds


@pytest.mark.slow
def test_realnvp(folder: Path) -> None:
    """Smoothing helps RealNVP on olympics; the checkerboard claim is reported, not asserted."""
    result = _result("realnvp", folder)
    claims = {claim.statement.split(":")[0]: claim.holds for claim in result.claims}
    assert claims["olympics"]


@pytest.mark.slow
def test_inverse_u(folder: Path) -> None:
    """For every kernel the bound rises and then falls; which kernel is best is reported."""
    result = _result("inverse-u", folder)
    assert not _failed(result.claims[:3])


@pytest.mark.slow
def test_digits(folder: Path) -> None:
    """Two-step wins over single-step; against a plain model of equal compute it is a tie."""
    result = _result("digits", folder)
    bits = {row.model: mean(row.figures.get("bits/dim", [0.0])) for row in result.rows}
    assert bits["two-step"] == pytest.approx(bits["plain"], abs=0.03)
    assert result.claims[2].holds


@pytest.mark.slow
def test_parallel_sampling(folder: Path) -> None:
    """A denoiser takes fewer passes than a prior, that fewer than a plain model; all are exact."""
    assert not _failed(_result("parallel-sampling", folder).claims)


@pytest.mark.slow
def test_mnist(folder: Path) -> None:
    """Two-step samples are nearer than plain ones by half; its bound is about their bits/dim."""
    data = Path(__file__).parents[2] / "shared/data/mnist/mnist"
    if not data.is_dir():
        pytest.skip(f"there is no MNIST in {data}")
    budget = Budget(dataset=str(data))
    result = reproduce.load("mnist").run(folder / "mnist", SEEDS, budget, Quiet())
    assert not _failed(result.claims[:3])
    bits = {row.model: mean(row.figures.get("bits/dim", [0.0])) for row in result.rows}
    assert bits["two-step"] == pytest.approx(bits["plain"], abs=0.02)


OF_IMAGES = {"mnist", "images", "cifar10", "celeba"}
"""Experiments whose own data are not here, or not small."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(reproduce.names()) - OF_IMAGES))
def test_every_experiment_runs(name: str, tmp_path: Path) -> None:
    """On a few examples after a few steps, with its pictures; and once more from what is kept."""
    given = (tmp_path / name, [0], Budget(steps=0.0003, examples=30, draws=2))
    result = reproduce.load(name).run(*given, Quiet())
    assert result.claims
    assert all(Path(picture).is_file() for picture in result.pictures)
    assert _untimed(reproduce.load(name).run(*given, Quiet())) == _untimed(result)


def _untimed(result: Result) -> dict[str, object]:
    """Returns a result without the seconds that were measured, which are never the same."""
    values = result.to_dict()
    for row in values["rows"]:
        row["figures"].pop("CPU s", None)
    return values


@pytest.mark.slow
def test_images_compares_equals_and_goes_on_from_what_is_there(tmp_path: Path) -> None:
    """A few steps on digits: both denoisers have one prior; a second call fits nothing."""
    budget = Budget(steps=0.002, examples=64, dataset="digits")
    given = (tmp_path / "images", [0], budget)
    result = reproduce.load("images").run(*given, Quiet())
    rows = {row.model: row for row in result.rows}
    sizes = [rows[name].parameters for name in ("plain", "two-step")]
    assert max(sizes) / min(sizes) < 1.01
    names = ("two-step", "two-step (stacked)")
    aligned, stacked = (rows[name].figures for name in names)
    assert aligned["prior term"] == stacked["prior term"]
    assert aligned["bits/dim"] != stacked["bits/dim"]
    assert {"Fréchet", "coverage", "copies, %"} <= rows["test images"].figures.keys()
    again = reproduce.load("images").run(*given, Quiet())
    assert again.to_dict() == result.to_dict()
    assert [Path(picture).is_file() for picture in again.pictures] == [True]


@pytest.mark.slow
def test_a_plan_of_published_training(tmp_path: Path) -> None:
    """The denoiser is the paper's, and there is no other beside it."""
    plan = Plan("p", "digits", 0.3, "paper-mnist", (4, 4, 4), (2, 2, 2), stacked=0)
    result = plan.run(tmp_path, [0], Budget(examples=20), Quiet())
    assert [row.model for row in result.rows] == ["plain", "two-step", "single-step", "test images"]
    options = Run(tmp_path / "seed0").stage("denoiser").config().options
    assert (options["conditioning"], options["filters"], options["blocks"]) == ("stacked", 4, 5)


@pytest.mark.slow
def test_images_without_labels_are_judged_by_their_pixels(tmp_path: Path) -> None:
    """And not refused after hours of training."""
    pixels = open_dataset("digits").train.head(200)
    np.save(tmp_path / "mine.npy", to_uint8(pixels))
    budget = Budget(steps=0.002, examples=20, dataset=str(tmp_path / "mine.npy"))
    result = reproduce.load("images").run(tmp_path / "images", [0], budget, Quiet())
    assert all("Fréchet" in row.figures for row in result.rows)


def test_cpu_seconds_are_the_log_s(trained_run: Run, tmp_path: Path) -> None:
    """And of a log from before it told them, those of the wall clock."""
    log = trained_run.stage("prior").log()
    told = cpu_seconds(trained_run, "prior")
    assert told == pytest.approx(sum(entry["cpu_seconds"] for entry in log))
    assert told > 0
    old = Run(tmp_path)
    (tmp_path / "prior").mkdir()
    lines = ['{"step": 1, "steps_per_second": 2.0}', '{"step": 9, "steps_per_second": 4.0}']
    old.stage("prior").log_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert cpu_seconds(old, "prior") == 2.5


def test_a_dataset_is_asked_for_or_refused(cli: CommandLine) -> None:
    code, _, err = cli("reproduce", "rings", "--dataset", "digits")
    assert (code, "rings has data of its own: leave --dataset out" in err) == (2, True)
    code, _, err = cli("reproduce", "images")
    assert (code, "images takes --dataset: a name, or where images are" in err) == (2, True)


def test_claims_look_at_every_seed() -> None:
    assert at_most("x", [1.0, 2.0], 2.0).holds
    assert not at_most("x", [1.0, 2.1], 2.0).holds
    assert better("a", [1.0, 2.0], "b", [1.5, 2.5]).holds
    assert not better("a", [1.0, 2.0], "b", [1.5, 1.9]).holds


def test_unknown_experiment() -> None:
    with pytest.raises(UsageError, match="did you mean rings"):
        reproduce.load("rigns")
