"""The entry-point groups that smoothctl reads, each with its registry; nothing is imported."""

from typing import Any

from smoothctl.registry.registry import Registry

__all__ = ["REGISTRIES"]

_ALL: tuple[Registry[Any], ...] = (
    Registry("smoothctl.architectures", "architecture", "smoothctl.architectures.base:Density"),
    Registry("smoothctl.kernels", "kernel", "smoothctl.kernels.base:Kernel"),
    Registry("smoothctl.datasets", "dataset", "smoothctl.datasets.base:Dataset"),
    Registry("smoothctl.features", "feature extractor", "smoothctl.metrics.features:Features"),
    Registry("smoothctl.models", "model", "smoothctl.runs.packaged:PackagedModel", True),
    Registry("smoothctl.experiments", "experiment", "smoothctl.reproduce.base:Experiment", True),
)
REGISTRIES: dict[str, Registry[Any]] = {registry.group: registry for registry in _ALL}
"""Entry-point group -> its registry."""
