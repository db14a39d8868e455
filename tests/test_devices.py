"""A fit and its samples through the command line, on the device of `pytest --device`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TINY = ["--set", "training.steps=3", "--set", "training.batch_size=16", "--quiet"]


def smoothctl(folder: Path, *arguments: str) -> str:
    """Runs a command in a process of its own, since a process fits on one device only."""
    command = [sys.executable, "-m", "smoothctl", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_fit_and_samples_of_images(tmp_path: Path, device: str, precision: str) -> None:
    on = ("--device", "cpu" if device == "cpu" else "auto")
    options = ["--set", "filters=4", "--set", "blocks=1", "--set", "mixtures=2"]
    fit = ("--arch", "pixelcnnpp", "--dataset", "digits", "--sigma", "0.3", "--out", "run")
    smoothctl(tmp_path, "fit-prior", *fit, *on, "--precision", precision, *options, *TINY)
    smoothctl(tmp_path, "fit-denoiser", "--out", "run", *on, *options, *TINY)
    smoothctl(tmp_path, "sample", "run", "-n", "2", *on, "--out", "x.npz")
    drawn = np.load(tmp_path / "x.npz")
    assert all(np.isfinite(drawn[name]).all() for name in drawn.files)
