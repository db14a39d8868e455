"""The contract of kernels."""

import math
from typing import ClassVar

import pytest
import torch

from smoothctl.errors import UsageError
from smoothctl.kernels.base import Kernel
from smoothctl.rng import generator
from smoothctl.testing.devices import OnDevice

__all__ = ["KernelContract"]

DTYPES = [torch.float32, torch.float64]


class KernelContract(OnDevice):
    """What every kernel must fulfil; set `kernel_class`."""

    kernel_class: ClassVar[type[Kernel]]
    sigmas: ClassVar[tuple[float, ...]] = (0.1, 1.7)

    @pytest.fixture(params=[0, 1])
    def kernel(self, request: pytest.FixtureRequest) -> Kernel:
        """The kernel at each of `sigmas`."""
        return self.kernel_class(self.sigmas[request.param])

    def test_integrates_to_one(self, kernel: Kernel) -> None:
        """∫ k(n) dn = 1."""
        n = torch.linspace(-30, 30, 600_001, dtype=torch.float64).to(self.device) * kernel.sigma
        mass = kernel.log_density(n).exp().sum() * (n[1] - n[0])
        assert mass.item() == pytest.approx(1, abs=1e-4)

    def test_is_symmetric(self, kernel: Kernel) -> None:
        """K(n) = k(−n)."""
        n = torch.linspace(0, 5, 1001, dtype=torch.float64).to(self.device) * kernel.sigma
        assert torch.equal(kernel.log_density(n), kernel.log_density(-n))

    def test_sigma_is_the_standard_deviation(self, kernel: Kernel) -> None:
        """Noise has mean 0 and standard deviation sigma."""
        noise = kernel.noise(torch.zeros(400_000).to(self.device), generator("contract"))
        assert noise.mean().item() == pytest.approx(0, abs=0.01 * kernel.sigma)
        assert noise.std().item() == pytest.approx(kernel.sigma, rel=0.01)

    def test_entropy_matches_log_prob(self, kernel: Kernel) -> None:
        """H(q) = −E log q, in closed form."""
        x = torch.zeros(200_000, 2, dtype=torch.float64).to(self.device)
        drawn = -kernel.log_prob(kernel.sample(x, generator("contract")), x).mean()
        assert drawn.item() == pytest.approx(kernel.entropy((2,)), abs=0.02)

    def test_sums_over_event_dimensions(self, kernel: Kernel) -> None:
        """An image's log q is the sum over its coordinates."""
        x = torch.zeros(5, 3, 4, 4).to(self.device)
        x_smooth = kernel.sample(x, generator("contract"))
        assert kernel.log_prob(x_smooth, x).shape == (5,)
        expected = kernel.log_density(x_smooth).sum(dim=(1, 2, 3))
        assert torch.allclose(kernel.log_prob(x_smooth, x), expected)
        assert kernel.entropy((3, 4, 4)) == pytest.approx(48 * kernel.entropy_per_dimension())

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_draw_is_never_impossible(self, kernel: Kernel, dtype: torch.dtype) -> None:
        """A drawn x̃ has a finite log q(x̃|x), also far from the origin."""
        x = torch.linspace(-4, 4, 10_000, dtype=dtype).to(self.device)[:, None]
        x_smooth = kernel.sample(x, generator("contract"))
        assert x_smooth.dtype == dtype
        assert kernel.log_prob(x_smooth, x).isfinite().all()

    def test_same_generator_same_noise(self, kernel: Kernel) -> None:
        """Seeds reproduce."""
        x = torch.zeros(10, 2).to(self.device)
        a, b = (kernel.sample(x, generator("same")) for _ in range(2))
        assert torch.equal(a, b)

    @pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_a_sigma_that_is_no_scale(self, sigma: float) -> None:
        """Sigma must be positive and finite."""
        with pytest.raises(UsageError, match="sigma"):
            self.kernel_class(sigma)
