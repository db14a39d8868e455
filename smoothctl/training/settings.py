"""What a fit is told and what it resolves to: defaults, presets, σ, and what a prior hands on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from smoothctl import architectures, datasets, kernels
from smoothctl.architectures.any_sigma import AnySigma
from smoothctl.architectures.base import Density
from smoothctl.config import as_dict, build, errors_of, settings_of
from smoothctl.datasets.base import Dataset, Domain
from smoothctl.errors import DataError, RunError, UsageError, near_misses
from smoothctl.kernels.base import Kernel
from smoothctl.metrics.sigma import sigma_heuristic
from smoothctl.metrics.spreads import differ, spreads
from smoothctl.rng import generator
from smoothctl.runs.config import Precision, StageConfig, StageName, TrainingConfig, is_same
from smoothctl.runs.run import RUNS, Run, Stage, place_of
from smoothctl.training.reporter import Reporter

__all__ = ["DESCRIBED", "FitPlan", "FitSettings", "resolve"]

DEFAULT_DATASETS: dict[Domain, str] = {"vector": "rings", "image": "digits"}
DEFAULT_ARCHITECTURES: dict[Domain, str] = {"vector": "made", "image": "pixelcnnpp"}
DESCRIBED = ("data_sha256", "event_shape", "levels")
"""What a configuration says of its data."""

DEFAULT_KERNEL = "gaussian"
_SHA256 = "sha256:"
_LARGEST = 1e15
"""Of x̃: what float32 can square and add up."""

_OF_SMOOTHING = ("kernel", "sigma", "standardise", "scale")
_INHERITED = ("data", "kernel", "sigma", "scale")


@dataclass(frozen=True)
class FitSettings:
    """What the caller chose; None and missing keys mean the default.

    Args:
        dataset: registered name, path, or id on the Hugging Face hub; see `open_dataset`. A
            denoiser's are its prior's data, which may have moved.
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
        described: what `dataset` must turn out to be: `data_sha256`, `event_shape` and `levels` of
            the configuration that a fit repeats.
        overwrite: replace a stage that was fitted with another configuration.
        preview: draw a few samples, of the same noise each time, every so many steps; 0: never.
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
    described: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    preview: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)

    def given(self) -> dict[str, str]:
        """Returns where each given value came from: the Python call, if nobody says otherwise."""
        keys = ["dataset", "architecture", "kernel", "sigma", "seed", "precision", "preset"]
        keys += ["init_from", "standardise", "scale"]
        given = [key for key in keys if getattr(self, key) != getattr(FitSettings, key)]
        for table in ("data", "options", "training"):
            given += [f"{table}.{name}" for name in getattr(self, table)]
        return dict.fromkeys(given, "Python call") | dict(self.sources)

    def filled(self, sources: Mapping[str, str], **values: Any) -> "FitSettings":
        """Returns the settings with other values, and where those came from."""
        return replace(self, sources={**self.sources, **sources}, **values)


@dataclass(frozen=True)
class FitPlan:
    """What a fit resolves to: every value that it needs, once and in its type.

    Args:
        settings: what the caller chose, with presets and what a prior hands on.
        config: everything that determines the weights, as it is written down.
        options: the architecture's `Config`.
        kernel: smooths the data; None for a baseline.
        dataset: opened.
        run: the run folder.
    """

    settings: FitSettings
    config: StageConfig
    options: Any
    kernel: Kernel | None
    dataset: Dataset
    run: Run

    @property
    def place(self) -> str:
        """What was opened as the dataset; the configuration names it without its folders."""
        return _dataset_name(self.settings)

    @property
    def lowest_sigma(self) -> float:
        """Of what the model is fitted to all at once, as it takes σ as an input; 0: σ alone."""
        return float(getattr(self.options, "lowest_sigma", 0.0))

    @property
    def stage(self) -> Stage:
        """The stage's folder."""
        return self.run.stage(self.config.stage)


def resolve(stage: StageName, settings: FitSettings, reporter: Reporter) -> FitPlan:
    """Fills in every value that was not chosen.

    Wrong settings of an architecture that was named are refused before any data are read.

    Raises:
        UsageError: an unknown name or setting, or values that do not go together.
        RunError: a denoiser without a prior, or one that contradicts it.
    """
    settings = replace(settings, sources=settings.given())
    if stage == "denoiser":
        settings = _inherit(settings, reporter)
    model = None if settings.architecture is None else _model(settings, settings.architecture)
    name = _dataset_name(settings)
    dataset = datasets.open_dataset(name, settings.data, reporter.note)
    _check_described(settings, name, dataset)
    if model is None:
        model = _model(settings, DEFAULT_ARCHITECTURES[dataset.domain])
    if settings.dataset is None or settings.architecture is None:
        reporter.note(f"Fits {model.settings.architecture} to {name}.")
    return _plan(stage, _smoothed(stage, model, dataset, reporter), dataset)


@dataclass(frozen=True)
class _Model:
    """An architecture, its settings and its training's in their types, and all that was chosen."""

    cls: type[Density]
    options: Any
    training: TrainingConfig
    settings: FitSettings


def _model(settings: FitSettings, name: str) -> _Model:
    """Reads the settings of an architecture and of its training, or refuses them."""
    cls = architectures.load(name)
    settings = _with_preset(replace(settings, architecture=name), cls)
    options = build(cls.Config, settings.options, name)
    training = {**cls.training_defaults, **settings.training}
    return _Model(cls, options, build(TrainingConfig, training, "training"), settings)


def _plan(stage: StageName, model: _Model, dataset: Dataset) -> FitPlan:
    """Returns the plan of a model whose smoothing is chosen."""
    settings, run = model.settings, _run(model.settings, dataset)
    kernel = None
    if settings.kernel is not None and settings.sigma is not None:
        kernel = kernels.build(settings.kernel, settings.sigma, settings.scale)
        _check_smoothing(kernel, settings, dataset)
    suited = _suited(run.stage(stage), model, len(dataset.train))
    settings = settings.filled(dict.fromkeys((f"options.{k}" for k in suited), "suits the stage"))
    architecture = str(settings.architecture)
    with errors_of(architecture):
        options = replace(model.options, **suited)
    _check_lowest_sigma(stage, getattr(options, "lowest_sigma", 0.0), settings.sigma)
    if stage == "prior":
        _check_noise(model.cls.noise_setting, options, settings)
    options = _with_sigmas(stage, options, settings)
    init_from = None if settings.init_from is None else _digest(str(settings.init_from))
    with errors_of("the configuration"):
        config = StageConfig(
            stage=stage,
            dataset=_dataset_name(settings),
            data_sha256=dataset.fingerprint,
            event_shape=dataset.event_shape,
            levels=dataset.levels,
            kernel=settings.kernel and kernels.registry.qualified(settings.kernel),
            sigma=settings.sigma,
            scale=None if settings.scale is None else tuple(settings.scale),
            architecture=architectures.registry.qualified(architecture),
            preset=settings.preset,
            seed=settings.seed,
            precision=settings.precision,
            init_from=init_from,
            data=dict(dataset.options),
            options=as_dict(options),
            training=model.training,
        )
    return FitPlan(settings, config, options, kernel, dataset, run)


def _check_smoothing(kernel: Kernel, settings: FitSettings, dataset: Dataset) -> None:
    """Checks on a few examples that smoothing changes them, and into numbers that can be squared.

    Raises:
        UsageError: σ is lost in the last digits of the data, or the data in those of x̃.
    """
    numbers = "float64" if settings.precision == "float64" else "float32"
    few = max(16, min(1024, 2**20 // prod(dataset.event_shape)))
    examples = dataset.train.batch(settings.seed, 0, 0, min(few, len(dataset.train)))
    x = examples.to(getattr(torch, numbers))
    x_smooth = kernel.sample(x, generator("resolution"))
    if not x_smooth.abs().max() <= _LARGEST:
        raise UsageError(
            f"`sigma={kernel.sigma:g}` smooths the data beyond {_LARGEST:g}: lower it."
        )
    same = (x_smooth == x).double()
    if (same.mean() if x.ndim == 4 else same.mean(0).max()) > 0.5:
        raise UsageError(
            f"`sigma={kernel.sigma:g}` is lost in the last digits of the data, which {numbers} "
            "cannot resolve: raise it, or subtract a constant from the data and rescale them."
        )


def _check_lowest_sigma(stage: StageName, lowest: float, sigma: float | None) -> None:
    """Checks that a range of σ begins below the σ that it ends with.

    Raises:
        UsageError: it does not, or a baseline has one.
    """
    if lowest and sigma is None:
        raise UsageError(f"A {stage} has no sigma: leave `options.lowest_sigma` out.")
    if lowest and sigma is not None and lowest >= sigma:
        raise UsageError(
            f"`options.lowest_sigma={lowest:g}` must be below the largest, `sigma={sigma:g}`."
        )


def _check_noise(name: str, options: Any, settings: FitSettings) -> None:
    """Checks that a prior takes no more normal noise to be in its data than there is.

    Raises:
        UsageError: it does, as where the settings are those of a fit at another σ.
    """
    noise = getattr(options, name) if name else 0.0
    there = _normal_noise(options, settings)
    if noise > there:
        raise UsageError(
            f"`options.{name}={noise:g}` is more normal noise than there is in {settings.kernel} "
            f"noise of sigma={there or settings.sigma:g}: take at most {there:g}."
        )


def _with_sigmas(stage: StageName, options: Any, settings: FitSettings) -> Any:
    """Returns the options with the smaller σ that a denoiser goes through, each by its value.

    Raises:
        UsageError: they are none of a denoiser's, not below its own, or of other noise than normal.
    """
    if not isinstance(options, AnySigma) or not options.sigmas:
        return options
    sigmas = options.sigmas_below(settings.sigma or 1.0)
    said = f"`options.sigmas={list(sigmas)}`"
    if stage != "denoiser":
        raise UsageError(f"{said} are steps of a denoiser: leave them out for a {stage}.")
    if options.lowest_sigma:
        raise UsageError(f"{said} and lowest_sigma exclude each other: choose one of them.")
    if settings.sigma is not None and sigmas[-1] >= settings.sigma:
        raise UsageError(f"{said} must be below the prior's, {settings.sigma:g}.")
    if settings.kernel is not None and not kernels.registry.same(DEFAULT_KERNEL, settings.kernel):
        raise UsageError(f"{said}: only Gaussian noise can be taken off in steps.")
    return replace(options, sigmas=sigmas)


def _run(settings: FitSettings, dataset: Dataset) -> Run:
    """Returns the run folder: the chosen one, or one that is named after data and architecture."""
    architecture = str(settings.architecture).rpartition(":")[2]
    path = RUNS / f"{dataset.slug}-{architecture}".replace(":", "-")
    if settings.out is not None:
        path = Path(settings.out)
    if not str(path).isprintable():
        raise UsageError(f"The `out` {str(path)!r} is not printable text: choose another name.")
    return Run(path)


def _suited(stage: Stage, model: _Model, examples: int) -> dict[str, Any]:
    """Returns the architecture's settings for the stage, where nobody chose them.

    A stage that goes on keeps what it was begun with.
    """
    chosen = model.settings.options
    epochs = model.training.steps * model.training.batch_size / examples
    suited = {**model.cls.suited(stage.path.name, epochs, chosen), **_noise(stage, model)}
    if suited and stage.started and not model.settings.overwrite:
        begun = stage.config()
        if architectures.registry.same(begun.architecture, str(model.settings.architecture)):
            known = as_dict(model.cls.Config()) | dict(begun.options)
            suited = {key: known[key] for key in suited}
    return {key: value for key, value in suited.items() if key not in chosen}


def _noise(stage: Stage, model: _Model) -> dict[str, float]:
    """Returns the architecture's setting for the normal noise in what a prior is fitted to."""
    name, settings = model.cls.noise_setting, model.settings
    if not name or stage.path.name != "prior" or settings.sigma is None:
        return {}
    return {name: _normal_noise(model.options, settings)}


def _normal_noise(options: Any, settings: FitSettings) -> float:
    """Returns the deviation of the normal noise that smoothed data have at least."""
    normal = kernels.registry.same(DEFAULT_KERNEL, str(settings.kernel))
    return (getattr(options, "lowest_sigma", 0.0) or settings.sigma or 0.0) if normal else 0.0


def _with_preset(settings: FitSettings, cls: type[Density]) -> FitSettings:
    """Puts the preset's values under those that were chosen, but over a prior's."""
    if settings.preset is None:
        return settings
    if settings.preset not in cls.presets:
        hint = near_misses(settings.preset, cls.presets) if cls.presets else ": it has none."
        raise UsageError(f"{settings.architecture} has no preset '{settings.preset}'{hint}")
    tables = {"options": dict(settings.options), "training": dict(settings.training)}
    sources = dict(settings.sources)
    own = sources.get("preset") != "prior"
    for key, value in cls.presets[settings.preset].items():
        name = key.removeprefix("training.")
        kind = "options" if name == key else "training"
        dotted = f"{kind}.{name}"
        if name not in tables[kind] or (own and sources.get(dotted) == "prior"):
            tables[kind][name] = value
            sources[dotted] = f"preset {settings.preset}"
    options, training = tables["options"], tables["training"]
    return replace(settings, sources=sources, options=options, training=training)


def _digest(file: str) -> str:
    """Returns what a configuration says of the weights that a fit starts from.

    Raises:
        UsageError: it is such a saying itself, or no file.
    """
    if file.startswith(_SHA256):
        raise UsageError(
            f"The fit started from weights whose SHA-256 is {file.removeprefix(_SHA256)}: name "
            "their file by `init_from`."
        )
    path = Path(file)
    if path.is_dir():
        raise UsageError(f"`init_from` takes a weights file, such as {path}/model.safetensors.")
    try:
        with path.open("rb") as opened:
            return _SHA256 + hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"`init_from={file}`: {error.strerror or error}.") from error


def _check_described(settings: FitSettings, name: str, dataset: Dataset) -> None:
    """Checks that the data are those of the configuration that is repeated.

    Raises:
        DataError: they are not.
    """
    source = settings.sources.get("described", "the configuration")
    for key, value in settings.described.items():
        found = dataset.fingerprint if key == "data_sha256" else getattr(dataset, key)
        if found != (tuple(value) if isinstance(value, list) else value):
            raise DataError(
                f"{name} is not, or no longer, what {source} was fitted to ({key} is {found}, not "
                f"{value}): name the same data by `dataset`."
            )


def _dataset_name(settings: FitSettings) -> str:
    """Returns the chosen dataset, or the embedded one of the architecture's domain."""
    if settings.dataset is not None:  # an empty name is an unknown one
        return datasets.canonical_name(settings.dataset)
    name = settings.architecture
    return DEFAULT_DATASETS["vector" if name is None else architectures.load(name).domain]


def _smoothed(stage: StageName, model: _Model, dataset: Dataset, reporter: Reporter) -> _Model:
    """Chooses a kernel, the spreads of columns and σ.

    Raises:
        UsageError: a model of other events, or a baseline that was given one of them.
    """
    cls, settings = model.cls, model.settings
    if cls.domain != dataset.domain:
        raise UsageError(
            f"{settings.architecture} models {cls.domain}s, and {dataset.name} holds "
            f"{dataset.domain}s: choose another `architecture` ('smoothctl architectures list') or "
            "`dataset`."
        )
    if stage == "baseline":
        if any(getattr(settings, key) is not None for key in _OF_SMOOTHING):
            raise UsageError(
                "A baseline is fitted to unsmoothed data: it has no kernel, no sigma and nothing "
                "to standardise."
            )
        return model
    kernel = DEFAULT_KERNEL if settings.kernel is None else settings.kernel
    required = cls.required_kernel or kernel
    if stage == "prior" and not kernels.registry.same(required, kernel):
        raise UsageError(
            f"The noise of {settings.architecture} is {cls.required_kernel}: it cannot be a prior "
            f"of data smoothed by {kernel}; take `kernel={cls.required_kernel}`."
        )
    scale = _choose_scale(settings, cls, dataset, reporter)
    settings = replace(settings, kernel=kernel, scale=scale)
    if settings.sigma is None:
        sigma, source, reason = _default_sigma(cls, dataset, scale)
        reporter.note(f"Takes sigma = {sigma:g}, {reason}.")
        settings = settings.filled({"sigma": source}, sigma=sigma)
    return replace(model, settings=settings)


def _default_sigma(
    cls: type[Density], dataset: Dataset, scale: Sequence[float] | None
) -> tuple[float, str, str]:
    """Returns σ where nobody chose it, where it comes from, and that as a clause."""
    if cls.suggested_sigma is not None:
        reason = f"suggested for {cls.__name__}"
        return cls.suggested_sigma, "suggested by the architecture", reason
    if dataset.suggested_sigma is not None:
        return dataset.suggested_sigma, "suggested by the dataset", f"suggested for {dataset.name}"
    sigma = float(f"{sigma_heuristic(dataset, scale=scale).sigma:.3g}")
    what = "data points" if scale is None else "standardised rows"
    return sigma, "heuristic", f"the median distance of two {what} over 2√D"


def _choose_scale(
    settings: FitSettings, cls: type[Density], dataset: Dataset, reporter: Reporter
) -> tuple[float, ...] | None:
    """Returns the spread of each column where they are standardised; None where they are not.

    Raises:
        UsageError: images, or an architecture that needs the same noise in all columns.
    """
    if settings.scale is not None:
        return tuple(settings.scale)
    if dataset.domain == "image" and settings.standardise:
        raise UsageError("Images have one scale: there is nothing to standardise.")
    if dataset.domain == "image" or settings.standardise is False:
        return None
    scale = spreads(dataset)
    if not (settings.standardise or differ(scale)):
        return None
    said = f"The spreads of the columns differ, from {min(scale):g} to {max(scale):g}"
    if cls.loss_in_nats():
        reporter.note(
            f"{said}: sigma is in units of each one's; `standardise=False` takes one for all."
        )
        return scale
    if settings.standardise:
        raise UsageError(f"{cls.__name__} takes the same noise in all columns: rescale the data.")
    reporter.note(f"{said}, and {cls.__name__} takes the same noise in all: rescale the data.")
    return None


def _inherit(settings: FitSettings, reporter: Reporter) -> FitSettings:
    """Takes dataset, kernel, σ, architecture and its settings from the prior.

    A contradiction is an error, but for the architecture and its settings, which may differ. A
    prior's architecture that can be no denoiser is left for the domain's default.
    """
    prior = _prior_of(settings)
    config = prior.config()
    for sentence in prior.contradictions():
        reporter.note(sentence)
    _check_inherited(settings, config, prior.config_file)
    inherited = {key: getattr(config, key) for key in _INHERITED}
    if settings.dataset is None:
        inherited["dataset"] = place_of(config, str(settings.out))
    keys = [*inherited, *(f"data.{name}" for name in config.data)]
    sources = {**dict.fromkeys(keys, "prior"), "described": f"the prior in {settings.out}"}
    inherited["described"] = {key: getattr(config, key) for key in DESCRIBED}
    inherited["standardise"] = config.scale is not None
    settings = settings.filled(sources, **inherited)
    cls = architectures.load(config.architecture)
    if settings.architecture is None and not cls.conditional:
        default = DEFAULT_ARCHITECTURES[cls.domain]
        reporter.note(f"Takes {default}: the prior's {config.architecture} can be no denoiser.")
        return replace(settings, architecture=default)
    chosen = settings.architecture or config.architecture
    if not architectures.registry.same(chosen, config.architecture):
        return _inherit_lowest_sigma(settings, config)
    return _inherit_model(settings, config)


def _inherit_model(settings: FitSettings, prior: StageConfig) -> FitSettings:
    """Takes the architecture, its settings and a preset from the prior.

    Settings that each stage chooses for itself are taken where they are not the default.
    """
    cls = architectures.load(prior.architecture)
    own, default = cls.suited("denoiser", 1.0, {}), as_dict(cls.Config())
    options = {
        key: value
        for key, value in prior.options.items()
        if key not in settings.options
        and key != cls.noise_setting
        and (key not in own or value != default.get(key))
    }
    sources = dict.fromkeys((f"options.{name}" for name in options), "prior")
    sources["architecture"] = settings.sources.get("architecture", "prior")
    if settings.preset is None:
        settings = settings.filled({"preset": "prior"}, preset=prior.preset)
    options = {**settings.options, **options}
    return settings.filled(sources, architecture=prior.architecture, options=options)


def _inherit_lowest_sigma(settings: FitSettings, prior: StageConfig) -> FitSettings:
    """Takes the prior's range of σ, where another architecture can take σ as an input, too."""
    name, lowest = "lowest_sigma", prior.options.get("lowest_sigma")
    cls = architectures.load(str(settings.architecture))
    known = [setting["name"] for setting in settings_of(cls.Config)]
    if not lowest or name in settings.options or name not in known:
        return settings
    return settings.filled({f"options.{name}": "prior"}, options={**settings.options, name: lowest})


def _prior_of(settings: FitSettings) -> Stage:
    """Returns the prior that a denoiser is fitted beside.

    Raises:
        UsageError: no run folder is named.
        RunError: it has no prior.
    """
    if settings.out is None:
        raise UsageError("A denoiser is fitted beside its prior: name the run folder by `out`.")
    prior = Run(Path(settings.out)).stage("prior")
    if not prior.started:
        raise RunError(prior.lacking())
    return prior


def _check_inherited(settings: FitSettings, prior: StageConfig, file: Path) -> None:
    """Checks that what was chosen for a denoiser is its prior's.

    Raises:
        RunError: it is not.
    """
    if settings.standardise not in (None, prior.scale is not None):
        raise RunError(
            f"standardise={settings.standardise} contradicts the prior in {file}: leave it out, or "
            "fit another prior."
        )
    chosen = {key: getattr(settings, key) for key in _INHERITED}
    chosen["data"] = dict(settings.data) or None
    if settings.dataset is not None and prior.data_sha256 is None:  # else that is compared
        chosen["dataset"] = _dataset_name(settings)
    chosen["scale"] = None if settings.scale is None else tuple(settings.scale)
    for key, value in chosen.items():
        inherited = getattr(prior, key)
        if value is not None and not is_same(key, value, inherited):
            raise RunError(
                f"The denoiser's {key} ({value}) is not its prior's ({inherited} in {file}): leave "
                "it out, or fit another prior."
            )
