"""Fixtures: one small trained run, shared by the tests that only read it."""

import os
import signal
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest
import torch

from smoothctl.cli import main
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior

TINY = {"steps": 60, "batch_size": 128, "warmup": 5, "learning_rate": 5e-3}
SMALL = {"mixtures": 2, "width": 16, "layers": 2}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Lets slow tests reuse runs that were fitted before."""
    parser.addoption("--runs", help="folder of `smoothctl reproduce --out`, fitted or not")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _terminal():
    """Under nohup a closed terminal is ignored, by tests that send its signal too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    os.environ["SMOOTHCTL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with baseline, prior and denoiser on two-moons, fitted for 60 steps each."""
    out = tmp_path_factory.mktemp("runs") / "moons"
    common = {"out": out, "options": SMALL, "training": TINY, "device": "cpu"}
    fit_baseline(dataset="two-moons", **common)
    fit_prior(dataset="two-moons", sigma=0.3, **common)
    return fit_denoiser(**common)


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, in_tmp: Path):
    """Returns a function that runs a command line: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["smoothctl", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
            raise SystemExit(0)
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run
