"""Disks that are full, read-only or gone: a sentence, earlier files whole, and the work goes on."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from smoothctl.errors import RunError
from smoothctl.evaluation.records import read_scores
from smoothctl.runs.run import Run, Stage, load_run
from smoothctl.storage.files import verify_manifest
from smoothctl.storage.weights import read_weights
from smoothctl.training.fit import Quiet, fit_prior

PAGE = 4096
SIZE = 1 << 20
FIT = {
    "dataset": "two-moons",
    "sigma": 0.3,
    "options": {"mixtures": 2, "width": 16, "layers": 2},
    "training": {
        **{"steps": 40, "batch_size": 64, "warmup": 5, "checkpoint_every": 8},
        **{"validate_every": 8, "log_every": 2, "validation_limit": 64},
    },
    "device": "cpu",
}
MOST = 40
"""Pages that a fit needs and more."""

FULL = "No space left on device"
Cli = Callable[..., tuple[int, str]]


def mount(path: Path, *options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    mount(path, f"size={SIZE}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing disturbed."""
    return fit_prior(**FIT, out=tmp_path_factory.mktemp("whole") / "run")


def leave(disk: Path, pages: int) -> None:
    """Fills a disk until so many pages are free."""
    free = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes((free.f_bavail * free.f_frsize // PAGE - pages) * PAGE))


def check_whole_files(stage: Stage) -> None:
    """Checks that nothing half-written is left, and that what there is can be read."""
    assert not list(stage.path.rglob("*.tmp"))
    for checkpoint in stage.checkpoints.glob("*"):
        verify_manifest(checkpoint, "state.safetensors")
    for weights in stage.path.glob("*.safetensors"):
        read_weights(weights)
    if stage.started:
        stage.config()


def check_same(run: Run, other: Run) -> None:
    for weights in ("last", "best"):
        one, two = (read_weights(r.stage("prior").weights_file(weights))[0] for r in (run, other))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    steps = [[entry["step"] for entry in r.stage("prior").log()] for r in (run, other)]
    assert steps[0] == steps[1]


def fit_through_full_disks(disk: Path, whole: Run, amounts: list[int]) -> int:
    """Fits with so many free pages, then with all of them; returns how often the disk was full."""
    full = 0
    for pages in amounts:
        leave(disk, pages)
        out = disk / f"run-{pages}"
        try:
            fit_prior(**FIT, out=out)
        except RunError as error:
            full += 1
            assert FULL in str(error)
            assert str(error).startswith("Cannot write ")
        check_whole_files(Run(out).stage("prior"))
        (disk / "ballast").unlink()
        check_same(fit_prior(**FIT, out=out), whole)
        check_whole_files(Run(out).stage("prior"))
        shutil.rmtree(out)
        assert not [path for path in disk.rglob("*") if path.is_file()]
    return full


def test_fitting_goes_on_after_a_full_disk(disk: Path, whole: Run) -> None:
    assert fit_through_full_disks(disk, whole, [0, 2, 7, 13]) == 4


@pytest.mark.slow
def test_fitting_goes_on_after_a_disk_that_was_full_anywhere(disk: Path, whole: Run) -> None:
    full = fit_through_full_disks(disk, whole, list(range(MOST)))
    print(f"{full} of {MOST} fits ended at a full disk")
    assert 10 < full < MOST


VERBS = {
    "sample": ("sample", "{run}", "--method", "smoothed", "-n", 2000, "--overwrite", "--out"),
    "report": ("report", "{run}", "--number", 50, "--overwrite", "--out"),
}


@pytest.mark.parametrize("verb", ["sample", pytest.param("report", marks=pytest.mark.slow)])
@pytest.mark.parametrize("pages", [0, 1, 2])
def test_what_was_written_before_stays(
    disk: Path, whole: Run, cli: Cli, verb: str, pages: int
) -> None:
    ending = {"sample": "npz", "report": "html"}[verb]
    command = [str(part).format(run=whole.path) for part in VERBS[verb]]
    assert cli(*command, disk / f"a.{ending}")[0] == 0
    before = {path.name: path.read_bytes() for path in disk.iterdir()}
    leave(disk, pages)
    code, _, said = cli(*command, disk / f"a.{ending}")
    assert code == 1
    assert said.count("Error: ") == 1
    assert FULL in said
    (disk / "ballast").unlink()
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == before
    assert cli(*command, disk / f"a.{ending}")[0] == 0
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == before


def test_scores_stay(disk: Path, whole: Run, cli: Cli) -> None:
    run = disk / "run"
    shutil.copytree(whole.path, run)
    command = ("score", run, "--samples", 0, "--limit", 50, "--quadrature", 2, "--draws", 1)
    assert cli(*command)[0] == 0
    before = read_scores(run)
    leave(disk, 0)
    code, _, said = cli(*command, "--seed", 1)
    assert (code, said.count("Error: "), FULL in said) == (1, 1, True)
    assert read_scores(run) == before
    (disk / "ballast").unlink()
    assert cli(*command, "--seed", 1)[0] == 0
    assert read_scores(run)[:-1] == before
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_a_read_only_disk(disk: Path, whole: Run, cli: Cli) -> None:
    """Everything that only reads works there; what would write says so, and changes nothing."""
    shutil.copytree(whole.path, disk / "run")
    before = sorted(path for path in disk.rglob("*"))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    said = "Read-only file system"
    load_run(disk / "run").density("prior")
    config = disk / "run" / "prior" / "config.toml"
    code, _, error = cli("fit-prior", "--config", config, "--out", disk / "run", "--device", "cpu")
    assert (code, "already complete" in error) == (0, True), error
    out = disk.parent / "x.npz"
    assert cli("sample", disk / "run", "--method", "smoothed", "-n", 5, "--out", out)[0] == 0
    assert cli("report", disk / "run", "--number", 5, "--out", disk.parent / "x.html")[0] == 0
    for command in (
        ("fit-prior", "--out", disk / "new", "--dataset", "two-moons", "--steps", 2),
        ("fit-denoiser", "--out", disk / "run", "--steps", 2),
        ("sample", disk / "run", "--method", "smoothed", "-n", 5),
        ("score", disk / "run", "--samples", 0, "--limit", 5, "--quadrature", 0, "--draws", 1),
        ("report", disk / "run", "--number", 5),
    ):
        code, _, error = cli(*command)
        assert (code, error.count("Error: "), said in error) == (1, 1, True), (command, error)
    assert sorted(path for path in disk.rglob("*")) == before


class Remover(Quiet):
    """Removes or moves a folder when training comes to a step."""

    def __init__(self, act: Callable[[], object], step: int) -> None:
        self.act, self.step = act, step

    def advance(self, step: int, loss: float) -> None:
        """Acts once."""
        if step == self.step:
            self.act()


@pytest.mark.parametrize(
    ("what", "step"), [("run", 1), ("run", 39), ("run/prior", 9), (".", 8), (".", 39)]
)
def test_a_folder_that_vanishes(tmp_path: Path, whole: Run, what: str, step: int) -> None:
    """Nothing is written where it was; moved back, the work goes on to the same end."""
    work = tmp_path / "work"
    away = Remover(lambda: (work / what).rename(tmp_path / "away"), step)
    with pytest.raises(RunError, match="removed or moved|No such file"):
        fit_prior(away, **FIT, out=work / "run")
    assert not (work / what / "prior").exists()
    assert not list(tmp_path.rglob("*.tmp"))
    if (work / what).exists():
        (work / what).rmdir()
    (work / what).parent.mkdir(exist_ok=True)
    (tmp_path / "away").rename(work / what)
    check_same(fit_prior(**FIT, out=work / "run"), whole)
