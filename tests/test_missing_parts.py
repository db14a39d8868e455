"""Without clean-fid, matplotlib, datasets or torchvision every verb works that does not need it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smoothctl.runs.run import Run
from tests.launches import ENVIRONMENT

pytestmark = pytest.mark.slow

CHILD = str(Path(__file__).with_name("without.py"))
PARTS = "clean-fid,matplotlib,datasets,torchvision"
FIT = ["--steps", "2", "--batch-size", "8", "--device", "cpu", "--set", "filters=4"]
FIT += ["--set", "blocks=1", "--set", "mixtures=1"]
FEW = ["--limit", "4", "--draws", "2", "--samples", "20", "--device", "cpu"]
NO_FIGURES = "Without a picture: Figures need matplotlib: run pip install matplotlib."

WORK = {
    "fit-baseline --dataset digits --out fitted": FIT,
    "fit-prior --dataset digits --out fitted": FIT,
    "fit-denoiser --out fitted": FIT,
    "sample images -n 2 --out samples.npz": [],
    "neighbours images -n 2 --features pixels --out neighbours.npz": [],
    "score images --features pixels --json": FEW,
    "score images": FEW,
    "compare images": [],
    "features list": [],
    "datasets show mnist": [],
    "kernels show gaussian": [],
    "plugins": [],
    "reproduce": [],
}
"""What needs none of the parts -> more words."""

ARRAYS_ALONE = {
    "sample images -n 2 --method all --out all.npz": [],
    "sample moons -n 9 --out moons.npz": [],
    "denoise test images -n 2 --draws 1 --out denoised.npz": [],
    "inpaint test images -n 2 --draws 1 --out inpainted.npz": [],
}
"""What writes arrays, and would write a picture that needs matplotlib."""

REPORTS = ["report images", "report moons"]
"""Pages, whose curves and samples of vectors need matplotlib."""

REFUSED = {
    "sample images -n 2 --method all --out all.png": "Figures need matplotlib: run pip install",
    "score images --features inception": "Resizing needs clean-fid (No module named 'cleanfid')",
    "fit-prior --dataset table.csv --out table": "run pip install datasets.",
}
"""What cannot do without a part -> the sentence that says so."""

QUICK = "quickstart --steps-factor 0.001 --out quick"
COMMANDS = {**WORK, **ARRAYS_ALONE, **{command: [] for command in (QUICK, *REPORTS, *REFUSED)}}


@pytest.fixture(scope="module")
def endings(
    digits_run: Run, trained_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str, str]]:
    """Command -> exit code, stdout and stderr."""
    folder = tmp_path_factory.mktemp("missing")
    shutil.copytree(digits_run.path, folder / "images")
    shutil.copytree(trained_run.path, folder / "moons")
    (folder / "table.csv").write_text("1,2\n3,4\n5,6\n7,8\n")
    words = [[*command.split(), *more] for command, more in COMMANDS.items()]
    child = subprocess.run(
        [sys.executable, CHILD, PARTS],
        input=json.dumps(words),
        capture_output=True,
        check=True,
        cwd=folder,
        env=ENVIRONMENT,
        text=True,
    )
    return dict(zip(COMMANDS, map(tuple, json.loads(child.stdout)), strict=True))


@pytest.mark.parametrize("command", WORK)
def test_verbs_that_need_none_of_them(endings, command: str) -> None:
    code, out, err = endings[command]
    assert code == 0, err
    assert out
    assert "pip install" not in out + err


@pytest.mark.parametrize("command", ARRAYS_ALONE)
def test_arrays_are_written_without_a_picture(endings, command: str) -> None:
    code, out, err = endings[command]
    assert (code, out.split()) == (0, [command.split()[-1]])
    assert NO_FIGURES in " ".join(err.split())


def test_the_quick_start_goes_without_its_picture(endings) -> None:
    code, out, err = endings[QUICK]
    assert code == 0, err
    assert "Run: quick" in out
    assert "Picture" not in out
    assert "Figures need matplotlib" in " ".join(err.split())


@pytest.mark.parametrize("command", REPORTS)
def test_a_page_says_what_it_cannot_draw(endings, command: str) -> None:
    code, out, err = endings[command]
    assert (code, out) == (0, f"{command.split()[1]}/report.html\n")
    said = " ".join(err.split())
    assert "The prior has no curves: Figures need matplotlib" in said
    assert ("Samples have no pictures" in said) == ("moons" in command)


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_done_is_said_in_a_sentence(endings, command: str) -> None:
    code, out, err = endings[command]
    assert (code, out) == (1, "")
    assert REFUSED[command] in " ".join(err.split())


def test_figures_name_the_versions_that_there_are(endings) -> None:
    scores = json.loads(endings["score images --features pixels --json"][1])
    assert set(scores["versions"]) == {"python", "torch", "numpy", "pillow"}
