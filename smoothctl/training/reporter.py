"""What a fit tells while it goes on, and to whom."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from smoothctl.runs.config import Unit

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Forwarding", "Plan", "Quiet", "Reporter"]


@dataclass(frozen=True)
class Plan:
    """What a fit is going to do.

    Args:
        title: stage and architecture.
        parameters: trained numbers of the network.
        examples: of the training data.
        batch: examples a step.
        done: steps that were done before.
        steps: steps in all.
        unit: what losses are shown in.
        folder: of the stage.
    """

    title: str
    parameters: int
    examples: int
    batch: int
    done: int
    steps: int
    unit: Unit
    folder: Path

    def __str__(self) -> str:
        epochs = self.steps * self.batch / self.examples
        return (
            f"Fits the {self.title} into {self.folder.parent}: {self.parameters:,} parameters, "
            f"{self.examples:,} examples, {self.steps:,} steps of {self.batch} "
            f"({epochs:.3g} epochs)."
        )


class Reporter(Protocol):
    """Told what happens while fitting; the command line draws a progress bar from it."""

    def start(self, plan: Plan) -> None:
        """Training of a stage begins."""

    def advance(self, step: int, loss: float) -> None:
        """A step is done; its mean loss in nats."""

    def validated(self, step: int, loss: float, gain: float | None) -> None:
        """The held-out loss after a step and, of a denoiser, the gain from x̃; both in nats."""

    def previewed(self, step: int, samples: "Tensor") -> None:
        """Samples that were drawn after a step, (n, *event)."""

    def note(self, message: str) -> None:
        """Something worth a sentence happened."""

    def finish(self) -> None:
        """Training of a stage has ended."""


class Quiet:
    """A reporter that says nothing."""

    def start(self, plan: Plan) -> None:
        """Ignores the start."""

    def advance(self, step: int, loss: float) -> None:
        """Ignores the step."""

    def validated(self, step: int, loss: float, gain: float | None) -> None:
        """Ignores the validation."""

    def previewed(self, step: int, samples: "Tensor") -> None:
        """Ignores the samples."""

    def note(self, message: str) -> None:
        """Ignores the message."""

    def finish(self) -> None:
        """Ignores the end."""


class Forwarding:
    """A reporter that tells another one; what does more with it overrides a method.

    Args:
        reporter: told everything.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def start(self, plan: Plan) -> None:
        """Passes it on."""
        self.reporter.start(plan)

    def advance(self, step: int, loss: float) -> None:
        """Passes it on."""
        self.reporter.advance(step, loss)

    def validated(self, step: int, loss: float, gain: float | None) -> None:
        """Passes it on."""
        self.reporter.validated(step, loss, gain)

    def previewed(self, step: int, samples: "Tensor") -> None:
        """Passes it on."""
        self.reporter.previewed(step, samples)

    def note(self, message: str) -> None:
        """Passes it on."""
        self.reporter.note(message)

    def finish(self) -> None:
        """Passes it on."""
        self.reporter.finish()
