"""Runs of earlier versions open, sample as they did, and go on."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smoothctl.rng import generator
from smoothctl.runs.config import from_toml
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling.draw import draw_all
from smoothctl.training.fit import fit_denoiser
from smoothctl.training.reporter import Quiet
from smoothctl.training.settings import FitSettings, resolve

FIXTURES = Path(__file__).parent / "fixtures"


NOISE = {"vector-run": "gaussian", "joint-run": "laplace", "aligned-run": "gaussian"}


@pytest.fixture(params=NOISE)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs of every kind of stage, as version 0.1.0 wrote them."""
    shutil.copytree(FIXTURES / request.param, tmp_path / request.param)
    return load_run(tmp_path / request.param)


def test_each_kind_of_stage_samples_as_before(run: Run) -> None:
    expected = np.load(run.path / "expected.npz")
    methods = [name.replace("_", "-") for name in expected.files if "bound" not in name]
    for method, drawn in draw_all(run, methods, 3, seed=0).items():
        assert np.allclose(drawn.samples, expected[method.replace("-", "_")], atol=1e-5), method


def test_each_kind_of_stage_has_the_bound_that_it_had(run: Run) -> None:
    expected = np.load(run.path / "expected.npz")
    method = run.two_step()
    assert method is not None
    terms = method.bound(run.dataset().test.head(3), generator=generator("fixture"))
    assert np.allclose(terms.prior, expected["bound_prior"], rtol=1e-5)
    assert np.allclose(terms.denoiser, expected["bound_denoiser"], rtol=1e-5)


def test_each_kind_of_stage_is_complete_for_the_command_that_fitted_it(run: Run) -> None:
    for name, config in run.configs().items():
        assert config.differences(config.from_dict(config.to_dict(), name)) == []
        assert config.kernel == (None if name == "baseline" else NOISE[run.path.name])


def test_a_prior_keeps_the_components_that_it_was_begun_with(tmp_path: Path) -> None:
    """Versions before had mixtures of logistics alone."""
    shutil.copytree(FIXTURES / "aligned-run", tmp_path / "run")
    stage = load_run(tmp_path / "run").stage("prior")
    settings = FitSettings(dataset="digits", architecture="pixelcnnpp", out=tmp_path / "run")
    assert "noise" not in stage.config_file.read_text()
    assert resolve("prior", settings, Quiet()).config.options["noise"] == 0
    anew = resolve("prior", replace(settings, sigma=0.3, overwrite=True), Quiet())
    assert anew.config.options["noise"] == 0.3


@pytest.fixture
def stacked(tmp_path: Path) -> Run:
    """A run of version 0.1.0, whose denoiser has x̃ stacked above x and no word for it."""
    out = tmp_path / "stacked-run"
    shutil.copytree(FIXTURES / "stacked-run", out)
    return load_run(out)


def test_a_stacked_denoiser_samples_as_before(stacked: Run) -> None:
    expected = np.load(stacked.path / "expected.npz")
    drawn = draw_all(stacked, ["two-step"], 2, seed=0)["two-step"]
    assert np.allclose(drawn.smoothed, expected["smoothed"], atol=1e-5)
    assert np.array_equal(drawn.samples, expected["samples"])


def test_its_likelihoods_are_the_same(stacked: Run) -> None:
    expected = np.load(stacked.path / "expected.npz")
    method = stacked.two_step()
    assert method is not None
    terms = method.bound(stacked.dataset().test.head(4), generator=generator("fixture"))
    assert np.allclose(terms.prior, expected["prior"], rtol=1e-5)
    assert np.allclose(terms.denoiser, expected["denoiser"], rtol=1e-5)


def test_its_configuration_says_what_it_meant(stacked: Run) -> None:
    stage = stacked.stage("denoiser")
    assert "conditioning" not in stage.config_file.read_text()
    assert stage.config().options["conditioning"] == "stacked"
    assert from_toml(stage.config_file)["options"]["conditioning"] == "stacked"
    assert "conditioning" not in stacked.stage("prior").config().options


@pytest.mark.slow
def test_the_file_that_recreates_it_does(stacked: Run) -> None:
    before = stacked.density("denoiser").state_dict()
    file = from_toml(stacked.stage("denoiser").config_file)
    shutil.rmtree(stacked.path / "denoiser")
    run = fit_denoiser(
        out=stacked.path, options=file["options"], training=file["training"], device="cpu"
    )
    after = run.density("denoiser").state_dict()
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)


def test_half_of_one_goes_on(stacked: Run) -> None:
    file = from_toml(stacked.stage("denoiser").config_file)
    finished = stacked.density("denoiser").state_dict()
    stacked.stage("denoiser").weights_file().unlink()
    run = fit_denoiser(
        out=stacked.path, options=file["options"], training=file["training"], device="cpu"
    )
    again = run.density("denoiser").state_dict()
    assert all(torch.equal(finished[name], again[name]) for name in finished)


def test_a_new_denoiser_of_an_old_prior_is_aligned(stacked: Run) -> None:
    shutil.rmtree(stacked.path / "denoiser")
    tiny = {"steps": 1, "batch_size": 8, "validation_limit": 8}
    run = fit_denoiser(out=stacked.path, training=tiny, device="cpu")
    assert run.stage("denoiser").config().options["conditioning"] == "aligned"
