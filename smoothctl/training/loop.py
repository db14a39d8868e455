"""The training loop: a pure function of the configuration, whenever and however often it stops."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from smoothctl.datasets.base import View
from smoothctl.errors import DataError, Interrupted, TrainingError
from smoothctl.files import append_line, remove, remove_leftovers, write_bytes, write_weights
from smoothctl.processes import check_launch
from smoothctl.randomness import generator, seed_from
from smoothctl.runs import Stage
from smoothctl.stages import StageConfig
from smoothctl.training.objectives import Objective
from smoothctl.training.schedule import learning_rate
from smoothctl.training.signals import caught
from smoothctl.training.state import Checkpoints, Progress, load_optimizer, optimizer_tensors

__all__ = ["Reporter", "Trainer", "accelerator_for"]


class Reporter(Protocol):
    """Told what happens while fitting; the command line draws a progress bar from it."""

    def start(self, title: str, step: int, total: int) -> None:
        """Training of a stage begins at a step."""

    def advance(self, step: int, loss: float) -> None:
        """A step is done."""

    def note(self, message: str) -> None:
        """Something worth a sentence happened."""

    def finish(self) -> None:
        """Training of a stage has ended."""


def accelerator_for(device: str, config: StageConfig) -> Accelerator:
    """Returns the Accelerator that owns device, precision, accumulation and processes.

    Args:
        device: "auto" (what Accelerate finds) or "cpu".
        config: the stage's configuration.

    Raises:
        TrainingError: the launcher started several processes that do not see each other.
    """
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        gradient_accumulation_steps=config.training.accumulate,
    )
    check_launch(accelerator.num_processes)
    return accelerator


class Trainer:
    """Fits one stage.

    Args:
        config: the stage's full configuration.
        objective: density and kernel.
        train: the examples to fit.
        validation: the examples to validate on.
        stage: the stage's folder.
        accelerator: device, precision and processes.
        reporter: told about progress.
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
    ) -> None:
        self.config, self.training = config, config.training
        self.train_view, self.stage = train, stage
        self.accelerator, self.reporter = accelerator, reporter
        self.dtype = torch.float64 if config.precision == "float64" else torch.float32
        self.share = self._share_of_batch()
        self.objective = objective.to(accelerator.device)
        self._initialize()
        self.parameters: list[Tensor] = [p for p in objective.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        betas = (self.training.beta1, self.training.beta2)
        adam = torch.optim.Adam(self.parameters, lr=0.0, betas=betas, fused=True)
        forward = torch.compile(objective) if self.training.compile else objective
        self.model, self.optimizer = accelerator.prepare(forward, adam)
        self.checkpoints = Checkpoints(
            stage.checkpoints, self.training.keep, config.to_dict(), reporter.note
        )
        self.progress = Progress()
        self.held_out = validation.head(self.training.validation_limit)
        self.held_out_labels = (
            validation.head_labels(self.training.validation_limit) if self._conditional else None
        )

    def _share_of_batch(self) -> int:
        parts = int(self.accelerator.num_processes) * self.training.accumulate
        size = min(self.training.batch_size, len(self.train_view))
        if size < parts:
            raise DataError(
                f"{self.config.dataset} has {len(self.train_view)} training examples and a batch "
                f"{self.training.batch_size}: too few for {parts} parts a step."
            )
        share = size // parts
        if share * parts != self.training.batch_size:
            self.reporter.note(
                f"A step takes {share * parts} examples, not {self.training.batch_size}: the data "
                f"has {len(self.train_view)}, and a step is split into {parts} equal parts."
            )
        return share

    def _initialize(self) -> None:
        n = min(self.objective.density.first_batch, len(self.train_view))
        x = self._to_device(self.train_view.batch(self.config.seed, 0, 0, n))
        with torch.no_grad():
            self.objective.initialize(x, generator(self.config.seed, "initialise"))

    def _to_device(self, x: Tensor) -> Tensor:
        return x.to(self.accelerator.device, self.dtype)

    def _labels_to_device(self, labels: Tensor | None) -> Tensor | None:
        return None if labels is None else labels.to(self.accelerator.device)

    @property
    def _conditional(self) -> bool:
        return self.objective.density.classes is not None

    def batch(self, step: int, part: int) -> tuple[Tensor, Tensor | None]:
        """Returns this process's examples of one part of a step, and their classes if needed.

        A pure function of the seed, the step and the process.
        """
        parts = self.accelerator.num_processes * self.training.accumulate
        whole = self.share * parts
        epoch, position = divmod(step, len(self.train_view) // whole)
        index = part * self.accelerator.num_processes + self.accelerator.process_index
        start = position * whole + index * self.share
        where = (self.config.seed, epoch, start, start + self.share)
        labels = self.train_view.labels(*where) if self._conditional else None
        return self._to_device(self.train_view.batch(*where)), self._labels_to_device(labels)

    def run(self) -> None:
        """Trains from the last good checkpoint to the end and writes model.safetensors.

        Raises:
            TrainingError: a loss or gradient is not finite.
            Interrupted: Ctrl-C or SIGTERM, after a checkpoint was saved.
            RunError: a file cannot be written.
        """
        self._resume()
        title, total = f"{self.config.stage} ({self.config.architecture})", self.training.steps
        self.reporter.start(title, self.progress.step, total)
        self._clock = (time.monotonic(), self.progress.step)
        try:
            with torch.random.fork_rng(devices=self._gpus()), caught() as received:
                for step in range(self.progress.step, total):
                    loss, norm = self._step(step)
                    self._after(step + 1, loss, norm)
                    if received.signum and step + 1 < total:
                        self._stop(received.signum)
                self._finish()
                if received.signum:
                    raise Interrupted(f"Stopped; {self.stage.path} is complete.", received.signum)
        finally:
            self.reporter.finish()

    def _gpus(self) -> list[int]:
        device = self.accelerator.device
        return [device.index or 0] if device.type == "cuda" else []

    def _step(self, step: int) -> tuple[float, float]:
        """Takes one optimiser step; returns the mean loss in nats and the gradient norm."""
        seed, rank = self.config.seed, self.accelerator.process_index
        total, norm = 0.0, math.nan
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.training)
        for part in range(self.training.accumulate):
            noise = generator(seed, "noise", step, rank, part)
            self._seed_dropout(seed_from(seed, "dropout", step, rank, part))
            with self.accelerator.accumulate(self.model):
                x, labels = self.batch(step, part)
                losses = self.model(x, noise, labels)
                loss = losses.mean()
                total += self._finite(loss, losses, step, part)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    norm = self._clip(step)
                self.optimizer.step()
                self.optimizer.zero_grad()
        self._update_average(step)
        return total / self.training.accumulate, norm

    def _seed_dropout(self, seed: int) -> None:
        """Seeds the global generator; `torch.manual_seed` formats the call stack on every call."""
        torch.default_generator.manual_seed(seed)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _finite(self, loss: Tensor, losses: Tensor, step: int, part: int) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            rows = (~losses.detach().isfinite()).nonzero().flatten()[:8].tolist()
            where = f"rows {rows} of batch part {part}" if rows else "the batch's mean"
            raise TrainingError(
                f"The loss is not finite at step {step} ({where}); {self._last_good()}"
            )
        return value

    def _clip(self, step: int) -> float:
        if not self.training.clip:
            return math.nan
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, self.training.clip))
        if not math.isfinite(norm):
            raise TrainingError(f"The gradient is not finite at step {step}; {self._last_good()}")
        return norm

    def _last_good(self) -> str:
        paths = self.checkpoints.paths()
        kept = f"the last good checkpoint is {paths[-1]}" if paths else "no checkpoint was saved"
        return f"{kept}; a lower learning rate or more clipping may help."

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

    @torch.no_grad()
    def validate(self) -> float:
        """Returns the mean loss of the averaged weights on the validation examples, in nats."""
        noise, size = generator(self.config.seed, "validation"), 4 * self.share
        rows, labels = self.held_out.split(size), [None]
        if self.held_out_labels is not None:
            labels = self.held_out_labels.split(size)
        self.objective.eval()
        with self._averaged():
            parts = [
                self.objective(self._to_device(x), noise, self._labels_to_device(y)).double()
                for x, y in zip_longest(rows, labels)
            ]
        self.objective.train()
        return float(torch.cat(parts).mean())

    def _after(self, done: int, loss: float, norm: float) -> None:
        self.progress.step = done
        self.reporter.advance(done, loss)
        last = done == self.training.steps
        entry = {"step": done, "loss": loss, "gradient_norm": norm}
        if last or done % self.training.validation_interval == 0:
            entry["validation"] = self._validated(done)
        if "validation" in entry or done == 1 or done % self.training.log_every == 0:
            self._log(entry)
        if last or done % self.training.checkpoint_interval == 0:
            self._save()

    def _validated(self, done: int) -> float:
        value = self.validate()
        if not math.isfinite(value):
            raise TrainingError(
                f"The validation loss is not finite at step {done}; {self._last_good()}"
            )
        if not value >= self.progress.best:
            self.progress.best, self.progress.best_step = value, done
            self._write_weights("best")
        return value

    def _log(self, entry: dict[str, float]) -> None:
        if not self.accelerator.is_main_process:
            return
        (then, before), now = self._clock, time.monotonic()
        self._clock = (now, int(entry["step"]))
        rate = (entry["step"] - before) / max(now - then, 1e-9)
        entry["learning_rate"] = learning_rate(int(entry["step"]) - 1, self.training)
        entry["steps_per_second"] = round(rate, 2)
        finite = {key: value for key, value in entry.items() if math.isfinite(value)}
        append_line(self.stage.log_file, json.dumps(finite))

    def _tensors(self) -> dict[str, Tensor]:
        model = {f"model.{k}": v for k, v in self.objective.density.state_dict().items()}
        average = {f"average.{i}": tensor for i, tensor in enumerate(self.average)}
        return model | average | optimizer_tensors(self.optimizer)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            self.checkpoints.save(self._tensors(), self.progress)

    def _resume(self) -> None:
        if self.accelerator.is_main_process:
            remove_leftovers(self.stage.path)
        found = self.checkpoints.latest()
        if found is None:
            if self.accelerator.is_main_process:
                remove(self.stage.log_file)
            return
        tensors, self.progress = found
        model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        self.objective.density.load_state_dict(model)
        for i, average in enumerate(self.average):
            average.copy_(tensors[f"average.{i}"])
        load_optimizer(self.optimizer, tensors)
        self.reporter.note(f"Resumes {self.stage.path} at step {self.progress.step}.")
        self._rewind_log()

    def _rewind_log(self) -> None:
        """Drops the lines that were written after the checkpoint."""
        if self.accelerator.is_main_process:
            kept = [e for e in self.stage.log() if e["step"] <= self.progress.step]
            lines = "".join(json.dumps(entry) + "\n" for entry in kept)
            write_bytes(self.stage.log_file, lines.encode())

    def _stop(self, signum: int) -> None:
        self._save()
        raise Interrupted(
            f"Stopped at step {self.progress.step} of {self.training.steps} and saved it; "
            "the same command goes on from there.",
            signum,
        )

    def _finish(self) -> None:
        self.accelerator.wait_for_everyone()
        self._write_weights("last")

    def _write_weights(self, which: str) -> None:
        if self.accelerator.is_main_process:
            with self._averaged():
                path = self.stage.weights_file("best" if which == "best" else "last")
                write_weights(path, self.objective.density.state_dict(), self.config.to_dict())
