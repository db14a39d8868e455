"""The contracts of densities with an exact likelihood, of vectors and of images."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smoothctl.architectures.autoregressive import Autoregressive
from smoothctl.architectures.base import Density
from smoothctl.config import build
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.rng import generator
from smoothctl.testing.contract import DTYPES, AnyDensityContract, OfImages, OfVectors

__all__ = ["DensityContract", "ImageDensityContract"]


class _ExactContract(AnyDensityContract):
    """What `tractable` densities of vectors and of images have in common."""

    def test_likelihoods_have_shapes(self, model: tuple[Density, Tensor | None]) -> None:
        """Log-densities are (batch,), scores have the shape of x."""
        density, context = model
        x = density.sample(4, context, None, generator("contract"))
        assert density.log_prob(x, context).shape == (4,)
        assert density.score_function(x, context).shape == x.shape
        assert torch.equal(density.bound(x, context, None, draws=3), density.log_prob(x, context))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_likelihoods_keep_dtypes(self, dtype: torch.dtype) -> None:
        """A float64 model computes in float64."""
        density = self.build(dtype=dtype)
        assert density.log_prob(density.sample(3, generator=generator("contract"))).dtype == dtype

    def test_score_is_the_gradient(self, model: tuple[Density, Tensor | None]) -> None:
        """Score agrees with central differences of log_prob."""
        density, context = model
        x = density.sample(4, context, None, generator("contract"))
        dims = math.prod(self.shape)
        step = 1e-6 * torch.eye(dims, dtype=x.dtype, device=x.device).view(dims, *self.shape)
        with torch.no_grad():
            numeric = torch.stack(
                [
                    (density.log_prob(x + e, context) - density.log_prob(x - e, context)) / 2e-6
                    for e in step
                ],
                dim=1,
            )
        score = density.score_function(x, context).flatten(1)
        assert torch.allclose(score, numeric, rtol=1e-3, atol=1e-4)

    def test_inpainting_where_nothing_is_known_is_sampling(self) -> None:
        """It draws the same from the same generator."""
        x, none = (
            torch.zeros(2, *self.shape, dtype=torch.float64).to(self.device),
            torch.zeros_like(self.known),
        )
        sample = self.build().sample(2, generator=generator("contract"))
        assert torch.allclose(self.inpaint(x, none), sample)

    def test_completions_are_weighed(self) -> None:
        """By nothing where nothing is known, by all of the density where all is."""
        density, x = self.build(), torch.zeros(2, *self.shape, dtype=torch.float64).to(self.device)
        if not density.weighs_completions:
            with pytest.raises(NotAvailable, match="candidate"):
                density.completion_log_weight(x, self.known)
            return
        x = self.inpaint(x, torch.zeros_like(self.known))
        nothing, everything = torch.zeros_like(self.known[:1]), torch.ones_like(self.known)
        weights = density.completion_log_weight(x, nothing)
        assert torch.allclose(weights, torch.zeros_like(weights), atol=1e-9)
        assert torch.allclose(density.completion_log_weight(x, everything), density.log_prob(x))
        some = density.completion_log_weight(x, self.known)
        assert some.shape == (2,)
        assert some.isfinite().all()

    def test_factors_follow_one_after_another(self) -> None:
        """The Jacobian of an autoregressive density's factors is triangular in some order."""
        density = self.build()
        if not isinstance(density, Autoregressive):
            pytest.skip("does not know its factors one by one")
        x = density.sample(1, generator=generator("contract"))
        slopes = torch.autograd.functional.jacobian(density.log_probs, x)
        factors = density.log_probs(x).numel()
        seen = slopes.abs().reshape(factors, *self.shape)
        if factors < x.numel():  # those of whole pixels
            seen = seen.sum(1)
        others = seen.reshape(factors, factors).sign().fill_diagonal_(0)
        assert factors == 1 or others.any()
        assert not torch.linalg.matrix_power(others, factors).any(), "they see each other"

    def test_labels_are_refused_by_likelihoods_too(self) -> None:
        """A model without classes does not ignore labels."""
        x = torch.zeros(3, *self.shape, dtype=torch.float64).to(self.device)
        with pytest.raises(UsageError, match="classes"):
            self.build().log_prob(x, None, torch.zeros(3, dtype=torch.int64).to(self.device))

    def test_the_context_changes_the_density(self) -> None:
        """Another context gives another density."""
        if not self.conditional:
            pytest.skip("takes no context")
        density = self.build(conditional=True)
        x = torch.zeros(3, *self.shape, dtype=torch.float64).to(self.device)
        assert not torch.allclose(density.log_prob(x, x + 0.1), density.log_prob(x, x - 0.7))

    def test_likelihoods_survive_a_file(
        self, model: tuple[Density, Tensor | None], tmp_path: Path
    ) -> None:
        """A model restored from safetensors has the same likelihoods."""
        density, context = model
        again = self.restored(density, tmp_path)
        x = density.sample(4, context, None, generator("contract"))
        assert torch.equal(density.log_prob(x, context), again.log_prob(x, context))


class DensityContract(OfVectors, _ExactContract):
    """What every architecture for vectors must fulfil; set `density_class` and small `options`."""

    def test_integrates_to_one(self) -> None:
        """∫ p(x) dx = 1 on a grid."""
        density = self.build()
        for reach in (20.0, 40.0):
            points, volumes = self.grid(reach)
            with torch.no_grad():
                mass = (density.log_prob(points).exp() * volumes).sum()
            assert mass.item() == pytest.approx(1, abs=0.02)

    def test_samples_follow_the_density(self) -> None:
        """Entropy and characteristic function of samples are those that the density gives."""
        density = self.build()
        x = density.sample(20_000, generator=generator("contract"))
        points, volumes = self.grid(20.0)
        with torch.no_grad():
            log_density, drawn = density.log_prob(points), -density.log_prob(x)
        mass = log_density.exp() * volumes
        entropy = -(volumes * torch.special.xlogy(log_density.exp(), log_density.exp())).sum()
        error = drawn.std().item() / math.sqrt(len(x))
        assert drawn.mean().item() == pytest.approx(entropy.item(), abs=5 * error + 0.02)
        for direction in torch.randn(4, self.dims, dtype=x.dtype, generator=generator("waves")).to(
            self.device
        ):
            for wave in (torch.cos, torch.sin):
                expected, waves = (mass * wave(points @ direction)).sum(), wave(x @ direction)
                error = waves.std().item() / math.sqrt(len(x))
                assert waves.mean().item() == pytest.approx(expected.item(), abs=5 * error + 0.01)

    def test_joint_or_a_reason(self) -> None:
        """`joint` gives a prior and a denoiser that add up, or says why not."""
        config = build(self.density_class.Config, self.options, "options")
        try:
            joint: Any = self.density_class.joint((self.dims,), config).to(
                self.device, torch.float64
            )
        except NotAvailable as reason:
            if len(str(reason)) < 20:
                raise
            return
        z = torch.randn(5, 2 * self.dims, dtype=torch.float64).to(self.device)
        x_smooth, x = z.chunk(2, dim=1)
        parts = joint.prior().log_prob(x_smooth) + joint.denoiser().log_prob(x, x_smooth)
        assert torch.allclose(joint.log_prob(z), parts)


class ImageDensityContract(OfImages, _ExactContract):
    """What every architecture for images must fulfil; set `density_class` and small `options`."""

    def test_masses_sum_to_one(self) -> None:
        """The mass of all images of two pixels with eight values is 1."""
        density = self.build(shape=(1, 1, 2), levels=8)
        with torch.no_grad():
            assert density.log_prob(
                _all_pairs().to(self.device)
            ).exp().sum().item() == pytest.approx(1, abs=1e-9)

    def test_samples_follow_the_mass(self) -> None:
        """Frequencies of drawn images are their masses."""
        density = self.build(shape=(1, 1, 2), levels=8)
        x = density.sample(20_000, generator=generator("contract"))
        first, second = ((x.flatten(1) + 1) * 3.5).round().long().cpu().unbind(1)
        frequencies = torch.bincount(8 * first + second, minlength=64).double() / len(x)
        with torch.no_grad():
            masses = density.log_prob(_all_pairs().to(self.device)).exp().cpu()
        assert (frequencies - masses).abs().max() < 0.015


def _all_pairs() -> Tensor:
    """Returns every image of two pixels with eight values: (64, 1, 1, 2)."""
    axis = torch.arange(8, dtype=torch.float64) * 2 / 7 - 1
    return torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
