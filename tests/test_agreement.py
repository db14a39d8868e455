"""Two processes that share a fit stop at the same step, for the same reason, and say it alike."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smoothctl.architectures.made import MADE
from smoothctl.distributed.devices import check_strategy
from smoothctl.distributed.signals import Received
from smoothctl.errors import Interrupted, TrainingError
from smoothctl.runs.run import Run
from smoothctl.training.batches import BatchSchedule
from tests.training_child import fit, forked


def in_rank_1_at(call: int, fault: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """Returns what changes a loss of process 1: that of the call-th pass, counted from 1."""

    def arrange() -> None:
        whole, calls = MADE.training_loss, 0

        def changed(self: MADE, x: Tensor, *rest: Any, **named: Any) -> Tensor:
            nonlocal calls
            calls += self.training
            loss = whole(self, x, *rest, **named)
            return fault(loss) if self.training and calls == call else loss

        if os.environ["RANK"] == "1":
            MADE.training_loss = changed  # type: ignore[method-assign]

    return arrange


def nan(loss: Tensor) -> Tensor:
    return loss.where(torch.arange(len(loss)) != 3, math.nan)


def terminate(loss: Tensor) -> Tensor:
    os.kill(os.getpid(), signal.SIGTERM)
    return loss


def full(loss: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def other_rate() -> dict[str, Any]:
    return {"learning_rate": 0.01 if os.environ["RANK"] == "1" else 0.02}


SCENARIOS: dict[str, Callable[[Path], None]] = {}
"""What each process does in a folder of its own name, by the test that looks at it."""


def scenario(work: Callable[[Path], None]) -> Callable[[Path], None]:
    SCENARIOS[work.__name__] = work
    return work


@scenario
def stop(out: Path) -> None:
    in_rank_1_at(5, nan)()
    fit("made", out)


@scenario
def skip(out: Path) -> None:
    in_rank_1_at(5, nan)()
    fit("made", out, on_nan="skip")


@scenario
def interrupt(out: Path) -> None:
    in_rank_1_at(5, terminate)()
    fit("made", out)


@scenario
def memory(out: Path) -> None:
    in_rank_1_at(2, full)()
    fit("made", out)


@scenario
def settings(out: Path) -> None:
    fit("made", out, **other_rate())


@scenario
def folder(out: Path) -> None:
    fit("made", out if os.environ["RANK"] == "0" else out.with_name("another"))


@scenario
def twice(out: Path) -> None:
    fit("made", out)
    fit("made", out)


def all_scenarios(place: Path) -> None:
    fit("made", place / "first")
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    for name, work in SCENARIOS.items():
        codes = forked([partial(work, place / name)] * 2)
        print("\n" + json.dumps({"name": name, "codes": codes}), file=sys.stderr, flush=True)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes did in each scenario: exit codes, sentences and the run."""
    place = tmp_path_factory.mktemp("agreement")
    code = f"from tests.test_agreement import *; all_scenarios(Path({str(place)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = {}
    said: list[str] = []
    for line in filter(None, done.stderr.splitlines()):
        if line.startswith("{"):
            outcome = json.loads(line)
            name = outcome["name"]
            found[name] = {**outcome, "said": said, "run": Run(place / name)}
            said = []
        else:
            said.append(line)
    return found


@pytest.mark.slow
def test_both_stop_at_a_loss_that_is_not_finite_in_one(outcomes: dict[str, Any]) -> None:
    """Row 3 of process 1's half of a batch of 32 is row 19."""
    assert outcomes["stop"]["codes"] == [1, 1]
    said = outcomes["stop"]["said"]
    assert len(said) == 2
    assert said[0] == said[1]
    assert "The loss is not finite at step 4 (rows [19] of its batch)" in said[0]
    assert "checkpoints/step-00000003" in said[0]


@pytest.mark.slow
def test_both_leave_the_same_step_out(outcomes: dict[str, Any]) -> None:
    assert outcomes["skip"]["codes"] == [0, 0]
    log = outcomes["skip"]["run"].stage("prior").log()
    assert [entry.get("skipped", 0) for entry in log] == [0] * 4 + [1] * 4


@pytest.mark.slow
def test_both_stop_for_a_signal_that_one_receives(outcomes: dict[str, Any]) -> None:
    assert outcomes["interrupt"]["codes"] == [143, 143]
    assert all("Stopped at step 5 of 8" in line for line in outcomes["interrupt"]["said"])
    saved = sorted((outcomes["interrupt"]["run"].path / "prior/checkpoints").iterdir())
    assert saved[-1].name == "step-00000005"


@pytest.mark.slow
def test_out_of_memory_in_one_ends_both(outcomes: dict[str, Any]) -> None:
    assert outcomes["memory"]["codes"] == [1, 1]
    said = "\n".join(outcomes["memory"]["said"])
    assert "Process 1 on " in said
    assert "`training.accumulate=2` takes half as many" in said
    assert "Another process of this launch has ended" in said


@pytest.mark.slow
def test_both_must_fit_the_same(outcomes: dict[str, Any]) -> None:
    assert outcomes["settings"]["codes"] == [1, 1]
    assert "training.learning_rate: 0.02 → 0.01" in outcomes["settings"]["said"][0]
    assert not (outcomes["settings"]["run"].path).exists()


@pytest.mark.slow
def test_both_must_see_one_folder(outcomes: dict[str, Any]) -> None:
    assert outcomes["folder"]["codes"] == [1, 1]
    assert "Process 1 on " in outcomes["folder"]["said"][0]
    assert "finds no config.toml in " in outcomes["folder"]["said"][0]
    assert "where process 0 finds config.toml and no checkpoint" in outcomes["folder"]["said"][0]


@pytest.mark.slow
def test_both_find_a_complete_stage_complete(outcomes: dict[str, Any]) -> None:
    assert outcomes["twice"]["codes"] == [0, 0]
    names = {path.name for path in outcomes["twice"]["run"].path.iterdir()}
    assert names == {"prior"}


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_a_model_in_pieces_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    check_strategy()
    monkeypatch.setenv(variable, "true")
    with pytest.raises(TrainingError, match="cuts a model into pieces"):
        check_strategy()


def test_under_a_launcher_only_a_second_ctrl_c_interrupts_a_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not the one that the launcher passes on at once."""
    seconds = 0.0
    monkeypatch.setattr("smoothctl.distributed.signals.time.monotonic", lambda: seconds)
    for first in (signal.SIGINT, signal.SIGTERM):
        received = Received(launched=True)
        received(first, None)
        received(signal.SIGTERM, None)
        assert received.signum == first
    received = Received(launched=True)
    received(signal.SIGINT, None)
    seconds = 0.1
    received(signal.SIGINT, None)
    seconds = 9.0
    with pytest.raises(Interrupted, match="at once"):
        received(signal.SIGINT, None)


def test_a_cut_batch_has_the_rows_and_the_noise_of_a_whole_one() -> None:
    """And what is drawn beside the smoothing differs from pass to pass."""
    from smoothctl.distributed.processes import ALONE, Processes
    from smoothctl.training.fit import FitSettings, Quiet
    from smoothctl.training.settings import resolve

    def schedule(processes: Processes, accumulate: int) -> BatchSchedule:
        training = {"batch_size": 24, "accumulate": accumulate}
        settings = FitSettings(dataset="rings", kernel="laplace", sigma=0.3, training=training)
        plan = resolve("prior", settings, Quiet())
        return BatchSchedule(plan, False, processes, torch.device("cpu"))

    (whole,) = schedule(ALONE, 1).micro_batches(7)
    for count, accumulate, rows in ((2, 1, 12), (1, 3, 8), (2, 2, 4), (1, 1, 7), (3, 1, 3)):
        parts = []
        for rank in range(count):
            batches = schedule(Processes(rank, count), accumulate)
            batches.rows = rows
            parts += batches.micro_batches(7)
        parts.sort(key=lambda part: part.first)
        assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
        assert torch.equal(torch.cat([part.x_smooth for part in parts]), whole.x_smooth)
        assert sum(part.weight for part in parts) == pytest.approx(count)
        assert sum(part.last for part in parts) == count
        states = {bytes(part.generator.get_state().numpy()) for part in parts}
        assert len(states) == len({part.dropout_seed for part in parts}) == len(parts)
