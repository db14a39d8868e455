"""The contracts of densities, of vectors and of images."""

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
from smoothctl.randomness import generator

__all__ = ["DensityContract", "ImageDensityContract"]

DTYPES = [torch.float32, torch.float64]


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
