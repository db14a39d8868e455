"""The architecture fulfils the contract of densities that have a bound."""

from typing import ClassVar

from smoothctl_cif import CIFRealNVP

from smoothctl.testing import BoundedDensityContract


class TestCIFRealNVP(BoundedDensityContract):
    density_class = CIFRealNVP
    options: ClassVar = {"blocks": 2, "width": 8, "layers": 1, "index_width": 6}
