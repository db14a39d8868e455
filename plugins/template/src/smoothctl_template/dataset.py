"""A banana: a Gaussian, bent along a parabola, in two dimensions."""

import torch
from torch import Generator, Tensor

from smoothctl.datasets.grid import Grid
from smoothctl.datasets.synthetic import Synthetic, check_width, log_normal_density
from smoothctl.rng import normal

__all__ = ["Banana"]


class Banana(Synthetic):
    r"""x₁ ~ N(0, 1), x₂ | x₁ ~ N(x₁² − 1, 0.2²): exactly known, so that scores have a floor.

    `Synthetic` makes train, validation and test of `sample`, and the true entropy of
    `true_log_prob` on `grid`. Data that are stored rather than drawn extend `Dataset` itself.
    """

    name = "template-banana"  # as in pyproject.toml
    summary = "2-d: a Gaussian bent along a parabola"
    source = "x2 = x1**2 - 1 + noise"
    event_shape = (2,)
    suggested_sigma = 0.3
    noise = 0.2

    @property
    def grid(self) -> Grid:
        """Six standard deviations of x₁ and the parabola above them; half the noise apart."""
        ends = torch.tensor([[-6.0, -1.0], [6.0, 35.0]])
        return Grid.around(ends, 6 * self.noise, self.noise / 2)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n samples, shape (n, 2)."""
        first, second = normal((2, n), torch.zeros(1), generator)
        return torch.stack([first, first**2 - 1 + self.noise * second], dim=1)

    def true_log_prob(self, x: Tensor) -> Tensor:
        """Returns log p(x₁) + log p(x₂ | x₁) in nats: (batch, 2) -> (batch,)."""
        check_width(x, self)
        first, second = x.unbind(1)
        along = log_normal_density(first**2, 1.0, dims=1)
        return along + log_normal_density((second - first**2 + 1) ** 2, self.noise, dims=1)
