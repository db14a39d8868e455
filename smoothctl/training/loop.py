"""The training loop: a pure function of the configuration, whenever and however often it stops."""

import json
import math
import time
import warnings
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache

from smoothctl.distributed.agreement import Agreement
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.distributed.signals import Received, caught
from smoothctl.errors import Interrupted, RunError, TrainingError
from smoothctl.rng import generator
from smoothctl.runs.run import Weights
from smoothctl.storage.files import append_line, remove, sync, write_bytes
from smoothctl.storage.locks import Lock
from smoothctl.storage.weights import write_weights
from smoothctl.training.batches import BatchSchedule
from smoothctl.training.checkpoints import Checkpoints, TrainingState
from smoothctl.training.folder import check_same_folder, last_good
from smoothctl.training.preview import Preview
from smoothctl.training.reporter import Plan, Reporter
from smoothctl.training.schedule import learning_rate
from smoothctl.training.settings import FitPlan
from smoothctl.training.step import Learner, Objective, StepResult
from smoothctl.training.validation import Validation

__all__ = ["Trainer"]

_ADVICE = "a lower learning rate or more clipping may help"
_LOST_AFTER = 100
"""Steps in a row that are left out before the weights count as lost."""


class _Clock(NamedTuple):
    """When a line of the log was written: seconds of the wall's and the process's clock, step."""

    wall: float
    cpu: float
    step: int


class Trainer:
    """Fits one stage.

    Args:
        plan: what is fitted to what, and where.
        objective: the density, untrained or with the weights that it starts from.
        accelerator: device and precision.
        reporter: told about progress.
        processes: those that share each step; the first alone writes.
        lock: on the stage's folder, checked before anything is written.
    """

    def __init__(
        self,
        plan: FitPlan,
        objective: Objective,
        accelerator: Accelerator,
        reporter: Reporter,
        processes: Processes = ALONE,
        lock: Lock | None = None,
    ) -> None:
        self.config, self.training, self.stage = plan.config, plan.config.training, plan.stage
        self.accelerator, self.reporter = accelerator, reporter
        self.processes, self.lock = processes, lock
        self.density, device = objective.density, accelerator.device
        labelled = self.density.classes is not None
        self.batches = BatchSchedule(plan, labelled, processes, device)
        if shortfall := self.batches.shortfall():
            reporter.note(shortfall)
        objective.to(device)
        self._initialize(objective)
        self.learner = Learner(objective, self.batches, accelerator)
        self.validation = Validation(objective, plan.dataset.validation, self.batches)
        self.preview, self.preview_every = None, plan.settings.preview
        if self.preview_every:
            view = plan.dataset.validation
            self.preview = Preview(objective, view, self.batches, self.stage)
        self.checkpoints = Checkpoints(self.stage.checkpoints, self.config, reporter.note)
        self.state = TrainingState()

    def _initialize(self, objective: Objective) -> None:
        if self.config.init_from is not None:
            return  # its scales are those of the weights that it starts from
        x = self.batches.first(self.density.first_batch)
        with torch.no_grad():
            sigma = self.batches.sigmas(len(x), "initialise")
            x_smooth = self.batches.smooth(x, generator(self.config.seed, "initialise"), sigma)
            objective.initialize(x, x_smooth, sigma)

    def run(self) -> None:
        """Trains from the last good checkpoint to the end and writes model.safetensors.

        Raises:
            TrainingError: a loss or gradient is not finite, or the processes do not fit.
            Interrupted: Ctrl-C or SIGTERM, after a checkpoint was saved.
            RunError: a file cannot be written.
        """
        self._resume()
        self.reporter.start(self._plan())
        self._clock = _Clock(time.monotonic(), time.process_time(), self.state.step)
        try:
            with torch.random.fork_rng(devices=self._gpus()), caught() as received:
                with warnings.catch_warnings():  # of 1×1 convolutions, and of no consequence
                    warnings.filterwarnings("ignore", message="Grad strides do not match")
                    self._train(received)
                if received.signum:
                    raise Interrupted(f"Stopped; {self.stage.path} is complete.", received.signum)
        finally:
            self.reporter.finish()

    def _plan(self) -> Plan:
        return Plan(
            title=f"{self.config.stage} ({self.config.architecture})",
            parameters=sum(p.numel() for p in self.learner.parameters),
            examples=len(self.batches.view),
            batch=self.batches.batch_size,
            done=self.state.step,
            steps=self.training.steps,
            unit=self.config.unit(self.density.loss_in_nats()),
            folder=self.stage.path,
        )

    def _gpus(self) -> list[int]:
        device = self.accelerator.device
        return [device.index or 0] if device.type == "cuda" else []

    def _train(self, received: Received) -> None:
        agreement = Agreement(self.processes, received)
        steps = self.training.steps
        for step in range(self.state.step, steps):
            rows, rate, done = self.batches.rows, learning_rate(step, self.training), step + 1
            result = self.learner.step(step, rate, agreement)
            self._count(done, result)
            self.reporter.advance(done, result.loss)
            entry = {"step": done, "loss": result.loss, "gradient_norm": result.gradient_norm}
            if done == steps or done % self.training.validation_interval == 0:
                entry |= self._validate()
            self._show(done)
            self._note_memory(rows)
            if "validation" in entry or done == 1 or done % self.training.log_every == 0:
                self._log({**entry, "learning_rate": rate})
            if done == steps or self._is_due():
                self._save()
            if agreement.signum and done < steps:
                self._stop(agreement.signum)
        self._finish()

    def _count(self, done: int, result: StepResult) -> None:
        """Counts a step, and in a row those whose loss or gradient is not finite.

        Raises:
            TrainingError: such steps end the run, or there were too many in a row.
        """
        if not result.fault:
            self.state.in_a_row = 0
        elif self.training.on_nan == "stop":
            raise TrainingError(
                f"The {result.fault} is not finite at step {done - 1}{result.where}; "
                f"{last_good(self.stage)}; {_ADVICE}, or `on_nan=skip`, which leaves "
                "such steps out."
            )
        else:
            self.state.skipped += 1
            self.state.in_a_row += 1
            if self.state.in_a_row == _LOST_AFTER:
                raise TrainingError(
                    f"The {result.fault} was not finite in {_LOST_AFTER} steps in a row, the last "
                    f"of them {done - 1}{result.where}: the weights are lost; "
                    f"{last_good(self.stage)}; {_ADVICE}."
                )
        self.state.step = done

    def _is_due(self) -> bool:
        """Returns whether a checkpoint is; none replaces a good one while steps are left out."""
        due = self.state.step % self.training.checkpoint_interval == 0
        return due and not self.state.in_a_row

    def _validate(self) -> dict[str, float]:
        """Returns the held-out loss and, of a denoiser, the gain from x̃ in nats."""
        loss, gain = self._validation_that_fits()
        done = self.state.step
        if not math.isfinite(loss):
            raise TrainingError(
                f"The validation loss is not finite at step {done}; {last_good(self.stage)}; "
                f"{_ADVICE}."
            )
        if not loss >= self.state.best:
            self.state.best, self.state.best_step = loss, done
            self._write_weights("best")
        self.reporter.validated(done, loss, gain)
        return {"validation": loss} | ({} if gain is None else {"gain": gain})

    def _show(self, done: int) -> None:
        """Draws samples where it is time; the first process alone does."""
        last = done == self.training.steps
        if self.preview is None or not (last or done % self.preview_every == 0):
            return
        if self._writes():
            with self.learner.averaged():
                samples = self.preview.write(done)
            if samples is not None:
                self.reporter.previewed(done, samples)

    def _validation_that_fits(self) -> tuple[float, float | None]:
        """Returns loss and gain, begun again with smaller micro-batches until they fit."""
        while True:
            try:
                with self.learner.averaged():
                    return self.validation.loss(), self.validation.gain()
            except RuntimeError as error:
                self.batches.halve(error)
            clear_device_cache(garbage_collection=True)

    def _note_memory(self, rows: int) -> None:
        """Tells that micro-batches of so many rows did not fit, where they have become smaller."""
        if self.batches.rows < rows:
            accumulate = self.training.accumulate * rows // self.batches.rows
            self.reporter.note(
                f"Out of memory with {rows} examples in a micro-batch: goes on with "
                f"{self.batches.rows}, which add up to the same steps; `training.accumulate="
                f"{accumulate}` says so from the start."
            )

    def _log(self, entry: dict[str, float]) -> None:
        if not self._writes():
            return
        before, now = self._clock, _Clock(time.monotonic(), time.process_time(), self.state.step)
        self._clock = now
        rate = (now.step - before.step) / max(now.wall - before.wall, 1e-9)
        entry["steps_per_second"] = round(rate, 2)
        entry["cpu_seconds"] = round(now.cpu - before.cpu, 2)
        if self.state.skipped:
            entry["skipped"] = self.state.skipped
        finite = {key: value for key, value in entry.items() if math.isfinite(value)}
        append_line(self.stage.log_file, json.dumps(finite))

    def _writes(self) -> bool:
        """Returns whether this process writes; checks that the folder is still its own."""
        if self.lock is not None:
            self.lock.check()
            if not self.stage.started:
                raise RunError(f"{self.stage.path} was removed or moved while it was fitted.")
        return self.processes.is_first

    def _save(self) -> None:
        if self._writes():
            if self.stage.log_file.is_file():
                sync(self.stage.log_file)
            self.checkpoints.save(self.learner.state(), self.state)

    def _resume(self) -> None:
        checkpoint = self.checkpoints.latest()
        step = 0 if checkpoint is None else checkpoint[1].step
        check_same_folder(self.processes, self.stage, step)
        if checkpoint is None:
            if self._writes():
                remove(self.stage.log_file)
            return
        tensors, self.state = checkpoint
        self.learner.load(tensors)
        done = f"step {step} of {self.training.steps}"
        self.reporter.note(f"Resumes {self.stage.path} at {done}.")
        if self._writes():
            self.checkpoints.prune(step)
            self._rewind_log()

    def _rewind_log(self) -> None:
        """Drops the lines that were written after the checkpoint."""
        kept = [e for e in self.stage.log() if e["step"] <= self.state.step]
        lines = "".join(json.dumps(entry) + "\n" for entry in kept)
        write_bytes(self.stage.log_file, lines.encode())

    def _stop(self, signum: int) -> None:
        """Saves, unless that was just done, and ends; all processes wait for the first."""
        if not self._is_due():
            self._save()
        self.processes.first(None)
        raise Interrupted(
            f"Stopped at step {self.state.step} of {self.training.steps} and saved it; "
            "the same command goes on from there.",
            signum,
        )

    def _finish(self) -> None:
        self._write_weights("last")
        if self.state.skipped:
            self.reporter.note(
                f"{self.state.skipped} of {self.training.steps} steps were left out, as their "
                "loss or gradient was not finite."
            )

    def _write_weights(self, which: Weights) -> None:
        if self._writes():
            with self.learner.averaged():
                weights = self.density.state_dict()
                write_weights(self.stage.weights_file(which), weights, self.config.to_dict())
