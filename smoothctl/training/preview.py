"""Samples while a stage is fitted, of the same noise each time: how the model learns."""

import torch
from torch import Tensor

from smoothctl.architectures.base import BothStages, Density
from smoothctl.datasets.base import View
from smoothctl.errors import NotAvailable
from smoothctl.rng import generator
from smoothctl.runs.run import Stage
from smoothctl.storage.files import make_folder
from smoothctl.storage.weights import read_weights, write_weights
from smoothctl.training.batches import BatchSchedule
from smoothctl.training.step import Objective

__all__ = ["Preview", "previews"]

_COUNT = {"image": 16, "vector": 1000}
_MOST_SHOWN = 6
_NAME = "step-{:08d}.safetensors"


class Preview:
    """Draws samples of a stage with the weights that are in place.

    Of a prior x̃, of a denoiser x for the same x̃ of held-out examples, of a baseline x, of a joint
    stage x by both steps.

    Args:
        objective: in evaluation mode while samples are drawn.
        view: the held-out examples.
        batches: knows how they are smoothed, and where they go.
        stage: the folder that samples go to.
    """

    def __init__(
        self, objective: Objective, view: View, batches: BatchSchedule, stage: Stage
    ) -> None:
        self.objective, self.view, self.batches, self.stage = objective, view, batches, stage
        self.seed = batches.config.seed

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Returns samples, (n, *event) on the CPU: 16 images, or 1000 vectors.

        Raises:
            NotAvailable: the architecture cannot draw samples of this stage.
        """
        density = self.objective.density.at(self.objective.sigma)
        count = _COUNT[density.domain]
        draws = generator(self.seed, "preview")
        if isinstance(density, BothStages):
            x_smooth = density.prior().sample(count, generator=draws)
            return density.denoiser().sample(count, x_smooth, generator=draws).cpu()
        context, labels = None, self._labels(density, count)
        if self.objective.stage == "denoiser":
            x = self.batches.to_device(self.view.head(count))
            context, count = self.batches.smooth(x, generator(self.seed, "preview-noise")), len(x)
            labels = None if labels is None else labels[:count]
        return density.sample(count, context, labels, draws).cpu()

    def write(self, step: int) -> Tensor | None:
        """Draws samples and keeps them in the stage's folder; None where none can be drawn.

        Raises:
            RunError: they cannot be written.
        """
        try:
            samples = self.samples()
        except NotAvailable:
            return None
        folder = self.stage.previews
        make_folder(folder)
        write_weights(folder / _NAME.format(step), {"samples": samples}, {"format": 1})
        return samples

    def _labels(self, density: Density, count: int) -> Tensor | None:
        if density.classes is None:
            return None
        return (torch.arange(count) % density.classes).to(self.batches.device)


def previews(stage: Stage) -> dict[int, Tensor]:
    """Returns some of the samples that were kept, evenly over the fit and the last: step -> (n, …).

    Raises:
        RunError: a file is damaged.
    """
    files = sorted(stage.previews.glob("step-*.safetensors"))
    files = [file for file in files if file.stem.removeprefix("step-").isdecimal()]
    if len(files) > _MOST_SHOWN:
        chosen = torch.linspace(0, len(files) - 1, _MOST_SHOWN).round().long().tolist()
        files = [files[i] for i in chosen]
    steps = (int(file.stem.removeprefix("step-")) for file in files)
    return {step: read_weights(file)[0]["samples"] for step, file in zip(steps, files, strict=True)}
