"""A run that is packed, sent somewhere and taken back is the same model, and nothing else."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import smoothctl
from smoothctl.errors import RunError, UsageError
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling.draw import draw
from smoothctl.sharing.pack import pack, unpack
from smoothctl.testing import CommandLine
from tests.hub import hub


@pytest.fixture
def run(trained_run: Run, tmp_path: Path) -> Run:
    """A run that was scored and has samples, and files that are nobody's business."""
    shutil.copytree(trained_run.path, tmp_path / "mine")
    (tmp_path / "mine/notes.txt").write_text("secret")
    return load_run(tmp_path / "mine")


def files_of(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


STAGES = ("baseline", "denoiser", "prior")
PACKED = {f"{s}/{n}" for s in STAGES for n in ("config.toml", "manifest.json", "model.safetensors")}


@pytest.mark.parametrize("name", ["theirs", "theirs-0.5", "theirs.zip"])
def test_packed_and_taken_back_it_is_the_same_model(run: Run, tmp_path: Path, name: str) -> None:
    packed = pack(run, tmp_path / name, "mit")
    back = load_run(unpack(packed, tmp_path / "back"))
    assert files_of(back.path) == PACKED | {"README.md"}
    assert torch.equal(draw(back, "two-step", 50).samples, draw(run, "two-step", 50).samples)
    assert back.config() == run.config()
    unpack(packed, tmp_path / "back")  # again


def test_the_same_run_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    first, second = (pack(run, tmp_path / f"{n}/m.zip") for n in (1, 2))
    assert first.read_bytes() == second.read_bytes()


def test_half_precision_is_half_as_large(run: Run, tmp_path: Path) -> None:
    whole, half = (pack(run, tmp_path / name, half=name == "half") for name in ("whole", "half"))
    sizes = [(each / "denoiser/model.safetensors").stat().st_size for each in (half, whole)]
    assert sizes[0] < 0.75 * sizes[1]
    x = draw(load_run(unpack(half, tmp_path / "back")), "two-step", 50).samples
    assert x.isfinite().all()


@pytest.mark.slow
def test_the_card(run: Run, tmp_path: Path, cli: CommandLine) -> None:
    """What the hub reads, the figures, and commands that fit it again."""
    from huggingface_hub import ModelCard

    cli.output("score", run.path, "--limit", 40, "--samples", 40, "--quadrature", 0, "-q")
    cli.output("sample", run.path, "-n", 20, "-q")
    card = ModelCard.load(pack(run, tmp_path / "theirs", "cc0-1.0") / "README.md")
    told = card.data.to_dict()
    assert (told["library_name"], told["license"]) == ("smoothctl", "cc0-1.0")
    metrics = {each.metric_type: each.metric_value for each in card.data.eval_results or []}
    scores = json.loads((run.path / "scores.json").read_text())[-1]
    assert (
        metrics["nats"] == [e for e in scores["likelihood"] if e["model"] == "two-step"][-1]["nats"]
    )
    assert "![samples](samples.png)" in card.text
    assert (tmp_path / "theirs/samples.png").is_file()
    assert f"$ {tmp_path}" not in card.text
    assert str(tmp_path) not in card.text
    digest = card.text.split("| prior | made |")[1].split("|")[2].strip()
    weights = (tmp_path / "theirs/prior/model.safetensors").read_bytes()
    assert digest == hashlib.sha256(weights).hexdigest()
    for command in card.text.split("### Fitted by")[1].splitlines():
        if command.startswith("smoothctl fit-"):
            words = [*command.split()[1:-2], "--out", "again", "--device", "cpu", "-q"]
            assert cli(*words)[0] == 0
    again = torch.equal(
        draw(load_run("again"), "two-step", 9).samples, draw(run, "two-step", 9).samples
    )
    assert again


def test_what_is_there_is_left(run: Run, tmp_path: Path) -> None:
    packed = pack(run, tmp_path / "theirs")
    with pytest.raises(RunError, match="there already"):
        pack(run, tmp_path / "theirs")
    with pytest.raises(RunError, match="holds something else"):
        unpack(packed, tmp_path / "mine")
    assert (tmp_path / "mine/notes.txt").read_text() == "secret"
    with pytest.raises(UsageError, match=r"no[tw]? .*x\.tar"):
        pack(run, tmp_path / "x.tar")


def test_damage_is_said_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    packed = pack(run, tmp_path / "theirs.zip")
    for at in (0.1, 0.5, 0.999):
        content = bytearray(packed.read_bytes())
        content[int(at * len(content))] ^= 1
        (tmp_path / "bad.zip").write_bytes(content)
        try:
            back = load_run(unpack(tmp_path / "bad.zip", tmp_path / "back"))
        except RunError:
            assert not (tmp_path / "back").exists()
        else:  # in the card or a date
            assert torch.equal(draw(back, "two-step", 9).samples, draw(run, "two-step", 9).samples)
            shutil.rmtree(tmp_path / "back")
    (tmp_path / "bad.zip").write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(RunError, match="no packed run"):
        unpack(tmp_path / "bad.zip", tmp_path / "back")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_nothing_else_is_taken(run: Run, tmp_path: Path) -> None:
    """Names that lead elsewhere, code, absurd sizes, a manifest that vouches for other bytes."""
    packed = pack(run, tmp_path / "theirs.zip")
    with zipfile.ZipFile(packed, "a") as file:
        file.writestr("../outside.txt", "x")
        file.writestr("prior/evil.py", "x")
        file.writestr("evil.pkl", "x")
    back = unpack(packed, tmp_path / "back")
    assert files_of(back) == PACKED | {"README.md"}
    assert not (tmp_path / "outside.txt").exists()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("prior/config.toml", "#" * 2**24)
    with pytest.raises(RunError, match="larger than"):
        unpack(tmp_path / "bomb.zip", tmp_path / "bomb")
    folder = unpack(packed, tmp_path / "changed")
    config = folder / "prior/config.toml"
    config.write_text(config.read_text().replace("0.3", "0.4"))
    with pytest.raises(RunError, match="damaged"):
        unpack(folder, tmp_path / "more")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as file:
        file.writestr("README.md", "x")
    with pytest.raises(RunError, match="no stage"):
        unpack(tmp_path / "none.zip", tmp_path / "more")


def test_a_full_disk_leaves_nothing(run: Run, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("smoothctl.sharing.pack.zipfile.ZipFile", full)
    with pytest.raises(RunError, match="No space left"):
        pack(run, tmp_path / "theirs.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}


def test_the_verbs(run: Run, cli: CommandLine) -> None:
    assert cli.output("pack", "mine").strip() == "mine.zip"
    assert cli.output("pull", "mine.zip", "--out", "runs/theirs").strip() == "runs/theirs"
    cli.output("sample", "runs/theirs", "-n", 5)
    assert smoothctl.load("mine.zip").path == Path("runs/mine")
    for words, said in (
        (("pull", "nothing"), "There is no nothing"),
        (("pull", "mine.zip", "--revision", "x"), "--revision is for the hub"),
        (("pack", "mine", "--out", "x.tar"), "folder or a .zip"),
        (("push", "mine", "a/b/c"), "no owner/name"),
    ):
        code, _, err = cli(*words)
        assert code == 2, err
        assert said in err


@pytest.fixture
def at_hub(tmp_path: Path):
    """Runs commands as a person would, with a hub that is a double, and a home of their own."""
    with hub() as server:

        def smoothctl_(*words: object, **variables: str) -> tuple[int, str]:
            environment = {
                **os.environ,
                "HF_ENDPOINT": server.address,
                "HF_HUB_OFFLINE": "0",
                "HF_TOKEN": "hf_double",
                "HF_HOME": str(tmp_path / "hf"),
                "HF_HUB_DISABLE_XET": "1",
                "PYTHONPATH": str(Path(smoothctl.__file__).parents[1]),
                **variables,
            }
            done = subprocess.run(
                [sys.executable, "-m", "smoothctl", *map(str, words)],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            return done.returncode, done.stdout + done.stderr

        yield server, smoothctl_


@pytest.mark.slow
def test_to_the_hub_and_back(run: Run, tmp_path: Path, at_hub) -> None:
    server, smoothctl_ = at_hub
    code, said = smoothctl_("push", "mine", "somebody/moons", "--licence", "mit")
    assert code == 0, said
    assert f"{server.address}/somebody/moons" in said
    assert set(server.repositories["somebody/moons"]) - {".gitattributes"} == PACKED | {"README.md"}
    server.repositories["somebody/moons"]["evil.py"] = b"raise SystemExit"
    code, said = smoothctl_("pull", "somebody/moons")
    assert code == 0, said
    back = load_run(tmp_path / "runs/moons")
    assert files_of(back.path) == PACKED | {"README.md"}
    assert torch.equal(draw(back, "two-step", 20).samples, draw(run, "two-step", 20).samples)
    assert not any("evil" in asked for asked in server.asked)
    code, said = smoothctl_("pull", "somebody/moons", "--out", "again", HF_HUB_OFFLINE="1")
    assert code == 0, said  # from the hub's own cache


@pytest.mark.slow
def test_what_the_hub_does_not_have_or_refuses(run: Run, tmp_path: Path, at_hub) -> None:
    server, smoothctl_ = at_hub
    for words, variables in (
        (("pull", "somebody/nothing"), {}),
        (("push", "mine", "somebody/moons"), {"HF_HUB_OFFLINE": "1"}),
    ):
        code, said = smoothctl_(*words, **variables)
        assert code == 1, said
        assert "the hub:" in said
        assert "Traceback" not in said
    server.refuses = True
    code, said = smoothctl_("push", "mine", "somebody/moons")
    assert code == 1
    assert "cannot be sent to the hub" in said
    assert not (tmp_path / "runs").exists()
