"""The contract suites over every registered kernel and architecture."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from smoothctl import architectures, datasets, kernels
from smoothctl.datasets.base import Dataset
from smoothctl.metrics import features
from smoothctl.metrics.dinov2 import DINOv2
from smoothctl.metrics.features import Request
from smoothctl.testing import (
    DatasetContract,
    DensityContract,
    FeaturesContract,
    ImageDensityContract,
    KernelContract,
)
from smoothctl.testing.settings import check_any_settings
from tests.test_inception import save, tiny

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


class TestPixels(FeaturesContract):
    features_class = features.load("pixels")


class TestPixelsOfColour(FeaturesContract):
    features_class = features.load("pixels")
    shape = (3, 5, 4)


class TestClassifier(FeaturesContract):
    features_class = features.load("classifier")


class TestInception(FeaturesContract):
    """With a small network in the place of the published one, which cannot be shipped."""

    features_class = features.load("inception")

    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path: Path) -> None:
        self.file = tmp_path / "tiny.pt"
        self.sha256 = save(tiny(), self.file)

    def request(self) -> Request:
        return replace(super().request(), weights=self.file, sha256=self.sha256)


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
    """And with frequencies."""

    options: ClassVar = {**SMALL["made"], "order": "random", "order_seed": 3, "frequencies": 2}


class TestMADEOfAnySigma(TestMADE):
    """With σ as an input."""

    options: ClassVar = {**SMALL["made"], "lowest_sigma": 0.05}


class TestRealNVPOfAnySigma(DensityContract):
    density_class = architectures.load("realnvp")
    options: ClassVar = {**SMALL["realnvp"], "lowest_sigma": 0.05}


class TestRealNVP(DensityContract):
    density_class = architectures.load("realnvp")
    options: ClassVar = SMALL["realnvp"]


class TestPixelCNNpp(ImageDensityContract):
    density_class = architectures.load("pixelcnnpp")
    options: ClassVar = SMALL["pixelcnnpp"]


@pytest.mark.slow
class TestPixelCNNppOfAnySigma(ImageDensityContract):
    density_class = architectures.load("pixelcnnpp")
    options: ClassVar = {**SMALL["pixelcnnpp"], "lowest_sigma": 0.05}
    perturbation = 0.03  # samples of wilder weights leave all numbers


class TestPixelCNNppColour(TestPixelCNNpp):
    shape: ClassVar = (3, 3, 4)


SYNTHETIC = [
    entry.name
    for entry in datasets.registry.entries()
    if entry.package == "smoothctl" and datasets.load(entry.name).domain == "vector"
]


@pytest.mark.parametrize("name", SYNTHETIC, scope="class")
class TestSynthetic(DatasetContract):
    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.dataset_class = datasets.load(name)


class TestDigits(DatasetContract):
    def open(self) -> Dataset:
        return datasets.open_dataset("digits")


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.names())
def test_any_settings_of_every_architecture(name: str) -> None:
    """As in the contract, far more often."""
    cls = architectures.load(name)
    shape = (2,) if cls.domain == "vector" else (1, 4, 4)
    check_any_settings(cls, SMALL.get(name, {}), shape, examples=400)


def test_every_builtin_is_under_contract() -> None:
    suites = [c for c in globals().values() if isinstance(c, type)]
    kinds = ("density_class", "kernel_class", "features_class")
    covered = {getattr(c, kind, None) for c in suites for kind in kinds}
    covered.add(DINOv2)  # in test_dinov2.py, where transformers is installed
    for registry in (architectures.registry, kernels.registry, features.registry):
        for entry in registry.entries():
            if entry.package == "smoothctl":
                assert registry.load(entry.name) in covered, entry.name


@pytest.mark.parametrize("name", SMALL)
def test_summary_is_a_sentence(name: str) -> None:
    assert len(architectures.load(name).summary) > 20
