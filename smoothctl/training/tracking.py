"""Fits watched from outside: what a fit tells goes to a tracker that Accelerate knows, too."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from smoothctl.datasets.pictures import to_uint8
from smoothctl.errors import NotAvailable, UsageError, near_misses
from smoothctl.runs.config import flattened
from smoothctl.runs.run import Stage
from smoothctl.training.reporter import Forwarding, Plan, Reporter

__all__ = ["Tracked", "check_trackers"]

_FOLDER = "track"
"""In the run folder: files of trackers that keep any."""

_EVERY = 200
"""Steps of a fit whose loss is told, about."""


def check_trackers(names: Sequence[str]) -> None:
    """Checks that trackers are known and installed, before anything is fitted.

    Raises:
        UsageError: an unknown name.
        NotAvailable: its package is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UsageError(
                f"There is no tracker '{name}'{near_misses(name, LOGGER_TYPE_TO_CLASS)}"
            )
        if name not in installed:
            raise NotAvailable(
                f"The tracker {name} is not installed: pip install 'smoothctl[track]' has "
                "tensorboard; others come by their own names."
            )


class Tracked(Forwarding):
    """A reporter that tells another one and trackers: losses, validations, samples as pictures.

    Args:
        reporter: told everything first.
        names: of the trackers, as `Accelerator(log_with=…)` takes them.
    """

    def __init__(self, reporter: Reporter, names: Sequence[str]) -> None:
        super().__init__(reporter)
        self.names = names
        self._trackers: list[Any] = []

    def start(self, plan: Plan) -> None:
        """Begins a tracker's run, NAME-STAGE, with the stage's settings."""
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        self.reporter.start(plan)
        self._plan, self._every = plan, max(1, plan.steps // _EVERY)
        stage = Stage(plan.folder)
        told = flattened(stage.config().to_dict())
        settings = {k: str(v) if isinstance(v, list | tuple) else v for k, v in told.items()}
        name = f"{plan.folder.parent.absolute().name}-{plan.folder.name}"
        for each in self.names:
            kind: Any = LOGGER_TYPE_TO_CLASS[each]
            where = {"logging_dir": plan.folder.parent / _FOLDER}
            tracker = kind(name, **(where if kind.requires_logging_directory else {}))
            tracker.start()
            tracker.store_init_configuration(settings)
            self._trackers.append(tracker)

    def advance(self, step: int, loss: float) -> None:
        """Tells the loss every now and then."""
        self.reporter.advance(step, loss)
        if step % self._every == 0 or step == self._plan.steps:
            self._log({"loss": loss}, step)

    def validated(self, step: int, loss: float, gain: float | None) -> None:
        """Tells the held-out loss and the gain from x̃."""
        self.reporter.validated(step, loss, gain)
        self._log({"validation": loss} | ({} if gain is None else {"gain from x̃": gain}), step)

    def previewed(self, step: int, samples: Tensor) -> None:
        """Tells samples of images as pictures."""
        self.reporter.previewed(step, samples)
        if samples.ndim == 4 and samples.shape[1] in (1, 3):
            pixels = np.moveaxis(to_uint8(samples), 1, -1)
            pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
            for tracker in self._trackers:
                if hasattr(tracker, "log_images"):
                    shape = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                    tracker.log_images({"samples": pixels}, step=step, **shape)

    def finish(self) -> None:
        """Ends the trackers' runs."""
        for tracker in self._trackers:
            tracker.finish()
        self._trackers = []
        self.reporter.finish()

    def _log(self, values: Mapping[str, float], step: int) -> None:
        """Logs losses in the unit that people see them in."""
        unit = self._plan.unit
        shown = {f"{key}, {unit.name}".strip(", "): v * unit.per_nat for key, v in values.items()}
        for tracker in self._trackers:
            tracker.log(shown, step=step)
