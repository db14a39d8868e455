"""What a fit is told and what it resolves to: defaults, presets, σ, and what a prior hands on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smoothctl import architectures, datasets, kernels
from smoothctl.architectures.base import Density
from smoothctl.config import as_dict, build
from smoothctl.datasets.base import Dataset, Domain
from smoothctl.errors import RunError, UsageError, near_misses
from smoothctl.metrics.sigma import sigma_heuristic
from smoothctl.metrics.spreads import differ, spreads
from smoothctl.runs.config import Precision, StageConfig, StageName, TrainingConfig
from smoothctl.runs.run import RUNS, Run, Stage
from smoothctl.training.reporter import Reporter

__all__ = ["FitSettings", "resolve", "sources_of"]

DEFAULT_DATASETS: dict[Domain, str] = {"vector": "rings", "image": "digits"}
DEFAULT_ARCHITECTURES: dict[Domain, str] = {"vector": "made", "image": "pixelcnnpp"}
DEFAULT_KERNEL = "gaussian"
_SHA256 = "sha256:"
_OF_SMOOTHING = ("kernel", "sigma", "standardise", "scale")


@dataclass(frozen=True)
class FitSettings:
    """What the caller chose; None and missing keys mean the default.

    Args:
        dataset: registered name, path, or id on the Hugging Face hub; see `open_dataset`.
        architecture: registered name.
        kernel: registered name.
        sigma: standard deviation of the smoothing, in data units; where columns are standardised,
            in units of their spreads.
        standardise: smooth each column of vectors by its own spread; None: where they differ by
            more than a factor of 3.
        scale: the spreads, where they are known; see `StageConfig`.
        out: run folder.
        seed: determines everything that is random.
        precision: float32, float64, or bf16 mixed precision.
        device: "auto" or "cpu".
        data: settings of the dataset.
        preset: name of a preset of the architecture; options and training win over it.
        options: settings of the architecture.
        training: settings of `TrainingConfig`.
        init_from: a weights file to start from, of the same architecture and settings; what is
            recorded of it is its SHA-256.
        overwrite: replace a stage that was fitted with another configuration.
        sources: dotted key -> where the value came from, for config.toml.
    """

    dataset: str | None = None
    architecture: str | None = None
    kernel: str | None = None
    sigma: float | None = None
    standardise: bool | None = None
    scale: Sequence[float] | None = None
    out: str | Path | None = None
    seed: int = 0
    precision: Precision = "float32"
    device: str = "auto"
    data: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    init_from: str | Path | None = None
    overwrite: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)


def resolve(
    name: StageName, settings: FitSettings, sources: dict[str, str], reporter: Reporter
) -> tuple[StageConfig, Dataset, Run]:
    """Fills in every value that was not chosen."""
    settings = _inherit(settings, sources, reporter) if name == "denoiser" else settings
    _check_settings(settings)
    dataset_name = datasets.canonical_name(_or(settings.dataset, _default_dataset(settings)))
    dataset = datasets.open_dataset(dataset_name, settings.data, reporter.note)
    architecture = _or(settings.architecture, DEFAULT_ARCHITECTURES[dataset.domain])
    if settings.dataset is None or settings.architecture is None:
        reporter.note(f"Fits {architecture} to {dataset_name}.")
    cls = architectures.load(architecture)
    if cls.domain != dataset.domain:
        raise UsageError(
            f"{architecture} models {cls.domain}s, and {dataset.name} holds {dataset.domain}s: "
            "choose another --arch ('smoothctl architectures list') or --dataset."
        )
    kernel, sigma, scale = None, None, None
    if name != "baseline":
        kernel = _or(settings.kernel, DEFAULT_KERNEL)
        if name == "prior" and cls.required_kernel not in (None, kernel):
            raise UsageError(
                f"The noise of {architecture} is {cls.required_kernel}: it cannot be a prior of "
                f"data smoothed by {kernel}; take --kernel {cls.required_kernel}."
            )
        scale = _choose_scale(settings, cls, dataset, reporter)
        sigma = _choose_sigma(settings, cls, dataset, scale, sources, reporter)
        kernels.build(kernel, sigma, scale)
    elif any(getattr(settings, key) is not None for key in _OF_SMOOTHING):
        raise UsageError(
            "A baseline is fitted to unsmoothed data: it has no kernel, no sigma and nothing to "
            "standardise."
        )
    settings = _with_preset(settings, cls, architecture, sources)
    training = build(TrainingConfig, {**cls.training_defaults, **settings.training}, "training")
    slug = f"{dataset.slug}-{architecture}".replace(":", "-")
    run = Run(RUNS / slug if settings.out is None else Path(settings.out))
    if not str(run.path).isprintable():
        raise UsageError(f"--out {str(run.path)!r} is not printable text: choose another name.")
    epochs = training.steps * training.batch_size / len(dataset.train)
    suited = _suited(run.stage(name), architecture, epochs, settings)
    sources |= {f"options.{key}": "suits the stage" for key in suited}
    options = build(cls.Config, {**suited, **settings.options}, architecture)
    values = {
        "stage": name,
        "dataset": dataset_name,
        "data_sha256": dataset.fingerprint,
        "event_shape": dataset.event_shape,
        "levels": dataset.levels,
        "kernel": kernel,
        "sigma": sigma,
        "scale": scale,
        "architecture": architecture,
        "preset": settings.preset,
        "seed": settings.seed,
        "precision": settings.precision,
        "init_from": None if settings.init_from is None else _digest(str(settings.init_from)),
        "data": dict(dataset.options),
        "options": as_dict(options),
        "training": training,
    }
    return build(StageConfig, values, "the configuration"), dataset, run


def _suited(
    stage: Stage, architecture: str, epochs: float, settings: FitSettings
) -> dict[str, Any]:
    """Returns the architecture's settings for the stage, where nobody chose them.

    A stage that goes on keeps what it was begun with.
    """
    cls = architectures.load(architecture)
    found = dict(cls.suited(stage.path.name, epochs, settings.options))
    if stage.started and not settings.overwrite:
        begun = stage.config()
        if begun.architecture == architecture:
            found |= {key: begun.options[key] for key in found if key in begun.options}
    return {key: value for key, value in found.items() if key not in settings.options}


def _with_preset(
    settings: FitSettings, cls: type[Density], architecture: str, sources: dict[str, str]
) -> FitSettings:
    """Puts the preset's values under those that were chosen, but over a prior's."""
    if settings.preset is None:
        return settings
    if settings.preset not in cls.presets:
        hint = near_misses(settings.preset, cls.presets) if cls.presets else ": it has none."
        raise UsageError(f"{architecture} has no preset '{settings.preset}'{hint}")
    options, training = dict(settings.options), dict(settings.training)
    inherited = sources.get("preset") == "prior"
    for key, value in cls.presets[settings.preset].items():
        name = key.removeprefix("training.")
        table, kind = (options, "options") if name == key else (training, "training")
        from_prior = sources.get(f"{kind}.{name}") == "prior"
        if name not in table or (from_prior and not inherited):
            table[name] = value
            sources[f"{kind}.{name}"] = f"preset {settings.preset}"
    return replace(settings, options=options, training=training)


def _check_settings(settings: FitSettings) -> None:
    """Checks the settings of a named architecture before any data are read.

    Raises:
        UsageError: an unknown architecture, preset or setting.
    """
    if settings.architecture is None:
        return
    cls = architectures.load(settings.architecture)
    checked = _with_preset(settings, cls, settings.architecture, {})
    build(cls.Config, checked.options, settings.architecture)
    build(TrainingConfig, checked.training, "training")


def _digest(file: str) -> str:
    """Returns what a configuration says of the weights that a fit starts from.

    Raises:
        UsageError: it is such a saying itself, or no file.
    """
    if file.startswith(_SHA256):
        raise UsageError(
            f"The fit started from weights whose SHA-256 is {file.removeprefix(_SHA256)}: name "
            "their file with --init-from FILE."
        )
    path = Path(file)
    if path.is_dir():
        raise UsageError(f"--init-from takes a weights file, such as {path}/model.safetensors.")
    try:
        with path.open("rb") as opened:
            return _SHA256 + hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"--init-from {file}: {error.strerror or error}.") from error


def _default_dataset(settings: FitSettings) -> str:
    """Returns the embedded dataset of the architecture's domain."""
    name = settings.architecture
    return DEFAULT_DATASETS["vector" if name is None else architectures.load(name).domain]


def _or(chosen: str | None, default: str) -> str:
    """Returns what was chosen, also where that is an empty and so an unknown name."""
    return default if chosen is None else chosen


def _choose_sigma(
    settings: FitSettings,
    cls: type[Density],
    dataset: Dataset,
    scale: Sequence[float] | None,
    sources: dict[str, str],
    reporter: Reporter,
) -> float:
    if settings.sigma is not None:
        return settings.sigma
    if cls.suggested_sigma is not None:
        sources["sigma"] = "suggested by the architecture"
        reporter.note(f"Takes sigma = {cls.suggested_sigma:g}, suggested for {cls.__name__}.")
        return cls.suggested_sigma
    if dataset.suggested_sigma is not None:
        sources["sigma"] = "suggested by the dataset"
        reporter.note(f"Takes sigma = {dataset.suggested_sigma:g}, suggested for {dataset.name}.")
        return dataset.suggested_sigma
    estimate = sigma_heuristic(dataset, scale=scale)
    sigma = float(f"{estimate.sigma:.3g}")
    sources["sigma"] = "heuristic"
    what = "data points" if scale is None else "standardised rows"
    reporter.note(f"Takes sigma = {sigma:g}, the median distance of two {what} over 2√D.")
    return sigma


def _choose_scale(
    settings: FitSettings, cls: type[Density], dataset: Dataset, reporter: Reporter
) -> tuple[float, ...] | None:
    """Returns the spread of each column where they are standardised; None where they are not.

    Raises:
        UsageError: images, or an architecture that needs the same noise in all columns.
    """
    if settings.scale is not None:
        return tuple(settings.scale)
    if dataset.domain == "image":
        if settings.standardise:
            raise UsageError("Images have one scale: there is nothing to standardise.")
        return None
    if settings.standardise is False:
        return None
    scale = spreads(dataset)
    if not (settings.standardise or differ(scale)):
        return None
    said = f"The spreads of the columns differ, from {min(scale):g} to {max(scale):g}"
    if cls.loss_in_nats():
        reporter.note(
            f"{said}: sigma is in units of each one's; --set standardise=false takes one for all."
        )
        return scale
    if settings.standardise:
        raise UsageError(f"{cls.__name__} takes the same noise in all columns: rescale the data.")
    reporter.note(f"{said}, and {cls.__name__} takes the same noise in all: rescale the data.")
    return None


def sources_of(settings: FitSettings) -> dict[str, str]:
    """Returns where each given value came from: the Python call, where nobody says otherwise."""
    keys = ["dataset", "architecture", "kernel", "sigma", "seed", "precision", "preset"]
    keys += ["init_from", "standardise", "scale"]
    given = [key for key in keys if getattr(settings, key) != getattr(FitSettings, key)]
    for table in ("data", "options", "training"):
        given += [f"{table}.{name}" for name in getattr(settings, table)]
    return dict.fromkeys(given, "Python call") | dict(settings.sources)


def _inherit(settings: FitSettings, sources: dict[str, str], reporter: Reporter) -> FitSettings:
    """Takes dataset, kernel, σ, architecture and its settings from the prior.

    A contradiction is an error, but for the architecture and its settings, which may differ. A
    prior's architecture that can be no denoiser is left for the domain's default.
    """
    if settings.out is None:
        raise UsageError("A denoiser is fitted beside its prior: name the run folder with --out.")
    prior = Run(Path(settings.out)).stage("prior")
    if not prior.started:
        raise RunError(f"{settings.out} has no prior; fit-prior --out {settings.out} makes one.")
    config = prior.config()
    if settings.standardise not in (None, config.scale is not None):
        raise RunError(
            f"standardise={settings.standardise} contradicts the prior in {prior.config_file}: "
            "leave it out, or fit another prior."
        )
    for key in ("dataset", "data", "kernel", "sigma", "scale"):
        chosen, inherited = getattr(settings, key), getattr(config, key)
        if key == "data":
            chosen = dict(chosen) or None
            sources.update({f"data.{name}": "prior" for name in inherited})
        if key == "dataset" and chosen is not None:
            chosen = datasets.canonical_name(chosen)
        if chosen is not None and chosen != inherited:
            raise RunError(
                f"The denoiser's {key} ({chosen}) is not its prior's ({inherited} in "
                f"{prior.config_file}): leave it out, or fit another prior."
            )
        sources[key] = "prior"
    if settings.architecture is None:
        settings = replace(settings, architecture=_denoising(config.architecture, reporter))
    options = dict(settings.options)
    if settings.architecture == config.architecture:
        sources.setdefault("architecture", "prior")
        inherited_options = _chosen(config)
        inherited_options = {k: v for k, v in inherited_options.items() if k not in options}
        sources.update({f"options.{name}": "prior" for name in inherited_options})
        options |= inherited_options
    preset = settings.preset
    if preset is None and settings.architecture == config.architecture:
        preset = config.preset
        sources["preset"] = "prior"
    return replace(
        settings,
        dataset=config.dataset,
        data=config.data,
        kernel=config.kernel,
        sigma=config.sigma,
        standardise=config.scale is not None,
        scale=config.scale,
        preset=preset,
        options=options,
    )


def _chosen(prior: StageConfig) -> dict[str, Any]:
    """Returns the prior's settings without those that each stage chooses for itself."""
    cls = architectures.load(prior.architecture)
    own, default = cls.suited("denoiser", 1.0, {}), as_dict(cls.Config())
    return {
        key: value
        for key, value in prior.options.items()
        if key not in own or value != default.get(key)
    }


def _denoising(architecture: str, reporter: Reporter) -> str:
    """Returns the prior's architecture, or its domain's default where that takes no context."""
    cls = architectures.load(architecture)
    if cls.conditional:
        return architecture
    default = DEFAULT_ARCHITECTURES[cls.domain]
    reporter.note(f"Takes {default}: the prior's {architecture} can be no denoiser.")
    return default
