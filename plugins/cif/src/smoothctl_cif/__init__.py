"""Continuously indexed flows for smoothctl."""

from smoothctl_cif.density import CIFRealNVP

__all__ = ["CIFRealNVP"]
