"""Runs name their data and never where they lie: they can be given away, and order nothing."""

import json
import re
import shutil
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoothctl.errors import DataError
from smoothctl.runs.places import recall, remember
from smoothctl.runs.run import load_run
from smoothctl.storage.weights import read_weights, write_weights
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from tests.conftest import SMALL

SECRET = "somebody's own folder"
FIT = {
    "options": SMALL,
    "training": {"steps": 3, "batch_size": 16, "validation_limit": 16},
    "device": "cpu",
}
FEW = ("--limit", "4", "--draws", "2", "--samples", "16", "--quadrature", "0")
Elsewhere = Callable[[], None]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of points, below a folder that is nobody's business."""
    file = tmp_path_factory.mktemp("home") / SECRET / "points.csv"
    file.parent.mkdir()
    rows = np.random.default_rng(0).normal(size=(60, 2))
    file.write_text("\n".join(f"{x:.4f},{y:.4f}" for x, y in rows))
    return file


@pytest.fixture(scope="module")
def fitted(table: Path) -> Path:
    """A run of all stages, fitted to the table from the folder where both lie."""
    run = table.parent / "run"
    fit_baseline(dataset=str(table), out=run, **FIT)
    fit_prior(dataset=str(table), sigma=0.3, out=run, **FIT)
    fit_denoiser(out=run, **FIT)
    return run


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(fitted, tmp_path / "run")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine, on which nobody has named any data."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a host is asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    def refuse(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(f"a host was asked: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def described(run: Path, **changes: Any) -> None:
    """Changes what every file of a run says of it, as somebody who makes one up can."""
    for file in run.glob("*/*.safetensors"):
        tensors, config = read_weights(file)
        write_weights(file, tensors, {**config, **changes})
    for file in run.glob("*/config.toml"):
        text = file.read_text()
        for key, value in changes.items():
            text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(value)}", text)
        file.write_text(text)


def test_a_place_is_remembered(elsewhere: None) -> None:
    assert recall("ab" * 32) is None
    for place in ("/data/ä b", "owner/name", "/data/ä b"):
        remember("ab" * 32, place)
        assert recall("ab" * 32) == place
    remember(None, "/x")
    assert recall(None) is None
    assert recall("../../x") is None


def test_nothing_in_a_run_says_where_the_data_lay(cli, table: Path, run: Path) -> None:
    shutil.rmtree(run / "denoiser")
    config = run.with_name("folder of a config.toml")
    config.mkdir()
    (config / "c.toml").write_text(f"dataset = {json.dumps(str(table))}\nstage = 'denoiser'\n")
    again = ("--config", config / "c.toml", "--out", run, "--steps", "3", "--device", "cpu")
    cli.output("fit-denoiser", *again)
    for verb in (
        ("score", run, *FEW),
        ("sample", run, "-n", "20"),
        ("denoise", "test", run),
        ("report", run, "-n", "20"),
    ):
        cli.output(*verb, "--device", "cpu")
    files = [file for file in run.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"scores.json", "report.html", "model.safetensors", "config.toml"} <= names
    for file in files:
        content = file.read_bytes()
        for secret in (SECRET, config.name, str(table.parents[1]), str(run.parent)):
            assert secret.encode() not in content, file
    assert b"./points.csv" in (run / "report.html").read_bytes()


def test_the_same_command_goes_on_where_the_data_have_moved(
    cli, run: Path, tmp_path: Path, table: Path, elsewhere: None
) -> None:
    moved = shutil.copy(table, tmp_path / "moved.csv")
    for verb in (("score", run, *FEW), ("denoise", "test", run)):
        code, _, err = cli(*verb, "--device", "cpu")
        assert code == 1
        assert f"Where the data of {run} are, ./points.csv" in err
        assert "add --dataset PATH" in err
    assert "No picture beside the samples: Where the data" in cli("sample", run, "-n", "9")[2]
    cli.output("score", run, *FEW, "--dataset", moved, "--device", "cpu")
    cli.output("denoise", "test", run, "--device", "cpu")  # which is remembered now
    shutil.rmtree(run / "denoiser")
    fit_denoiser(out=run, dataset=str(moved), **FIT)
    assert load_run(run).stage("denoiser").config().dataset == "./moved.csv"
    assert load_run(run).two_step() is not None


def test_other_data_are_not_taken_for_a_runs(cli, run: Path, tmp_path: Path, table: Path) -> None:
    other = tmp_path / "points.csv"
    other.write_text(table.read_text().replace("1", "2"))
    code, _, err = cli("score", run, *FEW, "--dataset", other)
    assert (code, "has changed since" in err) == (1, True)
    shutil.rmtree(run / "denoiser")
    with pytest.raises(DataError, match=r"no longer, what the prior .* \(data_sha256 is"):
        fit_denoiser(out=run, dataset=str(other), **FIT)


@pytest.mark.parametrize("dataset", ["/**/*", "owner/name", "mnist", "/dev/zero"])
def test_a_foreign_run_opens_no_file_and_asks_no_host(
    cli, run: Path, elsewhere: None, no_host: None, dataset: str
) -> None:
    described(run, dataset=dataset)
    code, _, err = cli("sample", run, "-n", "9", "--device", "cpu")
    assert (code, "No picture beside the samples: Where the data" in err) == (0, True)
    code, _, err = cli("score", run, *FEW)
    assert (code, "was not said on this machine" in err) == (1, True)


def test_data_of_a_package_that_is_not_installed(cli, run: Path) -> None:
    described(run, dataset="not-here")
    code, out, err = cli("sample", run, "-n", "9", "--device", "cpu")
    assert code == 0
    assert "There is no dataset 'not-here'" in err
    assert Path(out.split()[0]).exists()
    assert cli("score", run, *FEW)[0] == 1


@pytest.mark.slow
def test_the_weights_decide_where_a_config_says_something_else(
    cli, run: Path, tmp_path: Path
) -> None:
    file = run / "prior" / "config.toml"
    said = "not what its weights were fitted with, which counts: sigma: 5.0 → 0.3."
    file.write_text(file.read_text().replace("sigma = 0.3", "sigma = 5.0"))
    for verb in (("sample", run, "-n", "9"), ("report", run, "-n", "9"), ("score", run, *FEW)):
        code, _, err = cli(*verb, "--device", "cpu")
        assert (code, said in " ".join(err.split())) == (0, True)
    page = (run / "report.html").read_text()
    assert "sigma = 0.3" in page
    assert "sigma = 5" not in page
    assert "which counts: sigma: 5.0" in page
    shutil.rmtree(run / "denoiser")
    err = cli("fit-denoiser", "--out", run, "--steps", "3", "--device", "cpu")[2]
    assert said in " ".join(err.split())
    assert load_run(run).stage("denoiser").config().sigma == 0.3
    assert tomllib.loads((run / "denoiser/config.toml").read_text())["sigma"] == 0.3


@pytest.mark.parametrize(
    ("key", "value"), [("data_sha256", '"ab"'), ("event_shape", "[3]"), ("levels", "7")]
)
def test_a_configuration_of_other_data_is_told(
    cli, run: Path, tmp_path: Path, table: Path, key: str, value: str
) -> None:
    text = (run / "prior" / "config.toml").read_text()
    config = tmp_path / "c.toml"
    config.write_text(f"{key} = {value}\n" + re.sub(rf"(?m)^{key} = .*$", "", text))
    told = ("fit-prior", "--config", config, "--out", tmp_path / "new", "--device", "cpu")
    code, _, err = cli(*told)
    assert code == 1
    assert "c.toml was fitted to" in err or "There is no file" in err
    assert not (tmp_path / "new").exists()
    cli.output(*told, "--dataset", table)  # flags win over it


def test_a_configuration_recreates_a_run_of_its_data(cli, run: Path, tmp_path: Path) -> None:
    config = run / "prior" / "config.toml"
    cli.output("fit-prior", "--config", config, "--out", tmp_path / "new", "--device", "cpu")
    mine, theirs = ((r / "prior/model.safetensors").read_bytes() for r in (run, tmp_path / "new"))
    assert mine == theirs


def test_a_run_from_when_places_were_recorded_goes_on(run: Path, table: Path) -> None:
    described(run, dataset=str(table))
    assert load_run(run).config().dataset == "./points.csv"
    fit_prior(dataset=str(table), sigma=0.3, out=run, **FIT)  # is complete
    assert len(load_run(run).dataset().train) > 0


def test_a_fit_goes_on_where_nothing_can_be_remembered(
    cli, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    told = ("--out", tmp_path / "run", "--steps", "3", "--device", "cpu", "--set", "width=8")
    code, _, err = cli("fit-prior", "--dataset", table, "--sigma", "0.3", *told)
    assert code == 0
    assert f"Verbs that need these data take --dataset {table}" in " ".join(err.split())
