"""Models that packages bring: every verb takes their names, and works on a copy of its own."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from smoothctl.errors import RunError, SmoothctlError
from smoothctl.runs.packaged import is_packaged
from smoothctl.runs.packed import pack_stage
from smoothctl.runs.run import Run, load_run, newest_run
from smoothctl.storage.weights import read_weights, write_weights
from tests.packages import write_package

MODULE = """
from pathlib import Path
from smoothctl.runs.packaged import PackagedModel
tiny = PackagedModel(Path(__file__).parent / "models" / "tiny", "tiny digits", "public domain")
"""


@pytest.fixture
def model(path: Path, trained_run: Run, in_tmp: Path, monkeypatch) -> Path:
    """The folder of the model `tiny-moons`, which an installed package brings; not yet a run."""
    monkeypatch.delitem(sys.modules, "tinyzoo", raising=False)  # another test's
    points = {"smoothctl.models": {"tiny-moons": "tinyzoo:tiny"}}
    write_package(path, "tiny-zoo", {"tinyzoo/__init__.py": MODULE}, points)
    folder = path / "tinyzoo/models/tiny"
    for stage in trained_run.stages():
        pack_stage(trained_run.stage(stage).weights_file(), folder / stage, "two-moons", half=True)
    (folder / "README.md").write_text("# tiny", encoding="utf-8")
    return folder


def test_a_name_is_taken_wherever_a_run_is(model, cli) -> None:
    assert "tiny-moons" in cli.output("models", "list")
    shown = json.loads(cli.output("models", "show", "tiny-moons", "--json"))
    assert shown["licence"] == "public domain"
    assert "fit-prior --dataset two-moons" in shown["prior by"]
    code, _, err = cli("sample", "tiny-moons", "-n", "4")
    assert code == 0
    assert "Puts the model tiny-moons of tiny-zoo 1.2 into runs/tiny-moons." in err
    for verb in ("score", "report", "compare", "inpaint test", "denoise test"):
        words = [*verb.split(), "tiny-moons"]
        words += ["--limit", "50", "--samples", "0"] if verb == "score" else []
        code, _, err = cli(*words)
        assert (code, "Puts" in err) == (0, False), err
    assert (Path("runs/tiny-moons/README.md")).read_text() == "# tiny"


def test_examples_come_along(model: Path, cli) -> None:
    """What a newcomer completes or denoises without any data."""
    np.savez(model / "examples.npz", samples=np.zeros((3, 2), np.float32))
    _, _, err = cli("sample", "tiny-moons", "-n", "2")
    examples = str(Path("runs/tiny-moons/examples.npz"))
    assert f"{examples} has examples to inpaint" in err
    for words in (["inpaint", examples], ["denoise", examples, "--add-noise"]):
        code, _, err = cli(*words, "tiny-moons", "--out", f"{words[0]}.npz")
        assert code == 0, err
        assert len(np.load(f"{words[0]}.npz")["samples"]) == 3


def test_halves_are_the_weights_rounded(model: Path, trained_run: Run) -> None:
    mine, theirs = (r.density("prior") for r in (trained_run, load_run("tiny-moons")))
    packed, _ = read_weights(model / "prior/model.safetensors")
    assert {x.dtype for x in packed.values() if x.is_floating_point()} == {torch.float16}
    for (name, x), y in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(x.half().float(), y.float()), name
    x = trained_run.dataset().test.head(500)
    assert torch.allclose(mine.log_prob(x).mean(), theirs.log_prob(x).mean(), atol=0.01)


def test_the_package_is_never_written_to(model: Path, cli) -> None:
    def content() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in model.rglob("*") if p.is_file()}

    before = content()
    cli.output("sample", "tiny-moons", "-n", "4")
    cli.output("report", "tiny-moons")
    assert content() == before


def test_a_path_wins_over_a_name(model: Path, trained_run: Run, in_tmp: Path) -> None:
    assert is_packaged("tiny-moons")
    assert is_packaged("tiny-zoo:tiny-moons")
    (in_tmp / "tiny-moons").symlink_to(trained_run.path)
    assert not is_packaged("tiny-moons")
    assert load_run("tiny-moons").path == Path("tiny-moons")


def test_a_folder_of_another_run_is_not_taken_for_the_model(model, trained_run, in_tmp) -> None:
    (in_tmp / "runs").mkdir()
    (in_tmp / "runs/tiny-moons").symlink_to(trained_run.path)
    with pytest.raises(RunError, match="is not the model tiny-moons of tiny-zoo 1.2: rename"):
        load_run("tiny-moons")


def test_damage_is_told_before_anything_is_copied(model: Path, in_tmp: Path) -> None:
    file = model / "denoiser/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        load_run("tiny-moons")
    assert not list(in_tmp.glob("runs/*"))
    assert not list(in_tmp.glob("runs/.*"))


def test_who_comes_second_takes_the_first_ones(model: Path, monkeypatch) -> None:
    rename = Path.rename

    def after_another(half: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        load_run("tiny-moons")
        return rename(half, target)

    monkeypatch.setattr(Path, "rename", after_another)
    assert load_run("tiny-moons").stages() == ["baseline", "prior", "denoiser"]
    assert [p.name for p in Path("runs").iterdir()] == ["tiny-moons"]


def test_what_a_killed_copy_left_is_no_run(model: Path, monkeypatch) -> None:
    def killed(half: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    monkeypatch.setattr("smoothctl.runs.packed.remove", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        load_run("tiny-moons")
    assert list(Path("runs").glob(".tiny-moons.*/prior/model.safetensors"))
    with pytest.raises(RunError, match="There is no run under runs/"):
        newest_run()


def test_a_place_that_cannot_be_written(model: Path, in_tmp: Path) -> None:
    (in_tmp / "runs").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=r"Cannot write runs/tiny-moons: "):
        load_run("tiny-moons")


def test_a_name_that_is_nearly_right(model: Path) -> None:
    with pytest.raises(RunError, match="no such model is installed; did you mean tiny-moons?"):
        load_run("tiny-moon")


def test_a_model_without_its_files(model: Path, in_tmp: Path) -> None:
    (model / "README.md").unlink()
    with pytest.raises(SmoothctlError, match=r"README\.md"):
        load_run("tiny-moons")
    assert not list(in_tmp.glob("runs/*"))


def test_weights_that_halves_cannot_hold(trained_run: Run, tmp_path: Path) -> None:
    tensors, metadata = read_weights(trained_run.stage("prior").weights_file())
    name = next(name for name, x in tensors.items() if x.is_floating_point())
    file = tmp_path / "model.safetensors"
    write_weights(file, {**tensors, name: tensors[name] + 1e6}, metadata)
    with pytest.raises(RunError, match="too large for half precision"):
        pack_stage(file, tmp_path / "packed", half=True)
