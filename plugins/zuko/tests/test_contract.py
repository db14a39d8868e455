"""Every architecture fulfils the contract of densities."""

from typing import ClassVar

import pytest
import smoothctl_zuko

from smoothctl.testing import DensityContract

_SMALL = {"transforms": 2, "width": 8, "layers": 1}
_NEURAL = {**_SMALL, "signal": 4, "monotonic_width": 16, "monotonic_layers": 1}


class TestMAF(DensityContract):
    density_class = smoothctl_zuko.MAF
    options: ClassVar = _SMALL


class TestNSF(DensityContract):
    density_class = smoothctl_zuko.NSF
    options: ClassVar = {**_SMALL, "bins": 4}


class TestSOSPF(DensityContract):
    density_class = smoothctl_zuko.SOSPF
    options: ClassVar = {**_SMALL, "degree": 2, "polynomials": 2}


@pytest.mark.slow
class TestBPF(DensityContract):
    density_class = smoothctl_zuko.BPF
    options: ClassVar = {**_SMALL, "degree": 6}


class TestNAF(DensityContract):
    density_class = smoothctl_zuko.NAF
    options: ClassVar = _NEURAL


@pytest.mark.slow
class TestUNAF(DensityContract):
    density_class = smoothctl_zuko.UNAF
    options: ClassVar = {**_NEURAL, "transforms": 1, "signal": 2, "monotonic_width": 2}


class TestNICE(DensityContract):
    density_class = smoothctl_zuko.NICE
    options: ClassVar = _SMALL


class TestRealNVP(DensityContract):
    density_class = smoothctl_zuko.RealNVP
    options: ClassVar = _SMALL


@pytest.mark.slow
class TestCNF(DensityContract):
    density_class = smoothctl_zuko.CNF
    options: ClassVar = {"width": 4, "layers": 1, "absolute": 1e-6, "relative": 1e-6}


class TestGF(DensityContract):
    density_class = smoothctl_zuko.GF
    options: ClassVar = {**_SMALL, "components": 4}


class TestGMM(DensityContract):
    density_class = smoothctl_zuko.GMM
    options: ClassVar = {"components": 3, "width": 8, "layers": 1}
