"""The architecture fulfils the contract of densities that have a bound."""

from typing import Any, ClassVar

from smoothctl_cif import CIFRealNVP

from smoothctl.testing import BoundedDensityContract


class TestCIFRealNVP(BoundedDensityContract):
    density_class = CIFRealNVP
    options: ClassVar = {"blocks": 2, "width": 8, "layers": 1, "index_width": 6, "scale_cap": 0.5}

    def build(self, *arguments: Any, **settings: Any) -> CIFRealNVP:
        """Brings p(u|z) and q(u|x) nearer, as training does: or sixteen draws are few."""
        density = super().build(*arguments, **settings)
        assert isinstance(density, CIFRealNVP)
        for block in density.blocks:
            for network in (block.generative.network, block.inference.network):
                for parameter in network[-1].parameters():
                    parameter.data *= 0.2
        return density
