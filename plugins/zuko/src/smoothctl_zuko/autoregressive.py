"""Masked autoregressive flows: affine, spline and polynomial."""

from typing import Any, ClassVar

from pydantic import Field
from zuko.flows import autoregressive, polynomial, spline

from smoothctl.config import config
from smoothctl.errors import UsageError
from smoothctl_zuko.base import ZukoFlow

__all__ = ["BPF", "MAF", "NSF", "SOSPF", "AutoregressiveFlow"]


class AutoregressiveFlow(ZukoFlow):
    """Each coordinate is transformed given those before it, whose order alternates."""

    @config
    class Config(ZukoFlow.Config):
        """Settings of every autoregressive flow."""

        passes: int = Field(
            0,
            ge=0,
            le=4096,
            description="steps of the inverse; 0: one a coordinate; 2: coupling",
        )

    @property
    def masked(self) -> dict[str, Any]:
        """The arguments that zuko's autoregressive flows share."""
        c = self.config
        if c.passes == 1 and self.event_shape[0] > 1:
            raise UsageError(
                "One pass inverts no flow of several coordinates: set passes=0, or 2 and more."
            )
        return {
            "transforms": c.transforms,
            "passes": c.passes or None,
            "hidden_features": self.hidden,
        }


class MAF(AutoregressiveFlow):
    """Affine transformations exp(a) x + b (Papamakarios et al. 2017)."""

    summary = "zuko's masked autoregressive flow of affine transformations"
    least_dims: ClassVar[int] = 2

    def build(self, features: int, context: int) -> autoregressive.MAF:
        """Returns zuko's MAF."""
        return autoregressive.MAF(features, context, **self.masked)


class NSF(AutoregressiveFlow):
    """Monotonic rational-quadratic splines on [-5, 5] standard deviations (Durkan et al. 2019)."""

    @config
    class Config(AutoregressiveFlow.Config):
        """Settings of `zuko-nsf`."""

        transforms: int = Field(3, ge=1, le=64, description="transformations, one after another")
        bins: int = Field(8, ge=2, le=1024, description="pieces of each spline")

    summary = "zuko's neural spline flow, autoregressive"

    def build(self, features: int, context: int) -> spline.NSF:
        """Returns zuko's NSF."""
        return spline.NSF(features, context, bins=self.config.bins, **self.masked)


class SOSPF(AutoregressiveFlow):
    """Integrals of sums of squared polynomials (Jaini et al. 2019)."""

    @config
    class Config(AutoregressiveFlow.Config):
        """Settings of `zuko-sospf`."""

        transforms: int = Field(3, ge=1, le=64, description="transformations, one after another")
        degree: int = Field(4, ge=1, le=16, description="degree of each polynomial")
        polynomials: int = Field(3, ge=1, le=256, description="polynomials in each sum")

    summary = "zuko's sum-of-squares polynomial flow"

    def build(self, features: int, context: int) -> polynomial.SOSPF:
        """Returns zuko's SOSPF."""
        c = self.config
        return polynomial.SOSPF(
            features, context, degree=c.degree, polynomials=c.polynomials, **self.masked
        )


class BPF(AutoregressiveFlow):
    """Bernstein polynomials on [-5, 5] standard deviations (Sick et al. 2020)."""

    @config
    class Config(AutoregressiveFlow.Config):
        """Settings of `zuko-bpf`."""

        transforms: int = Field(3, ge=1, le=64, description="transformations, one after another")
        degree: int = Field(16, ge=2, le=64, description="degree of each polynomial")

    summary = "zuko's Bernstein polynomial flow"

    def build(self, features: int, context: int) -> polynomial.BPF:
        """Returns zuko's BPF."""
        return polynomial.BPF(features, context, degree=self.config.degree, **self.masked)
