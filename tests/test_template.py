"""The how-to of plugins works as it is written: every step runs in an environment of its own."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEPS = re.compile(r"```(shell|diff)\n(.*?)```", re.DOTALL)
FEWER = {
    "fit-prior": "--steps 4 --batch-size 64 --set training.validation_limit=64 --device cpu",
    "fit-denoiser": "--steps 4 --batch-size 64 --set training.validation_limit=64 --device cpu",
    "score": "--limit 40 --draws 2 --samples 40 --quadrature 2",
    "sample": "-n 40",
}
"""What makes each verb quick; later flags win."""


@pytest.fixture
def shell(tmp_path: Path):
    """Returns a function that runs a command line where `activate` of a new environment did."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    scripts = home / "bin"
    ours = sysconfig.get_path("purelib")
    (site,) = home.glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for name, module in {"pip": "pip", "pytest": "pytest", "smoothctl": "smoothctl"}.items():
        program = scripts / name
        program.write_text(f'#!/bin/sh\nexec "{scripts}/python" -m {module} "$@"\n')
        program.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    environment |= {
        "PATH": f"{scripts}{os.pathsep}{environment['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as --no-build-isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }

    def run(line: str, folder: Path) -> str:
        done = subprocess.run(
            line, shell=True, cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    return run


def _quick(line: str) -> str:
    words = line.split()
    return f"{line} {FEWER.get(words[1], '')}" if words[0] == "smoothctl" else line


def _apply(diff: str, folder: Path) -> None:
    """Applies hunks without line numbers, each of which must fit in one place."""
    head, *hunks = diff.split("@@\n")
    file = folder / head.removeprefix("--- ").strip()
    text = file.read_text(encoding="utf-8")
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_the_how_to_leads_to_a_working_plugin(shell, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "plugins" / "template", tmp_path / "plugins" / "template")
    folder, printed = tmp_path, {}
    for kind, text in STEPS.findall((ROOT / "docs/plugins.md").read_text(encoding="utf-8")):
        if kind == "diff":
            _apply(text, folder)
            continue
        for line in text.splitlines():
            command = line.removeprefix("$ ")
            if command.startswith("cd "):
                folder = folder / command.removeprefix("cd ")
            else:
                printed[command] = shell(_quick(command), folder)
    own = [row for row in printed["smoothctl plugins --check"].splitlines() if "wave" in row]
    assert len(own) == 3
    assert all(" ok " in row for row in own)
    assert "layers" in printed["smoothctl architectures show wave-mixture"]
    assert " passed" in printed["pytest"]
    assert "failed" not in printed["pytest"]
    assert "true entropy" in printed["smoothctl score runs/wave"]
    assert list((folder / "dist").glob("smoothctl_wave-0.1.0-*.whl"))
    assert list((folder / "runs/wave/samples").glob("two-step-*.npz"))


@pytest.mark.parametrize("name", ["my-template", "template-2", "x"])
def test_a_copy_is_whole_and_renamed(tmp_path: Path, name: str) -> None:
    script = ROOT / "plugins/template/new.py"
    subprocess.run([sys.executable, script, name], cwd=tmp_path, check=True)
    new, module = tmp_path / f"smoothctl-{name}", f"smoothctl_{name.replace('-', '_')}"
    project = (new / "pyproject.toml").read_text(encoding="utf-8")
    assert f'name = "smoothctl-{name}"' in project
    assert f'{name}-mixture = "{module}.architecture:Mixture"' in project
    text = "".join(f.read_text(encoding="utf-8") for f in new.rglob("*") if f.is_file())
    for old in ("smoothctl_template", "smoothctl-template", "template-banana"):
        assert old not in text.replace(name, "").replace(module, "")
    assert sum(path.is_file() for path in new.rglob("*")) == 7


@pytest.mark.parametrize("arguments", [[], ["../up"], ["Upper"], ["a b"], ["-x"], ["x" * 41]])
def test_odd_names_are_refused_and_nothing_is_written(tmp_path: Path, arguments) -> None:
    command = [sys.executable, ROOT / "plugins/template/new.py", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "NAME" in done.stderr or "lower-case" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "smoothctl-wave").mkdir()
    command = [sys.executable, ROOT / "plugins/template/new.py", "wave"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is there already" in done.stderr
