"""The plugin from the command line."""

import numpy as np
import pytest

FAST = ["--steps", "20", "--batch-size", "64", "--device", "cpu"]


@pytest.mark.slow
def test_a_prior_of_vectors(cli) -> None:
    """Fit at its own sigma, draw by both methods, refuse a likelihood."""
    fit = ["fit-prior", "--arch", "ncsn-mlp", "--dataset", "rings", "--out", "r"]
    code, _, err = cli(*fit, "--set", "steps=2", *FAST)
    assert code == 0
    assert "0.02" in err
    for method in ("smoothed", "single-step"):
        code, *_ = cli("sample", "r", "-n", "9", "--method", method, "--out", f"{method}.npz")
        assert code == 0
    drawn = [np.load(f"{method}.npz")["samples"] for method in ("smoothed", "single-step")]
    assert drawn[0].shape == (9, 2)
    assert not np.array_equal(*drawn)
    code, out, err = cli("score", "r", "--json")
    assert "likelihood" in (out + err)
    assert "nan" not in out.lower()


def test_a_baseline_is_scored_by_its_samples(cli) -> None:
    """A run that has no likelihood at all is no run without a prior."""
    fit = ["fit-baseline", "--arch", "ncsn-mlp", "--dataset", "rings", "--out", "b"]
    code, *_ = cli(*fit, "--set", "steps=2", *FAST)
    assert code == 0
    code, out, _ = cli("score", "b", "--limit", "50", "--samples", "50")
    assert code == 0
    assert "energy distance" in out
    assert "has neither a likelihood" in out


def test_another_kernel_is_refused(cli) -> None:
    fit = ["fit-prior", "--arch", "ncsn-mlp", "--dataset", "rings", "--kernel", "laplace"]
    code, _, err = cli(*fit, "--out", "r", *FAST)
    assert code == 2
    assert "take --kernel gaussian" in err


@pytest.mark.slow
def test_images_are_drawn_and_filled_in(cli) -> None:
    """With settings of the sampler chosen anew, and frames on the way."""
    small = ["--set", "filters=2", "--set", "noise_levels=3", "--set", "steps=2"]
    code, *_ = cli(
        "fit-prior", "--arch", "ncsn", "--dataset", "digits", "--out", "r", *small, *FAST
    )
    assert code == 0
    code, *_ = cli(
        "sample",
        "r",
        "-n",
        "2",
        "--set",
        "steps=1",
        "--frames",
        "3",
        "--method",
        "smoothed",
        "--out",
        "f.npz",
    )
    assert code == 0
    code, *_ = cli("inpaint", "test", "r", "-n", "2", "--out", "i.npz")
    assert code == 0
    assert np.isfinite(np.load("i.npz")["samples"]).all()


def test_the_experiments_are_listed(cli) -> None:
    code, out, _ = cli("reproduce")
    assert code == 0
    names = ("mixture", "regions", "digits", "rings", "mnist", "manifold", "pictures")
    for name in (*names, "single-level", "checkpoints"):
        assert f"ncsn-{name}" in out
