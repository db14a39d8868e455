"""The runs that several experiments look at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoothctl import fit_denoiser, fit_prior, load_run
from smoothctl.reproduce.fitted import fitted_like
from smoothctl.training.reporter import Quiet

TINY = {"steps": 2, "batch_size": 16, "warmup": 0, "validation_limit": 16}


def test_another_sigma_of_data_that_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run names its data without their folder; their place is known of the fit."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "data" / "table.npy"
    np.save(table, np.random.default_rng(0).normal(size=(60, 2)))
    common: dict[str, Any] = {"out": tmp_path / "one", "training": TINY}
    fit_prior(dataset=str(table), sigma=0.5, options={"width": 8, "mixtures": 2}, **common)
    fit_denoiser(**common)
    found = fitted_like(load_run(tmp_path / "one"), tmp_path / "other", 0.2, Quiet())
    first, other = (load_run(tmp_path / name).config() for name in ("one", "other"))
    assert (found.config().sigma, other.data_sha256) == (0.2, first.data_sha256)
    assert other.options == first.options
