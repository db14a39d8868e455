"""Fixtures: small fitted runs, shared by the tests that only read them, and the command line."""

import os
import shutil
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from smoothctl.runs.run import Run, load_run
from smoothctl.testing import cli, device
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior

__all__ = ["cli", "device"]

TINY = {"steps": 60, "batch_size": 128, "warmup": 5, "learning_rate": 5e-3}
SMALL = {"mixtures": 2, "width": 16, "layers": 2}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Lets slow tests reuse runs that were fitted before, and tests compute elsewhere."""
    parser.addoption("--runs", help="folder of `smoothctl reproduce --out`, fitted or not")
    parser.addoption(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="where the contract suites and the tests that take the fixture `device` compute",
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _all_digits(request: pytest.FixtureRequest):
    """Tests compare to the last digits: float32 is not TF32, as convolutions are on CUDA."""
    if request.config.getoption("--device") == "cuda":
        torch.backends.fp32_precision = "ieee"


@pytest.fixture(scope="session", autouse=True)
def _terminal():
    """Under nohup a closed terminal is ignored, by tests that send its signal too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    os.environ["SMOOTHCTL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with baseline, prior and denoiser on two-moons, fitted for 60 steps each."""
    out = tmp_path_factory.mktemp("runs") / "moons"
    common = {"out": out, "options": SMALL, "training": TINY, "device": "cpu"}
    fit_baseline(dataset="two-moons", **common)
    fit_prior(dataset="two-moons", sigma=0.3, **common)
    return fit_denoiser(**common)


@pytest.fixture(scope="session")
def fitted_digits(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Returns a function that fits all stages on digits for three steps each, once a session."""

    @cache
    def fitted(classes: int) -> Path:
        out = tmp_path_factory.mktemp("digits")
        options = {"filters": 4, "blocks": 1, "mixtures": 2, "scales": 1, "classes": classes}
        training = {"steps": 3, "batch_size": 16, "warmup": 1, "validation_limit": 16}
        common = {"architecture": "pixelcnnpp", "out": out, "training": training, "device": "cpu"}
        fit_baseline(dataset="digits", options=options, **common)
        fit_prior(dataset="digits", options=options, sigma=0.3, **common)
        fit_denoiser(out=out, training=training, device="cpu")
        return out

    return fitted


@pytest.fixture(scope="module")
def digits_run(fitted_digits: Callable[[int], Path], tmp_path_factory) -> Run:
    """A run of all stages on digits, hardly fitted; each module has a copy of its own."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    return load_run(shutil.copytree(fitted_digits(0), out))


@pytest.fixture(scope="module")
def class_run(fitted_digits: Callable[[int], Path], tmp_path_factory) -> Run:
    """The same, conditioned on the ten classes."""
    out = tmp_path_factory.mktemp("runs") / "by-class"
    return load_run(shutil.copytree(fitted_digits(10), out))


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path for packages."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder
