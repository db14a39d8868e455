"""`smoothctl fit-joint`."""

from smoothctl.cli import options
from smoothctl.cli.fitting import fit_stage

__all__ = ["command"]


def command(
    dataset: options.DatasetName = None,
    data: options.DataSettings = None,
    skip_corrupt: options.SkipCorrupt = False,
    arch: options.Architecture = None,
    preset: options.Preset = None,
    kernel: options.KernelName = None,
    sigma: options.Sigma = None,
    assignments: options.Set = None,
    config: options.ConfigFile = None,
    steps: options.Steps = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    on_nan: options.OnNan = None,
    compiled: options.Compile = False,
    seed: options.FitSeed = None,
    precision: options.FitPrecision = None,
    device: options.Device = options.DeviceChoice.auto,
    init_from: options.InitFrom = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Fit one autoregressive network over x̃ and x: both steps at once (ARDS section 4.1)."""
    fit_stage("joint", locals())
