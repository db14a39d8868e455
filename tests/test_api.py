"""From Python as from the shell: the same numbers, typed, and printed as the same tables."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import smoothctl
from smoothctl.errors import RunError, UsageError
from smoothctl.runs.run import Run
from smoothctl.testing import CommandLine

TINY = {"batch_size": 64, "validation_limit": 64}


@pytest.fixture
def run(trained_run: Run, in_tmp: Path) -> smoothctl.Run:
    shutil.copytree(trained_run.path, "mine")
    return smoothctl.load("mine")


def test_samples_are_those_of_the_shell(run: smoothctl.Run, cli: CommandLine) -> None:
    cli.output("sample", "mine", "-n", 30, "--seed", 3, "--out", "a.npz")
    drawn = run.sample(30, seed=3)
    assert drawn.samples.shape == (30, 2)
    assert np.array_equal(drawn.samples.numpy(), np.load("a.npz")["samples"])
    baseline = run.sample(5, "baseline")
    assert baseline.smoothed is None
    with pytest.raises(UsageError, match="two-step"):
        run.sample(5, "two-stp")


def test_denoised_and_completed_as_in_the_shell(run: smoothctl.Run, cli: CommandLine) -> None:
    x = run.dataset().test.head(6)
    np.save("x.npy", x.numpy())
    cli.output("denoise", "x.npy", "mine", "--add-noise", "--draws", 3, "--out", "d.npz")
    denoised = run.denoise(x, 3, add_noise=True)
    assert np.array_equal(denoised.samples.numpy(), np.load("d.npz")["samples"])
    cli.output("inpaint", "x.npy", "mine", "--mask", "1", "--draws", 3, "--out", "i.npz")
    completed = run.inpaint(x.numpy(), "1", 3)
    assert np.array_equal(completed.samples.numpy(), np.load("i.npz")["samples"])
    known = torch.tensor([[True, False]])
    assert torch.equal(run.inpaint(x, known, 3).samples, completed.samples)
    assert torch.equal(completed.samples[..., 0], x[:, None, 0].expand(-1, 3))


@pytest.mark.slow
def test_scores_print_as_in_the_shell_and_become_pandas(
    run: smoothctl.Run, cli: CommandLine
) -> None:
    scored = run.score(limit=40, draws=4, samples=40, quadrature=0, quiet=True)
    options = ("--limit", 40, "--draws", 4, "--samples", 40, "--quadrature", 0, "--quiet")
    assert str(scored) == repr(scored) == cli.output("score", "mine", *options).rstrip()
    table = scored.to_pandas()
    nats = {e.model: e.nats for e in scored.scores.likelihood}
    assert table.loc["baseline", "nats"] == nats["baseline"]
    assert table.loc["two-step", "nats_error"] > 0
    assert len(json.loads((run.path / "scores.json").read_text())) == 2


def test_images_are_judged_however_they_are_given(in_tmp: Path) -> None:
    data = smoothctl.datasets.open_dataset("digits")
    floats = data.test.head(60)
    judged = [
        smoothctl.evaluate(x, "digits", features="pixels", test=data.test.head(80), quiet=True)
        for x in (floats, ((floats + 1) * 127.5).round().to(torch.uint8).numpy())
    ]
    rows = [each.quality.rows[0] for each in judged]
    assert rows[0] == rows[1]
    assert "Fréchet" in str(judged[0])
    assert judged[0].to_pandas().loc["images", "frechet_distance"] == rows[0].frechet_distance


def test_fit_fits_what_the_verbs_fit(cli: CommandLine) -> None:
    told = "--steps 3 --batch-size 64 --set training.validation_limit=64 --set width=8"
    flags = told.split()
    where = ["--out", "shell", "--device", "cpu", "-q"]
    cli.output("fit-prior", "--dataset", "two-moons", "--sigma", 0.2, *flags, *where)
    cli.output("fit-denoiser", *flags, *where)
    run = smoothctl.fit(
        "two-moons", "python", sigma=0.2, steps=3, options={"width": 8}, training=TINY,
        device="cpu", baseline=True, quiet=True,
    )  # fmt: skip
    assert run.stages() == ["baseline", "prior", "denoiser"]
    other = smoothctl.load("shell")
    assert torch.equal(run.sample(20).samples, other.sample(20).samples)
    again = smoothctl.fit(out="python", options={"width": 8}, training=TINY, steps=3,
                          dataset="two-moons", sigma=0.2, device="cpu", quiet=True)  # fmt: skip
    assert torch.equal(again.sample(20).samples, other.sample(20).samples)


def test_a_picture_and_a_report(run: smoothctl.Run, tmp_path: Path) -> None:
    run.picture(50, quiet=True).savefig(tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000
    assert "<html" in run.report(quiet=True).read_text()


def test_load_says_what_is_not_there(in_tmp: Path) -> None:
    with pytest.raises(RunError, match="no run folder nothing"):
        smoothctl.load("nothing")


def test_progress_is_shown_and_quiet_is_quiet(run: smoothctl.Run, capsys) -> None:
    run.score(limit=20, draws=2, samples=0, quadrature=0, quiet=True)
    assert capsys.readouterr() == ("", "")
