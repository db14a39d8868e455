"""The run folder: its stages, their files, and loading them back as models."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from smoothctl import architectures, datasets, kernels
from smoothctl.errors import DataError, RunError, UsageError, near_misses
from smoothctl.runs import packaged
from smoothctl.runs.config import LARGEST_CONFIG, StageConfig, StageName
from smoothctl.runs.models import build_density, check_sizes, load_density
from smoothctl.runs.places import recall, remember
from smoothctl.storage.files import check_format, check_inside, parse_json, read_toml
from smoothctl.storage.weights import read_metadata

if TYPE_CHECKING:
    import torch

    from smoothctl.architectures.base import Density
    from smoothctl.datasets.base import Dataset
    from smoothctl.smoothing.two_step import TwoStep

__all__ = [
    "STAGES",
    "WALK",
    "Run",
    "Stage",
    "Weights",
    "build_density",
    "load_density",
    "load_run",
    "newest_run",
    "place_of",
]

Weights = Literal["last", "best"]
STAGES: tuple[StageName, ...] = ("baseline", "prior", "denoiser", "joint")
RUNS = Path("runs")
"""Where runs live unless `out` says otherwise."""

SIGMA, WALK = "sigma", "walk"
"""What is chosen anew like a setting of samples: σ of models that take it as an input, and the
steps of the walk that draws x̃ of images instead of the prior's own sampler."""

_LONGEST_WALK = 1_000_000

_LONGEST_LOG = 2**26
_LONGEST_LINE = 2**12
_MOST_ENTRIES = 500_000


@dataclass(frozen=True)
class Stage:
    """One fitted or half-fitted stage: its folder and files.

    A run may come from others, so each path is refused (RunError) where a link leads it out of the
    run folder; that folder itself may be a link.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration, with the source of each value."""
        return self._inner("config.toml")

    @property
    def log_file(self) -> Path:
        """One JSON object a line: step, loss, learning rate, validation."""
        return self._inner("log.jsonl")

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self._inner("checkpoints")

    @property
    def previews(self) -> Path:
        """The folder of samples that were drawn while it was fitted."""
        return self._inner("previews")

    def weights_file(self, weights: Weights = "last") -> Path:
        """The final (averaged) weights, or those of the best validation."""
        return self._inner("model.safetensors" if weights == "last" else "best.safetensors")

    @property
    def lock_file(self) -> Path:
        """Held by whoever fits the stage, beside its folder."""
        return self.path.with_name(f".{self.path.name}.lock")

    def _inner(self, name: str) -> Path:
        return check_inside(self.path / name, self.path.parent)

    @property
    def started(self) -> bool:
        """Whether there is a configuration."""
        return self.config_file.is_file()

    @property
    def fitted(self) -> bool:
        """Whether there is anything to lose: weights or a checkpoint."""
        return self.complete or any(self.checkpoints.glob("step-*"))

    @property
    def complete(self) -> bool:
        """Whether training has ended."""
        return self.weights_file().is_file()

    @property
    def steps_done(self) -> int:
        """The step of the newest checkpoint, from which a fit goes on; 0 without one."""
        names = [path.name.removeprefix("step-") for path in self.checkpoints.glob("step-*")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def lacking(self) -> str:
        """Returns why a stage that is not complete cannot be used, and what completes it."""
        name, run = self.path.name, self.path.parent
        if not self.started:
            return f"{run} has no {name}; fit-{name} `out={run}` makes one."
        return (
            f"The {name} of {run} stopped at step {self.steps_done} of "
            f"{self.config().training.steps}; the same fit-{name} command finishes it."
        )

    def config(self) -> StageConfig:
        """Returns what the weights say that they were fitted with; of half a stage, config.toml.

        Raises:
            RunError: missing, damaged, of a newer format, or not of a stage that we would fit.
        """
        written = self._written()
        if not self.complete:
            return written
        file = self.weights_file()
        config = StageConfig.from_dict(read_metadata(file), str(file))
        check_sizes(config, str(file))
        return config

    def contradictions(self) -> list[str]:
        """Returns a sentence for a config.toml that says something else than the weights."""
        if not (self.complete and (keys := self._written().differences(self.config()))):
            return []
        return [
            f"{self.config_file} is not what its weights were fitted with, which counts: "
            f"{'; '.join(keys)}."
        ]

    def _written(self) -> StageConfig:
        """Reads config.toml."""
        file = self.config_file
        values = read_toml(file, LARGEST_CONFIG)
        check_format(values.get("format"), str(file))
        config = StageConfig.from_dict(values, str(file))
        check_sizes(config, str(file))
        return config

    def log(self) -> list[dict[str, float]]:
        """Reads the numbers of log.jsonl; lines that were cut off or are foreign are left out.

        Of a log beyond 64 MiB or 500,000 lines the end counts.
        """
        if not self.log_file.is_file():
            return []
        with self.log_file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_LOG))
            return list(deque(_entries(file), maxlen=_MOST_ENTRIES))

    def seconds(self) -> "Seconds":
        """Returns how long the steps of the log took; those between its last line and a stop aside.

        Logs that were begun before they told the processor's time have the clock's for it.
        """
        wall, cpu, before = 0.0, 0.0, 0.0
        for entry in self.log():
            rate = entry.get("steps_per_second", 0.0)
            taken = (entry["step"] - before) / rate if rate > 0 else 0.0
            wall, before = wall + taken, entry["step"]
            cpu += entry.get("cpu_seconds", taken)
        return Seconds(wall, cpu)


class Seconds(NamedTuple):
    """How long something took, in seconds."""

    wall: float
    """By the clock."""

    cpu: float
    """Of the processor's time."""


@dataclass(frozen=True)
class Run:
    """A run folder, opened lazily: stages become models only when asked for.

    Args:
        path: the folder.
        weights: "last" (averaged weights at the end) or "best" (lowest validation loss).
        device: where the models go.
        sampler: settings of the stages that change samples alone, chosen anew for sampling; and
            `sigma`, of those that take it as an input.
        place: where the data are that the stages were fitted to; None: where the user of this
            machine named them last.
    """

    path: Path
    weights: Weights = "last"
    device: "str | torch.device" = "cpu"
    sampler: Mapping[str, Any] = field(default_factory=dict)
    place: str | None = None

    def stage(self, name: StageName) -> Stage:
        """Returns a stage, whether it exists or not."""
        return Stage(self.path / name)

    def stages(self) -> list[StageName]:
        """Returns the names of the stages that are complete."""
        return [name for name in STAGES if self.stage(name).complete]

    def check(self, *names: StageName) -> None:
        """Checks that stages are complete.

        Raises:
            RunError: one is not; says whether it is missing or half done.
        """
        for name in names:
            if not self.stage(name).complete:
                raise RunError(self.stage(name).lacking())

    def samples_file(self, name: str) -> Path:
        """Returns the file of samples that has no other `out`.

        Raises:
            RunError: a link leads it out of the run folder.
        """
        return check_inside(self.path / "samples" / name, self.path)

    def configs(self) -> dict[StageName, StageConfig]:
        """Returns the configuration of each complete stage."""
        return {name: self.stage(name).config() for name in self.stages()}

    def config(self) -> StageConfig:
        """Returns a complete stage's configuration: data and smoothing are those of all of them.

        Raises:
            RunError: there is none, or all are damaged.
        """
        damage = RunError(f"{self.path} holds no complete stage; fit-prior makes one.")
        for name in reversed(self.stages()):
            try:
                return self.stage(name).config()
            except RunError as error:
                damage = error
        raise damage

    def contradictions(self) -> list[str]:
        """Returns a sentence for each config.toml that says something else than its weights."""
        said = []
        for name in self.stages():
            with suppress(RunError):  # that it is damaged is said where it is needed
                said += self.stage(name).contradictions()
        return said

    def dataset(self) -> "Dataset":
        """Opens the dataset that the stages were fitted to, where the user says that it is.

        Raises:
            DataError: its files are missing, or nobody has said where they are.
            RunError: its files have changed since, or no installed package has it.
        """
        config = self.config()
        try:
            place = self.place or place_of(config, str(self.path))
            dataset = datasets.open_dataset(place, config.data)
        except UsageError as error:
            raise RunError(f"The data of {self.path} cannot be opened: {error}") from error
        config.check_data(dataset.fingerprint, dataset.event_shape, str(self.path))
        if self.place is not None:
            with suppress(RunError):  # then it has to be said again
                remember(dataset.fingerprint, datasets.canonical_name(self.place))
        return dataset

    def density(self, name: StageName) -> "Density":
        """Loads one stage's model in evaluation mode.

        Raises:
            RunError: the stage is not complete, or its weights are damaged or foreign.
        """
        return self._load(name)[0]

    def _load(self, name: StageName) -> "tuple[Density, StageConfig]":
        file = self.stage(name).weights_file(self.weights)
        self.check(name)
        if not file.is_file():
            raise RunError(f"{file} is missing: take the last weights, or fit the stage again.")
        density, config = load_density(file, self.sampler)
        if config.stage != name:
            raise RunError(f"{file} holds a {config.stage}, not a {name}.")
        density = density.to(self.device)
        return (density if config.sigma is None else density.at(self._sigma(config))), config

    def two_step(self) -> "TwoStep | None":
        """Returns kernel, prior and (where fitted) denoiser.

        A joint stage gives both where the run does not hold both as stages of their own.

        Returns:
            None where there is no complete prior.

        Raises:
            RunError: files are damaged, or prior and denoiser do not belong together.
        """
        from smoothctl.architectures.base import BothStages
        from smoothctl.smoothing.two_step import TwoStep

        stages = self.stages()
        prior: Density
        denoiser: Density | None
        if "joint" in stages and not {"prior", "denoiser"} <= set(stages):
            joint, config = self._load("joint")
            assert isinstance(joint, BothStages)
            prior, denoiser = joint.prior(), joint.denoiser()
        elif "prior" in stages:
            prior, config = self._load("prior")
            denoiser = None
            if "denoiser" in stages:
                denoiser, other = self._load("denoiser")
                config.check_same_smoothing(other, str(self.path))
                if "float64" in (config.precision, other.precision):
                    prior, denoiser = prior.double(), denoiser.double()
        else:
            return None
        assert config.kernel is not None
        assert config.sigma is not None
        kernel = kernels.build(config.kernel, self._sigma(config), config.scale)
        return TwoStep(kernel, prior, denoiser, self.sampler.get(WALK, 0))

    def _sigma(self, config: StageConfig) -> float:
        """Returns the σ that was chosen, or a smoothed stage's largest one."""
        return float(self.sampler.get(SIGMA, config.sigma))


def place_of(config: StageConfig, where: str) -> str:
    """Returns what to open for the data that a stage was fitted to.

    Args:
        config: the stage's; it says what the data are, and never where.
        where: the run, for messages.

    Raises:
        UsageError: no installed package has the dataset.
        DataError: nobody has named the data on this machine.
    """
    if datasets.is_packaged(config.dataset):
        return config.dataset
    place = recall(config.data_sha256)
    if place is None:
        there = "PATH" if config.dataset.startswith("./") else config.dataset
        raise DataError(
            f"Where the data of {where} are, {config.dataset}, was not said on this machine: add "
            f"`dataset={there}`."
        )
    return place


def load_run(
    path: str | Path,
    weights: Weights = "last",
    device: "str | torch.device" = "cpu",
    sampler: Mapping[str, Any] | None = None,
    dataset: str | None = None,
    note: Callable[[str], None] | None = None,
) -> Run:
    """Opens a run folder.

    Args:
        path: the folder that holds prior/, denoiser/, baseline/ or joint/; or the name of an
            installed model, which becomes a folder under runs/.
        weights: "last" or "best".
        device: where the models go.
        sampler: settings of the stages that change samples alone (`Density.sampler_settings`).
        dataset: where the run's data are, if it came from elsewhere or they have moved; what
            `open_dataset` takes.
        note: told a sentence for each stage whose config.toml is not what its weights say.

    Raises:
        RunError: there is no such folder or model, or no complete stage in it.
        UsageError: no stage has such a sampler setting, or its value is wrong.
    """
    if packaged.is_packaged(str(path)):
        path = packaged.as_run(str(path), RUNS, note or (lambda _: None))
    run = Run(Path(path), weights, device, sampler or {}, dataset)
    if not run.path.is_dir():
        raise packaged.no_run(path)
    if not run.stages():
        started = [run.stage(name) for name in STAGES if run.stage(name).started]
        if started:
            raise RunError(" ".join(stage.lacking() for stage in started))
        raise RunError(f"{path} holds no complete stage; fit-prior makes one.")
    if note is not None:
        for sentence in run.contradictions():
            note(sentence)
    _check_sampler(run)
    return run


def _check_sampler(run: Run) -> None:
    """Checks that some stage has each of the run's sampler settings."""
    if not run.sampler:
        return
    names = {config.architecture for config in run.configs().values()}
    known = sorted(set().union(*(architectures.load(name).sampler_settings for name in names)))
    if SIGMA in run.sampler:
        _check_sigma(run)
        known.append(SIGMA)
    if WALK in run.sampler:
        _check_walk(run)
        known.append(WALK)
    for key in run.sampler:
        if key not in known:
            raise UsageError(
                f"The stages of {run.path} have no sampler setting '{key}'{near_misses(key, known)}"
            )


def _check_sigma(run: Run) -> None:
    """Checks that the stages of x̃ were fitted to the chosen σ."""
    sigma = run.sampler[SIGMA]
    for name, config in run.configs().items():
        if config.sigma is None:
            continue
        lowest = config.options.get("lowest_sigma") or config.sigma
        if type(lowest) not in (int, float):  # a run of somebody else
            lowest = config.sigma
        is_number = isinstance(sigma, int | float) and not isinstance(sigma, bool)
        if not is_number or not lowest <= sigma <= config.sigma:
            whole = f"{lowest:g}" if lowest == config.sigma else f"{lowest:g} to {config.sigma:g}"
            raise UsageError(
                f"The {name} of {run.path} knows sigma {whole}, not {sigma!r:.80}: choose `sigma` "
                "from those, or fit it with lowest_sigma."
            )


def _check_walk(run: Run) -> None:
    """Checks the steps of a walk, and that there are images to walk among."""
    steps = run.sampler[WALK]
    if type(steps) is not int or not 0 <= steps <= _LONGEST_WALK:
        raise UsageError(
            f"`walk` is a number of steps, at most {_LONGEST_WALK:,}, not {steps!r:.80}."
        )
    if len(run.config().event_shape) != 3 or not {"prior", "joint"} & {*run.stages()}:
        raise UsageError(f"`walk` draws x̃ of images: {run.path} has no prior of images.")


def newest_run(needs: StageName | None = None) -> Path:
    """Returns the run under runs/ that was written last, among those that have the stage.

    Raises:
        RunError: there is none.
    """
    stages = STAGES if needs is None else (needs,)
    files = [file for name in stages for file in RUNS.glob(f"[!.]*/{name}/model.safetensors")]
    if not files:
        what = "run" if needs is None else f"run with a complete {needs}"
        raise RunError(f"There is no {what} under {RUNS}/; start with smoothctl fit-prior.")
    return max(files, key=lambda file: file.stat().st_mtime).parent.parent


def _entries(file: IO[bytes]) -> Iterator[dict[str, float]]:
    while line := file.readline(_LONGEST_LINE):
        with suppress(ValueError):
            entry = parse_json(line)
            if isinstance(entry, dict) and _is_step(entry.get("step")):
                yield {key: value for key, value in entry.items() if type(value) in (int, float)}


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53
