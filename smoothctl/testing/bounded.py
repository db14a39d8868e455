"""The contract of densities with latent variables, whose likelihood is known by a bound."""

import pytest
import torch
from torch import Tensor

from smoothctl.architectures.base import Density
from smoothctl.errors import NotAvailable
from smoothctl.rng import generator
from smoothctl.testing.contract import DTYPES, AnyDensityContract, OfVectors

__all__ = ["BoundedDensityContract"]


class BoundedDensityContract(OfVectors, AnyDensityContract):
    """What every `bounded` architecture must fulfil; set `density_class` and small `options`."""

    reach = 12.0
    """Half the side of the square that holds nearly all mass of the model that `build` returns."""

    def test_the_exact_likelihood_is_refused(self) -> None:
        """`log_prob` says in a sentence that there is none."""
        density = self.build()
        assert density.bounded
        assert not density.tractable
        with pytest.raises(NotAvailable, match=r"\w{3,} \w+.* "):
            density.log_prob(torch.zeros(2, *self.shape, dtype=torch.float64).to(self.device))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_bounds_have_shape_and_dtype(self, dtype: torch.dtype) -> None:
        """Bounds are (batch,), their weights (batch, draws), in the dtype of the model."""
        density = self.build(dtype=dtype)
        x = torch.zeros(3, *self.shape, dtype=dtype).to(self.device)
        for of, shape in ((density.bound, (3,)), (density.log_weights, (3, 2))):
            found = of(x, draws=2)
            assert (found.shape, found.dtype) == (shape, dtype)

    def test_bounds_repeat(self, model: tuple[Density, Tensor | None]) -> None:
        """The same generator gives the same bound, another one another."""
        density, context = model
        x = torch.randn(4, *self.shape, dtype=torch.float64, generator=generator("data")).to(
            self.device
        )
        a, b, c = (
            density.bound(x, context, None, 1, generator(key)) for key in ("one", "one", "two")
        )
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    def test_more_draws_are_tighter(self) -> None:
        """The mean bound rises with the number of draws."""
        density = self.build()
        x = density.sample(2000, generator=generator("data"))
        with torch.no_grad():
            loose, tight = (density.bound(x, None, None, k, generator("contract")) for k in (1, 32))
        error = (tight - loose).std() / len(x) ** 0.5
        assert (tight - loose).mean() > -3 * error

    def test_the_estimate_is_unbiased(self) -> None:
        """∫ E[w(x)] dx = 1: the weights are estimates of a density."""
        density = self.build()
        points, volumes = self.grid(self.reach, 161)
        with torch.no_grad():
            mass = (
                density.bound(points, None, None, 16, generator("contract")).exp() * volumes
            ).sum()
        assert mass.item() == pytest.approx(1, abs=0.05)

    def test_samples_follow_the_bound(self) -> None:
        """The characteristic function of samples is the one that the estimated density gives."""
        density = self.build()
        x = density.sample(20_000, generator=generator("contract"))
        points, volumes = self.grid(self.reach, 161)
        with torch.no_grad():
            mass = density.bound(points, None, None, 16, generator("contract")).exp() * volumes
        for direction in torch.randn(4, self.dims, dtype=x.dtype, generator=generator("waves")).to(
            self.device
        ):
            for wave in (torch.cos, torch.sin):
                expected, waves = (mass * wave(points @ direction)).sum(), wave(x @ direction)
                error = waves.std().item() / len(x) ** 0.5
                assert waves.mean().item() == pytest.approx(expected.item(), abs=5 * error + 0.05)

    def test_the_context_changes_the_bound(self) -> None:
        """Another context gives another density."""
        if not self.conditional:
            pytest.skip("takes no context")
        density = self.build(conditional=True)
        x = torch.zeros(3, *self.shape, dtype=torch.float64).to(self.device)
        a, b = (density.bound(x, c, None, 8, generator("contract")) for c in (x + 0.1, x - 0.7))
        assert not torch.allclose(a, b)
