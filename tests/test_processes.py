"""Several processes share the likelihoods of one score, and one of them speaks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smoothctl.batches import evaluate, evaluate_shared
from smoothctl.errors import TrainingError
from smoothctl.processes import ALONE, Processes, check_launch, launched
from smoothctl.runs import Run


class Half(Processes):
    """One of several processes whose sum is taken by the test."""

    def total(self, tensor: Tensor) -> Tensor:
        return tensor


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [0, 1, 2, 5, 100])
def test_shares_are_one_cut(count: int, total: int) -> None:
    spans = [Processes(index, count).span(total) for index in range(count)]
    assert [row for start, stop in spans for row in range(start, stop)] == list(range(total))
    assert max(b - a for a, b in spans) - min(b - a for a, b in spans) <= 1


@pytest.mark.parametrize("n", [1, 2, 9])
def test_shares_add_up_to_the_whole(n: int) -> None:
    x, labels = torch.randn(n, 4), torch.arange(n)

    def function(x: Tensor, labels: Tensor) -> Tensor:
        return x.sum(1) + labels

    whole = evaluate(function, 2, x, labels=labels)
    parts = [evaluate_shared(Half(i, 3), function, 2, x, labels=labels) for i in range(3)]
    assert torch.equal(torch.stack(parts).sum(0), whole)
    assert torch.equal(evaluate_shared(ALONE, function, 2, x, labels=labels), whole)


def test_one_process_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched("cpu") == ALONE
    check_launch(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="started 2 processes.*one of 1"):
        check_launch(1)


def _score(run: Path, *launcher: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "smoothctl", "score", str(run), "--limit", "301"]
    command += ["--draws", "3,10", "--samples", "50", "--quadrature", "7", "--json"]
    command += ["--device", "cpu"]
    return subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_two_processes_score_as_one(trained_run: Run) -> None:
    """Two gloo ranks by Accelerate's launcher: same noise, half the rows each, one voice."""
    file = trained_run.path / "scores.json"
    file.unlink(missing_ok=True)
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--main_process_port", "0"]
    two, one = _score(trained_run.path, *launcher), _score(trained_run.path)
    assert (two.returncode, one.returncode) == (0, 0), two.stderr + one.stderr
    shared, alone = json.loads(two.stdout), json.loads(one.stdout)
    assert len(json.loads(file.read_text())) == 2
    for mine, theirs in zip(shared["likelihood"], alone["likelihood"], strict=True):
        assert mine["quantity"] == theirs["quantity"]
        assert mine["nats"] == pytest.approx(theirs["nats"], rel=1e-6)
        assert mine["standard_error"] == pytest.approx(theirs["standard_error"], rel=1e-5)
    assert shared["samples"] == alone["samples"]
    file.unlink()
