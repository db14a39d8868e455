"""The data of NCSN's figures 2 and 3: two far Gaussians of unequal weight."""

import torch
from torch import Generator, Tensor

from smoothctl.datasets.grid import Grid
from smoothctl.datasets.synthetic import Synthetic, check_width, log_normal_density
from smoothctl.rng import normal, uniform

__all__ = ["TwoModes"]


class TwoModes(Synthetic):
    """⅕ N((−5, −5), I) + ⅘ N((5, 5), I) (NCSN section 3.2)."""

    name = "two-modes"
    summary = "2-d: two far Gaussians of weights 0.2 and 0.8"
    source = "NCSN (Song & Ermon 2019), section 3.2"
    event_shape = (2,)
    suggested_sigma = 1.0
    centres = ((-5.0, -5.0), (5.0, 5.0))
    weights = (0.2, 0.8)

    @property
    def grid(self) -> Grid:
        """Ten standard deviations around both centres."""
        return Grid.around(torch.tensor(self.centres), 10.0, 0.1)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n samples, shape (n, 2)."""
        like = torch.empty(0)
        mode = (uniform((n,), like, generator) > self.weights[0]).long()
        return torch.tensor(self.centres)[mode] + normal((n, 2), like, generator)

    def true_log_prob(self, x: Tensor) -> Tensor:
        """Returns log p in nats: (batch, 2) -> (batch,)."""
        return self.smoothed_log_prob(x, 0.0)

    def smoothed_log_prob(self, x: Tensor, sigma: float) -> Tensor:
        """Returns log p of the data with noise of σ added, in nats: (batch, 2) -> (batch,)."""
        check_width(x, self)
        centres = torch.tensor(self.centres, dtype=x.dtype)
        squared = (x[:, None] - centres).square().sum(2)
        log_parts = log_normal_density(squared, (1 + sigma**2) ** 0.5, 2)
        total: Tensor = (log_parts + torch.tensor(self.weights, dtype=x.dtype).log()).logsumexp(1)
        return total

    def smoothed_score(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """Returns ∇ log p of the data with noise of σ added: shape of x, (batch, 2)."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            log_prob = self.smoothed_log_prob(leaf, sigma)
            (gradient,) = torch.autograd.grad(log_prob.sum(), leaf)
        return gradient

    def share_of_small(self, x: Tensor) -> float:
        """Returns the share of points nearer to (−5, −5), 0.2 in truth: (n, 2)."""
        return float((x.sum(1) < 0).double().mean())
