"""TarFlow (Zhai et al. 2024) for smoothctl: of images by patches, and of vectors by coordinates."""

from smoothctl_tarflow.density import TarFlow, VectorTarFlow

__all__ = ["TarFlow", "VectorTarFlow"]
