"""The training loop: a pure function of the configuration, whenever and however often it stops."""

import json
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor

from smoothctl.datasets.base import View
from smoothctl.distributed.processes import ALONE, Processes
from smoothctl.distributed.signals import Received, caught
from smoothctl.errors import Interrupted, RunError, TrainingError
from smoothctl.rng import generator
from smoothctl.runs.config import StageConfig
from smoothctl.runs.run import Stage, Weights
from smoothctl.storage.files import append_line, remove, write_bytes
from smoothctl.storage.locks import Lock
from smoothctl.storage.weights import write_weights
from smoothctl.training.agreement import Agreement, check_same_folder
from smoothctl.training.batches import Feed, Pass
from smoothctl.training.checkpoints import Checkpoints, Progress, load_optimizer, optimizer_tensors
from smoothctl.training.folder import last_good
from smoothctl.training.memory import Room
from smoothctl.training.objectives import Objective
from smoothctl.training.reporter import Plan, Reporter
from smoothctl.training.schedule import learning_rate
from smoothctl.training.validation import Validation

__all__ = ["Trainer"]

_LOST_AFTER = 100
"""Steps in a row that are left out before the weights count as lost."""


class Trainer:
    """Fits one stage.

    Args:
        config: the stage's full configuration.
        objective: density and kernel.
        train: the examples to fit.
        validation: the examples to validate on.
        stage: the stage's folder.
        accelerator: device and precision.
        reporter: told about progress.
        processes: those that share each step; the first alone writes.
        lock: on the stage's folder, checked before anything is written.
    """

    def __init__(
        self,
        config: StageConfig,
        objective: Objective,
        train: View,
        validation: View,
        stage: Stage,
        accelerator: Accelerator,
        reporter: Reporter,
        processes: Processes = ALONE,
        lock: Lock | None = None,
    ) -> None:
        self.config, self.training, self.stage = config, config.training, stage
        self.accelerator, self.reporter = accelerator, reporter
        self.processes, self.lock = processes, lock
        device, labelled = accelerator.device, objective.density.classes is not None
        self.feed = Feed(
            config, train, objective.kernel, labelled, processes, device, reporter.note
        )
        self.room = Room(self.feed.share, self.training.accumulate, processes, reporter.note)
        self.objective = objective.to(device)
        self._initialize()
        self.parameters: list[Tensor] = [p for p in objective.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        betas = (self.training.beta1, self.training.beta2)
        adam = torch.optim.Adam(self.parameters, lr=0.0, betas=betas, fused=True)
        forward = torch.compile(objective) if self.training.compile else objective
        self.model, self.optimizer = accelerator.prepare(forward, adam)
        self.checkpoints = Checkpoints(stage.checkpoints, self.training.keep, config, reporter.note)
        self.progress = Progress()
        self.validation = Validation(
            self.objective, validation, self.training.validation_limit, self.feed, self.room.within
        )

    def _initialize(self) -> None:
        if self.config.init_from is not None:
            return  # its scales are those of the weights that it starts from
        x = self.feed.first(self.objective.density.first_batch)
        with torch.no_grad():
            self.objective.initialize(x, generator(self.config.seed, "initialise"))

    def run(self) -> None:
        """Trains from the last good checkpoint to the end and writes model.safetensors.

        Raises:
            TrainingError: a loss or gradient is not finite, or the processes do not fit.
            Interrupted: Ctrl-C or SIGTERM, after a checkpoint was saved.
            RunError: a file cannot be written.
        """
        self._resume()
        self.reporter.start(self._plan())
        self._clock = (time.monotonic(), self.progress.step)
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
        density = self.objective.density
        return Plan(
            title=f"{self.config.stage} ({self.config.architecture})",
            parameters=sum(p.numel() for p in self.parameters),
            examples=len(self.feed.view),
            batch=self.feed.whole,
            done=self.progress.step,
            steps=self.training.steps,
            unit=self.config.unit(density.loss_in_nats()),
        )

    def _train(self, received: Received) -> None:
        agreement = Agreement(self.processes, received)
        for step in range(self.progress.step, self.training.steps):
            loss, norm = self._step(step, agreement)
            self._after(step + 1, loss, norm)
            if agreement.signum and step + 1 < self.training.steps:
                self._stop(agreement.signum)
        self._finish()

    def _gpus(self) -> list[int]:
        device = self.accelerator.device
        return [device.index or 0] if device.type == "cuda" else []

    def _step(self, step: int, agreement: Agreement) -> tuple[float, float]:
        """Takes one optimiser step; returns the mean loss in nats and the gradient norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.training)
        loss = self.room.within(lambda rows: self._gradient(step, rows, agreement))
        if not math.isfinite(loss):
            return loss, math.nan
        clip = self.training.clip or math.inf
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, clip))
        if not math.isfinite(norm):
            self._leave_out(step, "gradient", "")
            return loss, norm
        self.optimizer.step()
        self.progress.in_a_row = 0
        self._update_average(step)
        return loss, norm

    def _gradient(self, step: int, rows: int, agreement: Agreement) -> float:
        """Computes the gradient of a step in passes of at most `rows`; returns the mean loss.

        It stops at a loss that is not finite, in all processes alike.
        """
        self.optimizer.zero_grad()
        total = 0.0
        for part in self.feed.passes(step, rows):
            self._seed_dropout(part.dropout)
            with nullcontext() if part.last else self.accelerator.no_sync(self.model):
                losses = self.model(part.x, part.draws, part.labels, part.noise)
                loss = losses.mean() * part.weight
                value = agreement.mean(float(loss.detach()))
                total += value
                if not math.isfinite(value):
                    self._leave_out(step, "loss", self._rows_not_finite(part, losses))
                    return value
                self.accelerator.backward(loss)
        return total

    def _seed_dropout(self, seed: int) -> None:
        """Seeds the global generator; `torch.manual_seed` formats the call stack on every call."""
        torch.default_generator.manual_seed(seed)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _rows_not_finite(self, part: Pass, losses: Tensor) -> str:
        """Returns which rows of the step's batch have no finite loss, in whatever process."""
        mine = (~losses.detach().isfinite()).nonzero().flatten() + part.first
        rows = sorted(row for rows in self.processes.gather(mine.tolist()) for row in rows)
        return f" (rows {rows[:8]} of its batch)" if rows else " (the batch's mean)"

    def _leave_out(self, step: int, what: str, where: str) -> None:
        """Counts a step whose loss or gradient is not finite.

        Raises:
            TrainingError: such steps end the run, or there were too many in a row.
        """
        if self.training.on_nan == "stop":
            raise TrainingError(
                f"The {what} is not finite at step {step}{where}; {last_good(self.stage)}; a lower "
                "learning rate or more clipping may help, or --on-nan skip, which leaves such "
                "steps out."
            )
        self.progress.skipped += 1
        self.progress.in_a_row += 1
        if self.progress.in_a_row == _LOST_AFTER:
            raise TrainingError(
                f"The {what} was not finite in {_LOST_AFTER} steps in a row, the last of them "
                f"{step}{where}: the weights are lost; {last_good(self.stage)}; a lower learning "
                "rate or more clipping may help."
            )

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.training.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Puts the averaged weights in place of the current ones for the time of the block."""
        current = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, current)

    def _after(self, done: int, loss: float, norm: float) -> None:
        self.progress.step = done
        self.reporter.advance(done, loss)
        last = done == self.training.steps
        entry = {"step": done, "loss": loss, "gradient_norm": norm}
        if last or done % self.training.validation_interval == 0:
            entry |= self._validated(done)
        if "validation" in entry or done == 1 or done % self.training.log_every == 0:
            self._log(entry)
        if last or self._is_due(done):
            self._save()

    def _is_due(self, done: int) -> bool:
        """Returns whether a checkpoint is; none replaces a good one while steps are left out."""
        return done % self.training.checkpoint_interval == 0 and not self.progress.in_a_row

    def _validated(self, done: int) -> dict[str, float]:
        """Returns the held-out loss and, of a denoiser, the gain from x̃ in nats."""
        with self._averaged():
            value, gain = self.validation.loss(), self.validation.gain()
        if not math.isfinite(value):
            raise TrainingError(
                f"The validation loss is not finite at step {done}; {last_good(self.stage)}; a "
                "lower learning rate or more clipping may help."
            )
        if not value >= self.progress.best:
            self.progress.best, self.progress.best_step = value, done
            self._write_weights("best")
        self.reporter.validated(done, value, gain)
        return {"validation": value} | ({} if gain is None else {"gain": gain})

    def _log(self, entry: dict[str, float]) -> None:
        if not self._writes():
            return
        (then, before), now = self._clock, time.monotonic()
        self._clock = (now, int(entry["step"]))
        rate = (entry["step"] - before) / max(now - then, 1e-9)
        entry["learning_rate"] = learning_rate(int(entry["step"]) - 1, self.training)
        entry["steps_per_second"] = round(rate, 2)
        if self.progress.skipped:
            entry["skipped"] = self.progress.skipped
        finite = {key: value for key, value in entry.items() if math.isfinite(value)}
        append_line(self.stage.log_file, json.dumps(finite))

    def _tensors(self) -> dict[str, Tensor]:
        model = {f"model.{k}": v for k, v in self.objective.density.state_dict().items()}
        average = {f"average.{i}": tensor for i, tensor in enumerate(self.average)}
        return model | average | optimizer_tensors(self.optimizer)

    def _writes(self) -> bool:
        """Returns whether this process writes; checks that the folder is still its own."""
        if self.lock is not None:
            self.lock.check()
            if not self.stage.started:
                raise RunError(f"{self.stage.path} was removed or moved while it was fitted.")
        return self.processes.is_first

    def _save(self) -> None:
        if self._writes():
            self.checkpoints.save(self._tensors(), self.progress)

    def _resume(self) -> None:
        found = self.checkpoints.latest()
        check_same_folder(self.processes, self.stage, 0 if found is None else found[1].step)
        if found is None:
            if self._writes():
                remove(self.stage.log_file)
            return
        tensors, self.progress = found
        model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        self.objective.density.load_state_dict(model)
        for i, average in enumerate(self.average):
            average.copy_(tensors[f"average.{i}"])
        load_optimizer(self.optimizer, tensors)
        done, steps = self.progress.step, self.training.steps
        self.reporter.note(f"Resumes {self.stage.path} at step {done} of {steps}.")
        if self._writes():
            self.checkpoints.prune(self.progress.step)
            self._rewind_log()

    def _rewind_log(self) -> None:
        """Drops the lines that were written after the checkpoint."""
        kept = [e for e in self.stage.log() if e["step"] <= self.progress.step]
        lines = "".join(json.dumps(entry) + "\n" for entry in kept)
        write_bytes(self.stage.log_file, lines.encode())

    def _stop(self, signum: int) -> None:
        """Saves, unless that was just done, and ends; all processes wait for the first."""
        if not self._is_due(self.progress.step):
            self._save()
        self.processes.first(None)
        raise Interrupted(
            f"Stopped at step {self.progress.step} of {self.training.steps} and saved it; "
            "the same command goes on from there.",
            signum,
        )

    def _finish(self) -> None:
        self._write_weights("last")
        if self.progress.skipped:
            self.reporter.note(
                f"{self.progress.skipped} of {self.training.steps} steps were left out, as their "
                "loss or gradient was not finite."
            )

    def _write_weights(self, which: Weights) -> None:
        if self._writes():
            with self._averaged():
                weights = self.objective.density.state_dict()
                write_weights(self.stage.weights_file(which), weights, self.config.to_dict())
