"""Coupling flows: one half of the coordinates is transformed given the other."""

from typing import ClassVar

from zuko.flows import coupling
from zuko.transforms import AdditiveTransform

from smoothctl_zuko.base import ZukoFlow

__all__ = ["NICE", "RealNVP"]


class NICE(ZukoFlow):
    """Additive couplings, which keep volumes (Dinh et al. 2014).

    zuko's class of this name has affine couplings unless told otherwise. The standardisation is
    the paper's diagonal scaling.
    """

    summary = "zuko's additive couplings, which keep volumes"
    least_dims: ClassVar[int] = 2

    def build(self, features: int, context: int) -> coupling.NICE:
        """Returns zuko's NICE, additive."""
        return coupling.NICE(
            features,
            context,
            transforms=self.config.transforms,
            hidden_features=self.hidden,
            univariate=AdditiveTransform,
            shapes=[()],
        )


class RealNVP(ZukoFlow):
    """Affine couplings (Dinh et al. 2017)."""

    summary = "zuko's affine couplings"
    least_dims: ClassVar[int] = 2

    def build(self, features: int, context: int) -> coupling.RealNVP:
        """Returns zuko's RealNVP."""
        return coupling.RealNVP(
            features, context, transforms=self.config.transforms, hidden_features=self.hidden
        )
