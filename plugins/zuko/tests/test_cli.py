"""The plugin from the command line: what is fitted is read back and scored."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smoothctl.cli import main

FAST = ["--steps", "20", "--batch-size", "64", "--device", "cpu", "--set", "width=8"]
Cli = Callable[..., str]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Returns a function that runs a command line, which must succeed, and returns its output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["smoothctl", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
            raise SystemExit(0)
        out, err = capsys.readouterr()
        assert not stopped.value.code, err
        return out

    return run


def test_a_run_of_all_stages(cli: Cli) -> None:
    architecture = ["--arch", "zuko-nsf"]
    cli("fit-baseline", *architecture, "--dataset", "rings", "--out", "run", *FAST)
    cli("fit-prior", *architecture, "--dataset", "rings", "--out", "run", *FAST)
    cli("fit-denoiser", "--out", "run", *FAST)
    few = ["--limit", "20", "--draws", "4", "--quadrature", "0", "--samples", "50"]
    scores = json.loads(cli("score", "run", *few, "--json"))
    values = [entry["nats"] for entry in scores["likelihood"]]
    assert len(values) >= 3
    assert all(math.isfinite(value) for value in values)


def test_the_experiment_and_the_architectures_are_listed(cli: Cli) -> None:
    names = {entry["name"] for entry in json.loads(cli("architectures", "list", "--json"))}
    assert {"zuko-maf", "zuko-nsf", "zuko-gmm"} <= names
    assert "zuko-smoothing" in cli("reproduce", "--json")
