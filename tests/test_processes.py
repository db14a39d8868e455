"""Several processes share the likelihoods of one score, and one of them speaks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smoothctl.distributed.processes import (
    ALONE,
    PATIENCE,
    Processes,
    check_launch,
    joined,
    launched,
    leave,
    lost,
    patience,
)
from smoothctl.errors import TrainingError, UsageError
from smoothctl.runs.run import Run
from smoothctl.smoothing.batching import Execution, evaluate, evaluate_long
from tests.launches import ENVIRONMENT, launcher


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

    whole = evaluate(function, 2, x, labels)
    executions = [Execution(processes=Half(i, 3)) for i in range(3)]
    parts = [evaluate_long("it", function, 2, x, labels, execution=each) for each in executions]
    assert torch.equal(torch.stack(parts).sum(0), whole)
    assert torch.equal(evaluate_long("it", function, 2, x, labels), whole)


def test_one_process_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched("cpu") == ALONE
    check_launch(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="started 2 processes.*one of 1"):
        check_launch(1)


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"])
@pytest.mark.parametrize("text", ["", "abc", "1.5", "-2", "9" * 5000], ids=ascii)
def test_what_is_no_number_of_a_launcher_is_told(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch, cli
) -> None:
    monkeypatch.setenv(variable, text)
    code, out, err = cli("--version")
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: The environment variable {variable} is '")
    assert err.count("\n") == 1


def test_a_rank_beyond_the_launch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="RANK is 2"):
        launched("cpu")


@pytest.mark.parametrize("size", [None, "1"])
def test_a_rank_alone_is_one_process(size: str | None, monkeypatch, cli) -> None:
    monkeypatch.setenv("RANK", "1")
    if size:
        monkeypatch.setenv("WORLD_SIZE", size)
    assert "gaussian" in cli.output("kernels", "list")
    assert cli("score", "nowhere")[2].startswith("Error: There is no run folder")


def test_half_an_import_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal leaves it behind: asking torch anything would import it again, and fail."""
    assert not joined()
    monkeypatch.delitem(sys.modules, "torch")
    leave()
    assert "torch" not in sys.modules


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    for name, value in {"WORLD_SIZE": "4", "LOCAL_RANK": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match="No GPU is left.*which has 2"):
        launched("auto")


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "1e300"])
def test_patience_is_a_number_of_seconds(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "2.5")
    assert patience().total_seconds() == 2.5
    monkeypatch.setenv(PATIENCE, text)
    with pytest.raises(UsageError, match=PATIENCE):
        patience()


@pytest.mark.parametrize(
    "said",
    [  # as gloo and torch's store of 2.14 said when a process was killed, stopped or never came
        "[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:16786. This is",
        "[gloo/transport/tcp/pair.cc:544] Read error [10.0.0.2]:61: Connection reset by peer",
        "[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 8000ms for recv operation",
        "[gloo/transport/tcp/unbound_buffer.cc:129] Timed out waiting 8000ms for send operation",
        "The client socket has timed out after 5000ms while trying to connect to (10.0.0.1, 29500)",
        "NCCL error: ncclRemoteError: A call failed possibly due to a network error",
    ],
)
def test_a_lost_process_is_recognised(said: str) -> None:
    assert lost(RuntimeError(said))
    assert not lost(ValueError(said))


@pytest.mark.parametrize("said", ["", "CUDA out of memory", "mat1 and mat2 shapes cannot be"])
def test_other_errors_lose_nobody(said: str) -> None:
    assert not lost(RuntimeError(said))
    assert not lost(None)


def _score(run: Path, *command: str) -> subprocess.CompletedProcess[str]:
    options = ["--draws", "3,10", "--samples", "50", "--quadrature", "7", "--json"]
    return subprocess.run(
        [*command, "score", str(run), "--limit", "301", *options, "--device", "cpu"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_score_as_one(trained_run: Run) -> None:
    """Two gloo ranks by Accelerate's launcher: same noise, half the rows each, one voice."""
    file = trained_run.path / "scores.json"
    file.unlink(missing_ok=True)
    two = _score(trained_run.path, *launcher())
    one = _score(trained_run.path, sys.executable, "-m", "smoothctl")
    assert (two.returncode, one.returncode) == (0, 0), two.stderr + one.stderr
    shared, alone = json.loads(two.stdout), json.loads(one.stdout)
    assert len(json.loads(file.read_text())) == 2
    for mine, theirs in zip(shared["likelihood"], alone["likelihood"], strict=True):
        assert mine["quantity"] == theirs["quantity"]
        assert mine["nats"] == pytest.approx(theirs["nats"], rel=1e-6)
        assert mine["standard_error"] == pytest.approx(theirs["standard_error"], rel=1e-5)
    assert shared["samples"] == alone["samples"]
    file.unlink()
