"""What a shell offers at a TAB."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smoothctl.cli import completion
from smoothctl.runs.run import Run


def offered(*words: str) -> list[str]:
    """Returns what bash is offered for the last word."""
    line, number = " ".join(["smoothctl", *words]), str(len(words))
    asked = {"_SMOOTHCTL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": number}
    command = [sys.executable, "-c", "import sys; sys.argv = ['smoothctl'];"
               "from smoothctl.cli import main; main()"]  # fmt: skip
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit-prior", "--arch", "m"], ["made"]),
        (["reproduce", "inv"], ["inverse-u"]),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (["fit-prior", "--kernel", ""], ["gaussian", "laplace", "uniform"]),
                (["kernels", "show", "la"], ["laplace"]),
                (["fit-prior", "--arch", "made", "--set", "mix"], ["mixtures="]),
                (["fit-prior", "--set", "training.warm"], ["training.warmup="]),
            )
        ),
    ],
)
def test_names_and_settings(words: list[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_runs_and_data(trained_run: Run, in_tmp: Path) -> None:
    """Run folders wherever they are, those under runs/ first; then what may hold some."""
    shutil.copytree(trained_run.path, "runs/moons")
    shutil.copytree(trained_run.path, "elsewhere/moons")
    Path("runs/empty").mkdir()
    Path("rings.csv").touch()
    assert completion.runs("") == ["runs/moons"]
    assert completion.runs("runs/m") == ["runs/moons"]
    assert completion.runs("els") == ["elsewhere/"]
    assert completion.runs("elsewhere/") == ["elsewhere/moons"]
    assert completion.runs("/nowhere/at/all") == []
    assert completion.datasets("ring") == ["rings", "rings.csv"]
    assert not any(name.startswith(".") for name in completion.datasets(""))
