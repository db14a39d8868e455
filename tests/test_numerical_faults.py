"""Losses and gradients that are not finite, and memory that runs out."""

import math
import os
import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smoothctl.architectures.made import MADE
from smoothctl.datasets import open_dataset
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.errors import Interrupted, RunError, TrainingError
from smoothctl.runs.run import Run
from smoothctl.storage.files import new_folder
from smoothctl.storage.weights import read_weights, write_weights
from smoothctl.training.fit import Quiet, fit_baseline
from smoothctl.training.memory import fewer_rows
from tests.conftest import SMALL

STEPS, BATCH = 24, 32
TRAINING = {"steps": STEPS, "batch_size": BATCH, "warmup": 2, "log_every": 1}
TRAINING |= {"checkpoint_every": 5, "keep": 3, "validate_every": STEPS}
LIMIT = 3.32
"""Rows of two-moons beyond it are made to fail: a few in some of the batches."""


def far(x: Tensor) -> Tensor:
    return -x[:, 0]


class Notes(Quiet):
    """Keeps the notes, and sends a signal at a step."""

    def __init__(self, step: int = 0) -> None:
        self.step, self.notes = step, []

    def advance(self, step: int, loss: float) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)

    def note(self, message: str) -> None:
        self.notes.append(message)


def fit(out: Path, reporter: Quiet | None = None, **training: Any) -> Run:
    settings = {"dataset": "two-moons", "options": SMALL, "device": "cpu", "precision": "float64"}
    return fit_baseline(reporter, out=out, training={**TRAINING, **training}, **settings)


def weights(run: Run) -> dict[str, Tensor]:
    return read_weights(run.path / "baseline/model.safetensors")[0]


def same(a: Run, b: Run) -> bool:
    mine, theirs = weights(a), weights(b)
    return all(torch.equal(mine[key], theirs[key]) for key in mine)


def batch(step: int) -> Tensor:
    """Returns the examples of a step."""
    return open_dataset("two-moons").train.batch(0, 0, step * BATCH, (step + 1) * BATCH)


@cache
def bad_steps(limit: float = LIMIT) -> list[int]:
    return [step for step in range(STEPS) if (far(batch(step)) > limit).any()]


def break_loss(monkeypatch: pytest.MonkeyPatch, limit: float = LIMIT) -> None:
    """Makes the loss of a row beyond the limit NaN, while training."""
    whole = MADE.training_loss

    def broken(self: MADE, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        loss = whole(self, x, *rest, **named)
        return loss.where(far(x) <= limit, math.nan) if self.training else loss

    monkeypatch.setattr(MADE, "training_loss", broken)


def break_gradient(monkeypatch: pytest.MonkeyPatch, limit: float = LIMIT) -> None:
    """Makes the gradient of a row beyond the limit NaN, and leaves its loss finite."""
    whole = MADE.training_loss

    def broken(self: MADE, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        loss = whole(self, x, *rest, **named)
        root = (0 * loss).where(far(x) > limit, 1).sqrt()  # its slope at 0 is 0 · ∞
        return loss + root if self.training else loss

    monkeypatch.setattr(MADE, "training_loss", broken)


FAULTS = [break_loss, break_gradient]


def test_the_faults_are_in_some_steps() -> None:
    assert 2 < len(bad_steps()) < STEPS / 2
    assert bad_steps()[0] > 5


def test_stop_names_step_rows_and_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch)
    step = bad_steps()[0]
    rows = (far(batch(step)) > LIMIT).nonzero().flatten().tolist()
    with pytest.raises(TrainingError) as error:
        fit(tmp_path)
    assert f"The loss is not finite at step {step} (rows {rows} of its batch)" in str(error.value)
    last = 5 * (step // 5)
    assert f"checkpoint is {tmp_path}/baseline/checkpoints/step-{last:08d};" in str(error.value)
    assert (tmp_path / f"baseline/checkpoints/step-{last:08d}").is_dir()


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_gradient_stops_too_before_it_spoils_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float
) -> None:
    break_gradient(monkeypatch)
    with pytest.raises(TrainingError, match=f"gradient is not finite at step {bad_steps()[0]};"):
        fit(tmp_path, clip=clip)


@pytest.mark.parametrize("break_it", FAULTS)
@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_skip_counts_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Any, clip: float
) -> None:
    break_it(monkeypatch)
    reporter, missing = Notes(), len(bad_steps())
    run = fit(tmp_path, reporter, on_nan="skip", clip=clip)
    assert any(f"{missing} of {STEPS} steps were left out" in note for note in reporter.notes)
    log = run.stage("baseline").log()
    assert [entry.get("skipped", 0) for entry in log] == [
        sum(bad < entry["step"] for bad in bad_steps()) for entry in log
    ]
    assert log[-1]["skipped"] == missing
    state = read_weights(run.path / f"baseline/checkpoints/step-{STEPS:08d}/state.safetensors")[0]
    assert state["optimizer.0.step"] == STEPS - missing
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize("break_it", FAULTS)
def test_a_step_that_is_left_out_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Any
) -> None:
    break_it(monkeypatch, limit=-math.inf)
    short, long = (fit(tmp_path / str(n), steps=n, on_nan="skip") for n in (2, 12))
    monkeypatch.undo()
    assert same(short, long)
    assert not same(short, fit(tmp_path / "trained", steps=2))


@pytest.mark.parametrize("step", [7, 13, 16])
def test_what_was_left_out_is_left_out_after_a_stop_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    break_loss(monkeypatch)
    whole = fit(tmp_path / "whole", on_nan="skip")
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", Notes(step), on_nan="skip")
    cut = fit(tmp_path / "cut", on_nan="skip")
    assert same(whole, cut)
    ends = [run.stage("baseline").log()[-1]["skipped"] for run in (whole, cut)]
    assert ends[0] == ends[1] == len(bad_steps())


def test_without_faults_both_are_the_same_and_either_goes_on_with_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, skip = (fit(tmp_path / choice, on_nan=choice) for choice in ("stop", "skip"))
    assert same(stop, skip)
    break_loss(monkeypatch)
    with pytest.raises(TrainingError):
        fit(tmp_path / "c")
    reporter = Notes()
    fit(tmp_path / "c", reporter, on_nan="skip")
    assert any("Resumes" in note for note in reporter.notes)
    assert any("left out" in note for note in reporter.notes)


def test_a_hundred_in_a_row_end_and_the_last_good_checkpoint_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path, Notes(12), steps=200, on_nan="skip")
    break_loss(monkeypatch, limit=-math.inf)
    with pytest.raises(TrainingError, match=r"100 steps in a row, the last of them 111.*00000012"):
        fit(tmp_path, steps=200, on_nan="skip")
    saved = sorted(path.name for path in (tmp_path / "baseline/checkpoints").iterdir())
    assert saved == ["step-00000005", "step-00000010", "step-00000012"]


def test_a_run_of_before_the_setting_goes_on(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(tmp_path / "old", Notes(7))
    config = tmp_path / "old/baseline/config.toml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "on_nan" not in line))
    for folder in (tmp_path / "old/baseline/checkpoints").iterdir():
        tensors, metadata = read_weights(folder / "state.safetensors")
        del metadata["config"]["training"]["on_nan"]
        del metadata["progress"]["skipped"], metadata["progress"]["in_a_row"]
        with new_folder(folder) as new:
            write_weights(new / "state.safetensors", tensors, metadata)
    reporter = Notes()
    assert same(fit(tmp_path / "old", reporter), whole)
    assert any("at step 7" in note for note in reporter.notes)


def run_out_of_memory(monkeypatch: pytest.MonkeyPatch, rows: int) -> list[int]:
    """Lets no more than so many rows pass with gradients; returns the sizes that did pass."""
    whole, passed = MADE.training_loss, []

    def limited(self: MADE, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        if len(x) > rows * (1 if self.training else 4):
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        if self.training:
            passed.append(len(x))
        return whole(self, x, *rest, **named)

    monkeypatch.setattr(MADE, "training_loss", limited)
    return passed


@pytest.mark.parametrize(("rows", "accumulate"), [(31, 1), (8, 1), (1, 1), (3, 2)])
def test_out_of_memory_halves_a_pass_and_keeps_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, accumulate: int
) -> None:
    whole = fit(tmp_path / "whole")
    passed = run_out_of_memory(monkeypatch, rows)
    reporter = Notes()
    split = fit(tmp_path / "split", reporter, accumulate=accumulate)
    a, b = weights(whole), weights(split)
    assert all(torch.allclose(a[key], b[key], rtol=0, atol=1e-9) for key in a)
    assert sum(passed) == STEPS * BATCH
    assert sum("Out of memory" in note for note in reporter.notes) == 1
    assert any(f"goes on with {max(passed)}" in note for note in reporter.notes)
    losses = [[e["loss"] for e in run.stage("baseline").log()] for run in (whole, split)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


def test_memory_may_run_out_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done twice and nothing left out, also where an odd batch is halved."""
    whole = fit(tmp_path / "whole", batch_size=37)

    class Later(Notes):
        def advance(self, step: int, loss: float) -> None:
            if step == 10:
                run_out_of_memory(monkeypatch, 10)

    split = fit(tmp_path / "split", Later(), batch_size=37)
    a, b = weights(whole), weights(split)
    assert all(torch.allclose(a[key], b[key], rtol=0, atol=1e-9) for key in a)


def test_one_row_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_out_of_memory(monkeypatch, 0)
    with pytest.raises(TrainingError, match="with a single example: take a smaller model"):
        fit(tmp_path)


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        fewer_rows(RuntimeError("shapes do not match"), 8, 1, ALONE)


def test_several_processes_are_told_to_accumulate() -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    with pytest.raises(TrainingError, match=r"Process 1 on .*training.accumulate=6` "):
        fewer_rows(full, 8, 3, Processes(1, 2))


def test_a_folder_that_vanishes_ends_the_fit(tmp_path: Path) -> None:
    class Remover(Quiet):
        def advance(self, step: int, loss: float) -> None:
            if step == 7:
                (tmp_path / "run").rename(tmp_path / "elsewhere")

    with pytest.raises(RunError, match="run/baseline was removed or moved while it was in use"):
        fit(tmp_path / "run", Remover())
    assert not (tmp_path / "run").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "run")
    assert fit(tmp_path / "run").stages() == ["baseline"]
