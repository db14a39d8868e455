"""What the tests of image flows share: the contract, exact inverses and determinants."""

from itertools import pairwise
from typing import cast

import pytest
import torch
from torch import Tensor

from smoothctl.errors import NotAvailable
from smoothctl.rng import generator
from smoothctl.testing import ImageDensityContract
from smoothctl_rivals.dequantised import DequantisedFlow

SHAPES = [(1, 4, 4), (1, 4, 3), (3, 3, 3), (1, 5, 3), (2, 1, 1), (1, 1, 2), (1, 6, 1), (3, 2, 4)]


def pairs() -> Tensor:
    """Returns every image of two pixels with eight values: (64, 1, 1, 2)."""
    axis = torch.arange(8).double() * 2 / 7 - 1
    return torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)


class FlowContract(ImageDensityContract):
    """The contract of images, but that masses are known by their unbiased estimates alone."""

    def flow(self, shape: tuple[int, ...], conditional: bool = False) -> DequantisedFlow:
        """Returns a flow over the reals with random weights."""
        return cast("DequantisedFlow", self.build(conditional, shape))

    def test_masses_sum_to_one(self) -> None:
        """E Σ w = 1 over all images of two pixels, whatever the number of draws."""
        density, x = self.build(shape=(1, 1, 2), levels=8), pairs().to(self.device)
        with torch.no_grad():
            bounds = [density.bound(x, None, None, 100, generator(seed)) for seed in range(10)]
        sums = torch.stack(bounds).exp().sum(1)
        error = sums.std().item() / len(sums) ** 0.5
        assert error < 0.01
        assert sums.mean().item() == pytest.approx(1, abs=4 * error)

    def test_samples_follow_the_mass(self) -> None:
        """Frequencies of drawn images are the means of the estimates."""
        density = self.build(shape=(1, 1, 2), levels=8)
        x = density.sample(20_000, generator=generator("contract"))
        first, second = ((x.flatten(1) + 1) * 3.5).round().long().cpu().unbind(1)
        frequencies = torch.bincount(8 * first + second, minlength=64).double() / len(x)
        with torch.no_grad():
            given = pairs().to(self.device), None, None, 500, generator("masses")
            masses = density.bound(*given).exp().cpu()
        assert (frequencies - masses).abs().max() < 0.015

    def test_bounds_rise_with_draws(self) -> None:
        """Σ exp of the mean bound is below one, and nears it."""
        density, x = self.build(shape=(1, 1, 2), levels=8), pairs().to(self.device)
        sums = []
        with torch.no_grad():
            for draws in (1, 4, 16):
                rows = x.repeat_interleave(100, dim=0)
                bound = density.bound(rows, None, None, draws, generator("draws", draws))
                sums.append(bound.view(64, 100).mean(1).exp().sum().item())
        assert all(few < many for few, many in pairwise(sums))
        assert 0.9 < sums[-1] < 1

    def test_the_mass_is_not_pretended(self) -> None:
        """With levels there is a bound, the same for the same generator, and no likelihood."""
        density = self.build(shape=(1, 1, 2), levels=8)
        assert (density.tractable, density.bounded) == (False, True)
        assert (self.build().tractable, self.build().bounded) == (True, False)
        with pytest.raises(NotAvailable, match="`bound`"):
            density.log_prob(pairs().to(self.device))
        one, again, other = (
            density.bound(pairs().to(self.device), None, None, 2, generator(key)) for key in "aab"
        )
        assert torch.equal(one, again)
        assert not torch.equal(one, other)

    def test_the_loss_is_the_bound_of_one_draw(self) -> None:
        """But for an estimate of the log-determinant, which an exact flow has not."""
        density, x = self.build(shape=(1, 1, 2), levels=8), pairs().to(self.device)
        with torch.no_grad():
            loss = density.training_loss(x, None, None, generator("a"))
            bound = density.bound(x, None, None, 1, generator("a"))
        assert torch.allclose(loss, -bound, atol=self.loss_error)

    loss_error = 1e-9

    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_inverse_undoes_the_flow(self, shape: tuple[int, ...]) -> None:
        """In float64, for odd and for tiny images."""
        flow = self.flow(shape)
        x = torch.randn(5, *shape, dtype=torch.float64).to(self.device)
        with torch.no_grad():
            z, _ = flow.to_noise(x, None)
            assert z.shape == (5, x[0].numel())
            assert torch.allclose(flow.from_noise(z, None), x, atol=1e-8)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_determinant_is_that_of_the_jacobian(self, shape: tuple[int, ...]) -> None:
        """By autograd, through the whole flow."""
        flow, x = self.flow(shape), torch.randn(2, *shape, dtype=torch.float64).to(self.device)

        def one(row: Tensor) -> Tensor:
            return flow.to_noise(row[None], None)[0][0]

        _, log_determinants = flow.to_noise(x, None)
        for row, log_determinant in zip(x, log_determinants, strict=True):
            jacobian = torch.autograd.functional.jacobian(one, row).flatten(1)
            assert torch.allclose(torch.linalg.slogdet(jacobian)[1], log_determinant)
