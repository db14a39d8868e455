"""The contract suites: properties that every registered kernel, architecture, … must have.

A plugin's tests subclass them:

    from smoothctl.testing import DensityContract

    class TestMine(DensityContract):
        density_class = Mine
        options = {"width": 8}
"""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from smoothctl.architectures.base import Density
from smoothctl.configs import as_dict, build, settings_of
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.kernels.base import Kernel
from smoothctl.metrics.features import Features, Request
from smoothctl.metrics.image_sets import ImageSet
from smoothctl.randomness import generator

__all__ = ["DensityContract", "FeaturesContract", "ImageDensityContract", "KernelContract"]

DTYPES = [torch.float32, torch.float64]


class KernelContract:
    """What every kernel must fulfil; set `kernel_class`."""

    kernel_class: ClassVar[type[Kernel]]
    sigmas: ClassVar[tuple[float, ...]] = (0.1, 1.7)

    @pytest.fixture(params=[0, 1])
    def kernel(self, request: pytest.FixtureRequest) -> Kernel:
        """The kernel at each of `sigmas`."""
        return self.kernel_class(self.sigmas[request.param])

    def test_integrates_to_one(self, kernel: Kernel) -> None:
        """∫ k(n) dn = 1."""
        n = torch.linspace(-30, 30, 600_001, dtype=torch.float64) * kernel.sigma
        mass = kernel.log_density(n).exp().sum() * (n[1] - n[0])
        assert mass.item() == pytest.approx(1, abs=1e-4)

    def test_is_symmetric(self, kernel: Kernel) -> None:
        """K(n) = k(−n)."""
        n = torch.linspace(0, 5, 1001, dtype=torch.float64) * kernel.sigma
        assert torch.equal(kernel.log_density(n), kernel.log_density(-n))

    def test_sigma_is_the_standard_deviation(self, kernel: Kernel) -> None:
        """Noise has mean 0 and standard deviation sigma."""
        noise = kernel.noise(torch.zeros(400_000), generator("contract"))
        assert noise.mean().item() == pytest.approx(0, abs=0.01 * kernel.sigma)
        assert noise.std().item() == pytest.approx(kernel.sigma, rel=0.01)

    def test_entropy_matches_log_prob(self, kernel: Kernel) -> None:
        """H(q) = −E log q, in closed form."""
        x = torch.zeros(200_000, 2, dtype=torch.float64)
        drawn = -kernel.log_prob(kernel.sample(x, generator("contract")), x).mean()
        assert drawn.item() == pytest.approx(kernel.entropy((2,)), abs=0.02)

    def test_sums_over_event_dimensions(self, kernel: Kernel) -> None:
        """An image's log q is the sum over its coordinates."""
        x = torch.zeros(5, 3, 4, 4)
        x_smooth = kernel.sample(x, generator("contract"))
        assert kernel.log_prob(x_smooth, x).shape == (5,)
        expected = kernel.log_density(x_smooth).sum(dim=(1, 2, 3))
        assert torch.allclose(kernel.log_prob(x_smooth, x), expected)
        assert kernel.entropy((3, 4, 4)) == pytest.approx(48 * kernel.entropy_per_dimension())

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_draw_is_never_impossible(self, kernel: Kernel, dtype: torch.dtype) -> None:
        """A drawn x̃ has a finite log q(x̃|x), also far from the origin."""
        x = torch.linspace(-4, 4, 10_000, dtype=dtype)[:, None]
        x_smooth = kernel.sample(x, generator("contract"))
        assert x_smooth.dtype == dtype
        assert kernel.log_prob(x_smooth, x).isfinite().all()

    def test_same_generator_same_noise(self, kernel: Kernel) -> None:
        """Seeds reproduce."""
        x = torch.zeros(10, 2)
        a, b = (kernel.sample(x, generator("same")) for _ in range(2))
        assert torch.equal(a, b)

    @pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_a_sigma_that_is_no_scale(self, sigma: float) -> None:
        """Sigma must be positive and finite."""
        with pytest.raises(UsageError, match="sigma"):
            self.kernel_class(sigma)


class FeaturesContract:
    """What every feature extractor must fulfil; set `features_class`."""

    features_class: ClassVar[type[Features]]
    shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    count: ClassVar[int] = 60

    def request(self) -> Request:
        """Returns what the extractor is made from: a reference of two labelled kinds of images."""
        draws = torch.rand(self.count, *self.shape, generator=generator("contract"))
        labels = torch.arange(self.count) % 2
        pixels = (draws * 200 + 50 * labels.view(-1, 1, 1, 1)).to(torch.uint8)

        def read(start: int, stop: int) -> Tensor:
            return pixels[start:stop]

        return Request(ImageSet("contract", self.shape, self.count, read, labels, 2))

    @pytest.fixture
    def extractor(self) -> Features:
        """The extractor, made for the reference."""
        return self.features_class(self.request())

    @pytest.fixture
    def images(self) -> Tensor:
        """Some of the reference's images, uint8 (20, C, H, W)."""
        return self.request().reference.read(0, 20)

    def test_one_finite_vector_an_image(self, extractor: Features, images: Tensor) -> None:
        """Features are floats (n, d) on the CPU."""
        features = extractor(images).features
        assert features.ndim == 2
        assert len(features) == len(images)
        assert features.is_floating_point()
        assert features.isfinite().all()
        assert features.device.type == "cpu"
        assert not features.requires_grad

    def test_probabilities_are_probabilities(self, extractor: Features, images: Tensor) -> None:
        """Where there are classes, each row is a distribution."""
        probabilities = extractor(images).probabilities
        if probabilities is None:
            pytest.skip("this extractor has no classes")
        assert len(probabilities) == len(images)
        assert (probabilities >= 0).all()
        assert torch.allclose(probabilities.sum(1).double(), torch.ones(20).double(), atol=1e-4)

    def test_an_image_s_features_are_its_own(self, extractor: Features, images: Tensor) -> None:
        """Neither the batch nor the order changes them, and the images stay as they are."""
        before = images.clone()
        whole = extractor(images).features
        parts = torch.cat([extractor(images[rows]).features for rows in ([1], [0, 2])])
        assert torch.allclose(parts, whole[[1, 0, 2]], rtol=1e-4, atol=1e-5)
        assert torch.equal(images, before)

    def test_they_tell_images_apart(self, extractor: Features, images: Tensor) -> None:
        """Different images have different features."""
        features = extractor(images).features
        assert not torch.allclose(features[0], features[1])

    def test_the_hash_names_the_features(self, images: Tensor) -> None:
        """Made twice, an extractor has the same hash and, as the cache relies on, features."""
        one, two = (self.features_class(self.request()) for _ in range(2))
        assert one.sha256 == two.sha256
        assert torch.equal(one(images).features, two(images).features)

    def test_says_what_it_is(self, extractor: Features) -> None:
        """Summary and preprocessing are part of listings and results."""
        assert extractor.summary
        assert extractor.preprocessing
        assert extractor.batch >= 1
        assert all(isinstance(value, float | int | str) for value in extractor.details.values())


class _AnyDensityContract(ABC):
    """What densities of vectors and of images have in common."""

    density_class: ClassVar[type[Density]]
    options: ClassVar[dict[str, Any]] = {}
    conditional: ClassVar[bool] = True
    """False for an architecture that takes no context."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The event shape that most tests use."""

    def build(
        self,
        conditional: bool = False,
        shape: tuple[int, ...] | None = None,
        dtype: torch.dtype = torch.float64,
        levels: int | None = None,
    ) -> Density:
        """Returns a model whose scales were initialised from data and whose weights are random."""
        shape = shape or self.shape
        torch.manual_seed(0)
        config = build(self.density_class.Config, self.options, "options")
        density = self.density_class(shape, shape if conditional else None, levels, config)
        density = density.to(dtype)
        x = 0.5 * torch.randn(500, *shape, dtype=dtype)
        density.initialize(x, x + 0.3 * torch.randn_like(x) if conditional else None)
        for parameter in density.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        return density.eval()

    @pytest.fixture(params=["prior", "denoiser"])
    def model(self, request: pytest.FixtureRequest) -> tuple[Density, Tensor | None]:
        """The model with and without a context of four rows."""
        if request.param == "denoiser" and not self.conditional:
            pytest.skip("takes no context")
        conditional = request.param == "denoiser"
        torch.manual_seed(1)
        context = torch.randn(4, *self.shape, dtype=torch.float64) if conditional else None
        return self.build(conditional), context

    def test_shapes(self, model: tuple[Density, Tensor | None]) -> None:
        """Log-densities are (batch,), samples (n, *event)."""
        density, context = model
        x = density.sample(4, context, generator("contract"))
        assert x.shape == (4, *self.shape)
        assert density.log_prob(x, context).shape == (4,)
        assert density.training_loss(x, context, generator("contract")).shape == (4,)
        assert density.score(x, context).shape == x.shape

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtypes_are_kept(self, dtype: torch.dtype) -> None:
        """A float64 model computes in float64."""
        density = self.build(dtype=dtype)
        x = density.sample(3, generator=generator("contract"))
        assert x.dtype == density.log_prob(x).dtype == dtype

    def test_score_is_the_gradient(self, model: tuple[Density, Tensor | None]) -> None:
        """Score agrees with central differences of log_prob."""
        density, context = model
        x = density.sample(4, context, generator("contract"))
        dims = math.prod(self.shape)
        step = 1e-6 * torch.eye(dims, dtype=x.dtype).view(dims, *self.shape)
        with torch.no_grad():
            numeric = torch.stack(
                [
                    (density.log_prob(x + e, context) - density.log_prob(x - e, context)) / 2e-6
                    for e in step
                ],
                dim=1,
            )
        score = density.score(x, context).flatten(1)
        assert torch.allclose(score, numeric, rtol=1e-3, atol=1e-4)

    def test_every_parameter_gets_a_gradient(self, model: tuple[Density, Tensor | None]) -> None:
        """Training reaches every weight."""
        density, context = model
        x = density.sample(4, context, generator("contract"))
        density.training_loss(x, context, generator("contract")).mean().backward()
        missing = [name for name, p in density.named_parameters() if p.grad is None]
        assert not missing

    def test_context_is_used(self) -> None:
        """Another context gives another density and other samples."""
        if not self.conditional:
            pytest.skip("takes no context")
        density = self.build(conditional=True)
        x = torch.zeros(3, *self.shape, dtype=torch.float64)
        here, there = x + 0.1, x - 0.7
        assert not torch.allclose(density.log_prob(x, here), density.log_prob(x, there))
        a, b = (density.sample(3, c, generator("contract")) for c in (here, there))
        assert not torch.allclose(a, b)

    def test_same_generator_same_samples(self, model: tuple[Density, Tensor | None]) -> None:
        """Seeds reproduce, and different seeds differ."""
        density, context = model
        a, b, c = (density.sample(4, context, generator(key)) for key in ("one", "one", "two"))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    def test_state_survives_a_file(
        self, model: tuple[Density, Tensor | None], tmp_path: Path
    ) -> None:
        """A model restored from safetensors computes the same numbers."""
        from smoothctl.files import read_weights, write_weights

        density, context = model
        write_weights(tmp_path / "m.safetensors", density.state_dict(), {"format": 1})
        tensors, _ = read_weights(tmp_path / "m.safetensors")
        again = type(density)(
            density.event_shape, density.context_shape, density.levels, density.config
        ).to(torch.float64)
        again.load_state_dict(tensors)
        x = density.sample(4, context, generator("contract"))
        assert torch.equal(density.log_prob(x, context), again.eval().log_prob(x, context))

    def test_config_is_documented(self) -> None:
        """Every setting has a default and a description, and unknown ones are refused."""
        for setting in settings_of(self.density_class.Config):
            assert setting["description"], setting["name"]
        with pytest.raises(UsageError, match="no_such_key"):
            build(self.density_class.Config, {"no_such_key": 1}, "options")
        config = self.density_class.Config()
        assert build(self.density_class.Config, as_dict(config), "options") == config

    def test_presets_are_settings(self) -> None:
        """Every value of a preset belongs to the Config or to training."""
        from smoothctl.stages import TrainingConfig

        for preset in self.density_class.presets.values():
            training = {k.removeprefix("training."): v for k, v in preset.items() if "." in k}
            build(TrainingConfig, training, "training")
            plain = {key: value for key, value in preset.items() if "." not in key}
            build(self.density_class.Config, plain, "options")

    def test_a_fit_helps(self) -> None:
        """A few steps of gradient descent on data lower the loss."""
        density = self.build().train()
        x = 0.5 * torch.randn(256, *self.shape, dtype=torch.float64) + 1
        density.initialize(x)
        adam = torch.optim.Adam(density.parameters(), lr=1e-2)
        losses = []
        for _ in range(40):
            loss = density.training_loss(x, None, generator("contract")).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]


class DensityContract(_AnyDensityContract):
    """What every architecture for vectors must fulfil; set `density_class` and small `options`."""

    dims: ClassVar[int] = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """(dims,)."""
        return (self.dims,)

    def test_integrates_to_one(self) -> None:
        """∫ p(x) dx = 1 on a grid."""
        density = self.build()
        axis = torch.linspace(-1, 1, 401, dtype=torch.float64)
        for reach in (20.0, 40.0):
            grid = reach * torch.cartesian_prod(*[axis.sign() * axis.abs() ** 2] * self.dims)
            weight = 2 * axis.abs() * reach * (axis[1] - axis[0])
            weights = torch.cartesian_prod(*[weight] * self.dims).view(-1, self.dims).prod(1)
            with torch.no_grad():
                mass = (density.log_prob(grid.view(-1, self.dims)).exp() * weights).sum()
            assert mass.item() == pytest.approx(1, abs=0.02)

    def test_samples_follow_the_density(self) -> None:
        """E[−log p] over samples equals the entropy that the grid gives."""
        density = self.build()
        x = density.sample(20_000, generator=generator("contract"))
        axis = torch.linspace(-1, 1, 401, dtype=torch.float64)
        grid = 20 * torch.cartesian_prod(*[axis.sign() * axis.abs() ** 2] * self.dims)
        weight = 40 * axis.abs() * (axis[1] - axis[0])
        weights = torch.cartesian_prod(*[weight] * self.dims).view(-1, self.dims).prod(1)
        with torch.no_grad():
            log_density = density.log_prob(grid.view(-1, self.dims))
            entropy = -(weights * torch.special.xlogy(log_density.exp(), log_density.exp())).sum()
            drawn = -density.log_prob(x)
        error = drawn.std().item() / math.sqrt(len(x))
        assert drawn.mean().item() == pytest.approx(entropy.item(), abs=5 * error + 0.02)

    def test_joint_or_a_reason(self) -> None:
        """`joint` gives a prior and a denoiser that add up, or says why not."""
        config = build(self.density_class.Config, self.options, "options")
        try:
            joint: Any = self.density_class.joint((self.dims,), config).to(torch.float64)
        except NotAvailable as reason:
            if len(str(reason)) < 20:
                raise
            return
        z = torch.randn(5, 2 * self.dims, dtype=torch.float64)
        x_smooth, x = z.chunk(2, dim=1)
        parts = joint.prior().log_prob(x_smooth) + joint.denoiser().log_prob(x, x_smooth)
        assert torch.allclose(joint.log_prob(z), parts)


class ImageDensityContract(_AnyDensityContract):
    """What every architecture for images must fulfil; set `density_class` and small `options`."""

    shape: ClassVar[tuple[int, ...]] = (1, 4, 3)

    def test_masses_sum_to_one(self) -> None:
        """The mass of all images of two pixels with eight values is 1."""
        density = self.build(shape=(1, 1, 2), levels=8)
        with torch.no_grad():
            assert density.log_prob(_all_pairs()).exp().sum().item() == pytest.approx(1, abs=1e-9)

    def test_samples_follow_the_mass(self) -> None:
        """Frequencies of drawn images are their masses."""
        density = self.build(shape=(1, 1, 2), levels=8)
        x = density.sample(20_000, generator=generator("contract"))
        index = ((x.flatten(1) + 1) * 3.5).round().long() @ torch.tensor([8, 1])
        frequencies = torch.bincount(index, minlength=64).double() / len(x)
        with torch.no_grad():
            masses = density.log_prob(_all_pairs()).exp()
        assert (frequencies - masses).abs().max() < 0.015

    def test_images_do_not_depend_on_the_batch(self) -> None:
        """The i-th image that is drawn from a generator is the same however they are batched."""
        density, source = self.build(), generator("contract")
        whole = density.sample(3, generator=generator("contract"))
        parts = torch.cat([density.sample(k, generator=source) for k in (1, 2)])
        assert torch.allclose(whole, parts, atol=1e-9)

    def test_completion_keeps_what_is_known(self) -> None:
        """`complete` changes unknown pixels only, or says why it cannot."""
        density = self.build()
        x = torch.randn(2, *self.shape, dtype=torch.float64)
        known = torch.zeros(1, 1, *self.shape[1:], dtype=torch.bool)
        known[..., 0, :] = True
        try:
            completed = density.complete(x, known, None, generator("contract"))
        except NotAvailable as reason:
            if len(str(reason)) < 20:
                raise
            return
        kept = known.expand_as(x)
        assert torch.equal(completed[kept], x[kept])
        assert not torch.equal(completed[~kept], x[~kept])


def _all_pairs() -> Tensor:
    """Returns every image of two pixels with eight values: (64, 1, 1, 2)."""
    axis = torch.arange(8, dtype=torch.float64) * 2 / 7 - 1
    return torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
