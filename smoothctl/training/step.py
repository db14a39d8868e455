"""One optimiser step: the loss of each stage, its gradient in micro-batches, Adam, the average."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache
from torch import Generator, Tensor, nn

from smoothctl.architectures.base import Density
from smoothctl.distributed.agreement import Agreement
from smoothctl.distributed.devices import prepared
from smoothctl.runs.config import StageName
from smoothctl.training.adam import Adam
from smoothctl.training.batches import BatchSchedule, MicroBatch

__all__ = ["Learner", "Objective", "StepResult"]


class Objective(nn.Module):
    """A density together with what a stage fits it to; its forward is the loss.

    Being one module, it can be wrapped for several processes or compiled as a whole. The baseline
    is fitted to p(x), the prior to p(x̃) or its score, the denoiser to p(x|x̃) (ARDS section 3.2),
    the joint to p(x̃, x) (section 4.1).

    Args:
        stage: what the density is.
        density: the model.
        sigma: standard deviation of the smoothing; 0 for a baseline.
    """

    def __init__(self, stage: StageName, density: Density, sigma: float) -> None:
        super().__init__()
        self.stage, self.density, self.sigma = stage, density, sigma

    def forward(
        self,
        x: Tensor,
        x_smooth: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        sigma: Tensor | None = None,
    ) -> Tensor:
        """Returns the loss of each example in nats: (batch, *event) -> (batch,).

        Args:
            x: clean examples.
            x_smooth: the same smoothed, shape of x.
            labels: their classes, (batch,), where the density is conditioned on them.
            generator: of what the loss draws beside the smoothing.
            sigma: of the smoothing of each, (batch,), where the density takes it as an input.
        """
        density = self._at(sigma)
        if self.stage == "prior":
            return density.prior_loss(x, x_smooth, self.sigma, labels, generator)
        target, context = self._pair(x, x_smooth)
        return density.training_loss(target, context, labels, generator)

    def initialize(self, x: Tensor, x_smooth: Tensor, sigma: Tensor | None = None) -> None:
        """Fits the density's scales to a first batch of examples; see `forward`."""
        density = self._at(sigma)
        if self.stage == "prior":
            density.initialize_prior(x, x_smooth, self.sigma)
        else:
            density.initialize(*self._pair(x, x_smooth))

    def _at(self, sigma: Tensor | None) -> Density:
        return self.density if sigma is None else self.density.at(sigma)

    def _pair(self, x: Tensor, x_smooth: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns target and context of the other stages."""
        if self.stage == "joint":
            return torch.cat([x_smooth, x], dim=1), None
        return x, x_smooth if self.stage == "denoiser" else None


@dataclass(frozen=True)
class StepResult:
    """What came of a step.

    Args:
        loss: the mean over the step's batch, in nats.
        gradient_norm: before clipping; NaN where the loss is not finite.
        fault: what is not finite, "loss" or "gradient": then the step was left out; else empty.
        where: the rows of the batch whose loss is not finite, as a clause.
    """

    loss: float
    gradient_norm: float = math.nan
    fault: str = ""
    where: str = ""


class Learner:
    """Takes steps: the network, its optimiser and its averaged weights.

    Args:
        objective: on the accelerator's device.
        batches: what each step sees.
        accelerator: device and precision.
    """

    def __init__(
        self, objective: Objective, batches: BatchSchedule, accelerator: Accelerator
    ) -> None:
        self.objective, self.batches, self.accelerator = objective, batches, accelerator
        self.training = training = batches.config.training
        self.parameters: list[Tensor] = [p for p in objective.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        self.adam = Adam(self.parameters, (training.beta1, training.beta2))
        forward = torch.compile(objective) if training.compile else objective
        self.model = prepared(forward, accelerator)
        self._rehearsed = batches.processes.count < 3

    def step(self, step: int, rate: float, agreement: Agreement) -> StepResult:
        """Takes one step, unless its loss or gradient is not finite, in all processes alike.

        Args:
            step: counted from 0.
            rate: the learning rate.
            agreement: with the other processes.
        """
        if not self._rehearsed:
            self._rehearse(step, agreement)
        result = self._backward_that_fits(step, agreement)
        if result.fault:
            return result
        clip = self.training.clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.parameters, clip))
        if not math.isfinite(norm):
            return StepResult(result.loss, norm, "gradient")
        self.adam.step(rate)
        self._update_average(step)
        return StepResult(result.loss, norm)

    def _rehearse(self, step: int, agreement: Agreement) -> None:
        """Does a pass for nothing, before the first step of a fit that starts or goes on.

        After their first pass the processes exchange gradients in another order, and with more than
        two the last bits of a sum depend on that: so all steps come after it.
        """
        buffers = [buffer.clone() for buffer in self.objective.buffers()]
        self._rehearsed = not self._backward_that_fits(step, agreement).fault
        for buffer, before in zip(self.objective.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _backward_that_fits(self, step: int, agreement: Agreement) -> StepResult:
        """Does `_backward`, begun again with smaller micro-batches until they fit into memory."""
        while True:
            try:
                return self._backward(step, agreement)
            except RuntimeError as error:
                self.batches.halve(error)
            clear_device_cache(garbage_collection=True)

    def _backward(self, step: int, agreement: Agreement) -> StepResult:
        """Computes the mean loss of a step and its gradient; ends at a loss that is not finite."""
        self.adam.zero_grad()
        total = 0.0
        for batch in self.batches.micro_batches(step):
            self._seed_dropout(batch.dropout_seed)
            with nullcontext() if batch.last else self.accelerator.no_sync(self.model):
                given = (batch.x, batch.x_smooth, batch.labels, batch.generator, batch.sigma)
                losses = self.model(*given)
                loss = losses.mean() * batch.weight
                value = float(loss.detach())
                if self.batches.processes.count > 1:
                    value = agreement.mean(value)
                if not math.isfinite(value):
                    return StepResult(value, fault="loss", where=self._where(batch, losses))
                self.accelerator.backward(loss)
            total += value
        return StepResult(total)

    def _seed_dropout(self, seed: int) -> None:
        """Seeds the global generator; `torch.manual_seed` formats the call stack on every call."""
        torch.default_generator.manual_seed(seed)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _where(self, batch: MicroBatch, losses: Tensor) -> str:
        """Returns which rows of the step's batch have no finite loss, in whatever process."""
        mine = (~losses.detach().isfinite()).nonzero().flatten() + batch.first
        everyone = self.batches.processes.gather(mine.tolist())
        rows = sorted(row for rows in everyone for row in rows)
        return f" (rows {rows[:8]} of its batch)" if rows else " (the batch's mean)"

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.training.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Puts the averaged weights in place, in evaluation mode, for the time of the block."""
        current = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
        self.objective.eval()
        try:
            yield
        finally:
            self.objective.train()
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, current)

    def state(self) -> dict[str, Tensor]:
        """Returns weights, average and optimiser as flat tensors: optimizer.<parameter>.<name>."""
        model = {f"model.{k}": v for k, v in self.objective.density.state_dict().items()}
        average = {f"average.{i}": tensor for i, tensor in enumerate(self.average)}
        optimizer = {f"optimizer.{k}": v for k, v in self.adam.state().items()}
        return model | average | optimizer

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` gave."""
        model, average, optimizer = (
            {k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")}
            for part in ("model", "average", "optimizer")
        )
        self.objective.density.load_state_dict(model)
        for i, mean in enumerate(self.average):
            mean.copy_(average[str(i)])
        self.adam.load(optimizer)
