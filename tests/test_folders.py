"""Runs as things: they are listed, shown, removed and renamed, and nothing else is."""

import json
import shutil
from pathlib import Path

import pytest

from smoothctl.errors import RunError
from smoothctl.runs.folders import remove_run, rename_run, runs_in, summary
from smoothctl.runs.run import Run, load_run
from smoothctl.storage.locks import hold


@pytest.fixture
def runs(trained_run: Run, in_tmp: Path) -> Path:
    """A folder with a whole run, one whose denoiser stopped, and what is none."""
    shutil.copytree(trained_run.path, "runs/whole")
    shutil.copytree(trained_run.path, "runs/deeper/half")
    for name in ("model.safetensors", "checkpoints/step-00000060"):
        path = Path("runs/deeper/half/denoiser") / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    Path("runs/notes").mkdir()
    shutil.copytree(trained_run.path, "runs/.whole.tmp")
    return Path("runs")


def test_all_are_found_and_none_that_is_hidden(runs: Path) -> None:
    assert runs_in(runs) == [runs / "deeper/half", runs / "whole"]


def test_a_summary_says_how_far_stages_are(runs: Path) -> None:
    half = {stage.name: stage for stage in summary(runs / "deeper/half").stages}
    assert (half["prior"].complete, half["prior"].done) == (True, 60)
    assert (half["denoiser"].complete, half["denoiser"].done) == (False, 54)
    whole = summary(runs / "whole")
    files = [file for file in (runs / "whole").rglob("*") if file.is_file()]
    assert whole.size == sum(file.stat().st_size for file in files)
    assert whole.config is not None
    assert whole.config.sigma == 0.3
    lowest = min(e["validation"] for e in load_run(runs / "whole").stage("prior").log()
                 if "validation" in e)  # fmt: skip
    assert {stage.name: stage for stage in whole.stages}["prior"].validation == lowest


def test_what_is_damaged_is_said_and_the_rest_listed(runs: Path, cli) -> None:
    (runs / "whole/prior/config.toml").write_text("steps = [", encoding="utf-8")
    code, out, _ = cli("runs")
    assert code == 0
    assert "runs/deeper/half" in out
    assert "runs/whole/prior/config.toml is damaged" in out


def test_the_list(runs: Path, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bound of the newest scores, exact of a baseline alone."""
    monkeypatch.setenv("COLUMNS", "160")  # so that no cell is broken
    code, *_ = cli("score", "runs/whole", "--limit", "40", "--samples", "0", "--quadrature", "0")
    assert code == 0
    out = cli.output("runs", "list")
    assert "≤ " in next(line for line in out.splitlines() if "runs/whole" in line)
    assert "denoiser 54 of 60" in out
    listed = {each["run"]: each for each in json.loads(cli.output("runs", "list", "--json"))}
    assert listed["runs/whole"]["data"] == "two-moons"
    assert listed["runs/deeper/half"]["stages"]["denoiser"]["complete"] is False
    assert listed["runs/deeper/half"]["bound"] is None


def test_show_has_the_commands_that_go_on(runs: Path, cli) -> None:
    out = cli.output("runs", "show", "runs/deeper/half")
    assert "54 of 60" in out
    command = next(line for line in out.splitlines() if line.startswith("$ smoothctl fit-denoiser"))
    code, _, err = cli(*command.split()[2:], "--device", "cpu")
    assert code == 0, err
    assert summary(runs / "deeper/half").stages[-1].complete


def test_rm_asks_or_is_told(runs: Path, cli) -> None:
    code, _, err = cli("runs", "rm", "runs/whole")
    assert (code, "say --yes" in err) == (2, True)
    code, out, _ = cli("runs", "rm", "runs/whole", "runs/deeper/half", "--yes")
    assert (code, out) == (0, "Removed runs/whole.\nRemoved runs/deeper/half.\n")
    assert runs_in(runs) == []
    assert (runs / "notes").is_dir()


def test_rm_takes_nothing_that_is_no_run(runs: Path, cli) -> None:
    for path in ("runs/notes", "runs/nothing", "runs", "."):
        code, _, err = cli("runs", "rm", "runs/whole", path, "--yes")
        assert code == 1
        assert "smoothctl runs lists what there is" in err
    assert (runs / "whole/prior/model.safetensors").is_file()


def test_a_run_that_is_fitted_stays(runs: Path) -> None:
    lock = Run(runs / "whole").stage("prior").lock_file
    with hold(lock, "runs/whole/prior"):
        with pytest.raises(RunError, match="is in use"):
            remove_run(runs / "whole")
        with pytest.raises(RunError, match="is in use"):
            rename_run(runs / "whole", "new")
        assert lock.exists()
    assert load_run(runs / "whole").stages() == ["baseline", "prior", "denoiser"]


def test_rename(runs: Path, cli) -> None:
    before = sorted(path.name for path in (runs / "whole").rglob("*"))
    assert cli.output("runs", "rename", "runs/whole", "new") == "runs/new\n"
    assert sorted(path.name for path in (runs / "new").rglob("*")) == before
    assert cli.output("runs", "rename", "runs/new", "elsewhere") == "runs/elsewhere\n"
    code, _, err = cli("runs", "rename", "runs/elsewhere", "deeper")
    assert (code, "is there already" in err) == (1, True)
    assert load_run(runs / "elsewhere").stages()


def test_the_folder_in_which_one_is(runs: Path, cli, monkeypatch) -> None:
    home = Path.cwd()
    monkeypatch.chdir(runs / "whole")
    assert summary(Path()).config is not None
    code, _, err = cli("runs", "rm", ".", "--yes")
    assert code == 0, err
    monkeypatch.chdir(home)
    assert not Path("runs/whole").exists()


def test_without_any(in_tmp: Path, cli) -> None:
    code, out, err = cli("runs")
    assert (code, out) == (0, "")
    assert "There is no run in runs; fit-prior makes one." in err
    code, _, err = cli("runs", "list", "nowhere")
    assert (code, "There is no folder nowhere" in err) == (2, True)
