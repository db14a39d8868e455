"""The contract suites over every registered kernel and architecture."""

from typing import ClassVar

import pytest

from smoothctl import architectures, kernels
from smoothctl.testing import DensityContract, ImageDensityContract, KernelContract

SMALL = {
    "logistic-mixture": {"mixtures": 3, "width": 8},
    "made": {"mixtures": 2, "width": 12, "layers": 2},
    "realnvp": {"couplings": 4, "width": 12},
    "pixelcnnpp": {"blocks": 1, "filters": 4, "mixtures": 2},
}


class TestGaussian(KernelContract):
    kernel_class = kernels.load("gaussian")


class TestLaplace(KernelContract):
    kernel_class = kernels.load("laplace")


class TestUniform(KernelContract):
    kernel_class = kernels.load("uniform")


class TestLogisticMixture(DensityContract):
    density_class = architectures.load("logistic-mixture")
    options: ClassVar = SMALL["logistic-mixture"]


class TestLogisticMixture1d(TestLogisticMixture):
    dims = 1


class TestMADE(DensityContract):
    density_class = architectures.load("made")
    options: ClassVar = SMALL["made"]


class TestMADE1d(TestMADE):
    dims = 1


class TestMADERandomOrder(TestMADE):
    options: ClassVar = {**SMALL["made"], "order": "random", "order_seed": 3}


class TestRealNVP(DensityContract):
    density_class = architectures.load("realnvp")
    options: ClassVar = SMALL["realnvp"]


class TestPixelCNNpp(ImageDensityContract):
    density_class = architectures.load("pixelcnnpp")
    options: ClassVar = SMALL["pixelcnnpp"]


class TestPixelCNNppColour(TestPixelCNNpp):
    shape: ClassVar = (3, 3, 4)


def test_every_builtin_is_under_contract() -> None:
    suites = [c for c in globals().values() if isinstance(c, type)]
    covered = {
        getattr(c, "density_class", None) or getattr(c, "kernel_class", None) for c in suites
    }
    for registry in (architectures.registry, kernels.registry):
        for entry in registry.entries():
            if entry.package == "smoothctl":
                assert registry.load(entry.name) in covered, entry.name


@pytest.mark.parametrize("name", SMALL)
def test_summary_is_a_sentence(name: str) -> None:
    assert len(architectures.load(name).summary) > 20
