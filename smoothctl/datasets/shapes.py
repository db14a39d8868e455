"""Two-dimensional shapes: circles, cells, curves and blades."""

import math
from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from smoothctl.datasets.grid import Grid
from smoothctl.datasets.synthetic import Synthetic, check_width, choose, log_normal_density
from smoothctl.rng import normal, uniform

__all__ = [
    "Checkerboard",
    "Circles",
    "Curves",
    "Olympics",
    "Pinwheel",
    "Rings",
    "SwissRoll",
    "TwoMoons",
]


class Circles(Synthetic):
    """Equal-weight circles with isotropic Gaussian noise."""

    event_shape = (2,)
    circles: ClassVar[list[tuple[float, float, float]]]
    """(centre x, centre y, radius) of each."""

    noise: ClassVar[float]

    @property
    def grid(self) -> Grid:
        """Twelve standard deviations around all circles, two points to each."""
        corners = [[x + s * r, y + s * r] for x, y, r in self.circles for s in (-1, 1)]
        return Grid.around(torch.tensor(corners), 12 * self.noise, self.noise / 2)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n samples, shape (n, 2)."""
        circles = torch.tensor(self.circles)[choose(n, len(self.circles), generator)]
        angle = 2 * math.pi * uniform((n,), circles, generator)
        direction = torch.stack([angle.cos(), angle.sin()], dim=1)
        points = circles[:, :2] + circles[:, 2:] * direction
        return points + self.noise * normal(points.shape, points, generator)

    def true_log_prob(self, x: Tensor) -> Tensor:
        r"""Returns log p(x) in nats, exactly: (batch, 2) -> (batch,).

        Noise of variance s² around a circle of radius R has at distance r from the centre the
        density exp(−(r − R)²/2s²) · e^(−rR/s²) I₀(rR/s²) / (2πs²), averaged over the angle.
        """
        check_width(x, self)
        circles = torch.tensor(self.circles, dtype=x.dtype, device=x.device)
        radius = (x[:, None] - circles[:, :2]).norm(dim=-1)
        radial = log_normal_density((radius - circles[:, 2]) ** 2, self.noise, dims=2)
        bessel: Tensor = torch.special.i0e(radius * circles[:, 2] / self.noise**2).log()
        return (radial + bessel).logsumexp(1) - math.log(len(circles))


class Rings(Circles):
    """Four concentric circles of equal mass, radii 0.75 to 3, noise 0.08."""

    name = "rings"
    summary = "2-d: four concentric rings (the paper's data)"
    source = "ARDS section 4.2; FFJORD toy data `rings`, the published definition"
    suggestion = "the paper's value"
    suggested_sigma = 0.3
    circles: ClassVar = [(0.0, 0.0, r) for r in (0.75, 1.5, 2.25, 3.0)]
    noise = 0.08


class Olympics(Circles):
    """Five interlocked circles of radius 0.75, noise 0.02; a reconstruction."""

    name = "olympics"
    summary = "2-d: five interlocked rings (our reconstruction; the paper's is not published)"
    source = "smoothctl's reconstruction of ARDS section 4.2"
    suggestion = "the paper's value"
    suggested_sigma = 0.3
    circles: ClassVar = [
        (x * 0.75, y * 0.75, 0.75)
        for x, y in [(-2.2, 0.5), (0.0, 0.5), (2.2, 0.5), (-1.1, -0.5), (1.1, -0.5)]
    ]
    noise = 0.02


class Checkerboard(Synthetic):
    """Uniform on eight cells of side 2 in [−4, 4]²; the entropy is log 32."""

    name = "checkerboard"
    summary = "2-d: uniform on every other cell of a 4 × 4 board"
    source = "FFJORD toy data `checkerboard`"
    event_shape = (2,)
    suggested_sigma = 0.3

    @property
    def grid(self) -> Grid:
        """The board; one point per cell centre integrates the constant density exactly."""
        return Grid.around(torch.tensor([[-3.0, -3.0], [3.0, 3.0]]), 0.0, 2.0)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n samples, shape (n, 2)."""
        column = choose(n, 4, generator)
        row = 2 * choose(n, 2, generator) + column % 2
        corner = torch.stack([column, row], dim=1) * 2.0 - 4
        return corner + 2 * uniform((n, 2), corner, generator)

    def true_log_prob(self, x: Tensor) -> Tensor:
        """Returns −log 32 on the dark cells and −∞ elsewhere: (batch, 2) -> (batch,)."""
        check_width(x, self)
        cell = torch.floor((x + 4) / 2)
        on_board = ((cell >= 0) & (cell <= 3)).all(1)
        inside = on_board & (cell.sum(1) % 2 == 0)
        return torch.full_like(x[:, 0], -math.log(32)).masked_fill(~inside, -math.inf)


class Curves(Synthetic):
    """Points on parametrised curves, uniform in the parameter, with isotropic Gaussian noise."""

    event_shape = (2,)
    noise: ClassVar[float]
    nodes: ClassVar[int]
    """Quadrature nodes along each curve: several to one noise standard deviation."""

    @abstractmethod
    def curves(self, u: Tensor) -> Tensor:
        """Returns every curve's points at parameters u in [0, 1]: (n,) -> (curves, n, 2)."""

    @cached_property
    def _nodes(self) -> Tensor:
        u = (torch.arange(self.nodes, dtype=torch.float64) + 0.5) / self.nodes
        return self.curves(u).flatten(0, 1)

    @property
    def grid(self) -> Grid:
        """Eight standard deviations around the curves, two points to each."""
        return Grid.around(self._nodes, 8 * self.noise, self.noise / 2)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n samples, shape (n, 2)."""
        points = self.curves(uniform((n,), torch.empty(0), generator))
        curve = choose(n, len(points), generator)
        chosen = points[curve, torch.arange(n)]
        return chosen + self.noise * normal(chosen.shape, chosen, generator)

    def true_log_prob(self, x: Tensor) -> Tensor:
        """Returns log ∫ N(x; c(u), sd² I) du in nats, by midpoints: (batch, 2) -> (batch,)."""
        check_width(x, self)
        nodes = self._nodes.to(x)
        parts = [
            log_normal_density(torch.cdist(rows, nodes) ** 2, self.noise, dims=2).logsumexp(1)
            for rows in x.split(4096)
        ]
        return torch.cat(parts) - math.log(len(nodes))


class TwoMoons(Curves):
    """Two interleaved half circles: scikit-learn's `make_moons(noise=0.1)` · 2 + (−1, −0.2)."""

    name = "two-moons"
    summary = "2-d: two interleaved half circles"
    source = "FFJORD toy data `moons`; scikit-learn's make_moons, rescaled"
    suggested_sigma = 0.3
    noise = 0.2
    nodes = 256

    def curves(self, u: Tensor) -> Tensor:
        """Returns the two arcs, uniform in the angle: (n,) -> (2, n, 2)."""
        x, y = torch.cos(math.pi * u), torch.sin(math.pi * u)
        upper = torch.stack([2 * x - 1, 2 * y - 0.2], dim=-1)
        lower = torch.stack([2 * (1 - x) - 1, 2 * (0.5 - y) - 0.2], dim=-1)
        return torch.stack([upper, lower])


class SwissRoll(Curves):
    """A spiral: scikit-learn's `make_swiss_roll(noise=1.0)`, first and third column, over 5."""

    name = "swissroll"
    summary = "2-d: a spiral"
    source = "FFJORD toy data `swissroll`; scikit-learn's make_swiss_roll"
    suggested_sigma = 0.3
    noise = 0.2
    nodes = 1024

    def curves(self, u: Tensor) -> Tensor:
        """Returns the spiral (t cos t, t sin t)/5 with t = 1.5π(1 + 2u): (n,) -> (1, n, 2)."""
        t = 1.5 * math.pi * (1 + 2 * u)
        return torch.stack([t * t.cos(), t * t.sin()], dim=-1).unsqueeze(0) / 5


class Pinwheel(Synthetic):
    """Five twisted Gaussian blades (Johnson et al. 2016), scaled by 2."""

    name = "pinwheel"
    summary = "2-d: five twisted blades"
    source = "FFJORD toy data `pinwheel` (Johnson et al. 2016)"
    event_shape = (2,)
    suggested_sigma = 0.3
    blades = 5
    radial, tangential, twist = 0.3, 0.1, 0.25

    @property
    def grid(self) -> Grid:
        """All blades, three points to a tangential standard deviation."""
        reach = 2 * (1 + 7 * self.radial)
        corners = torch.tensor([[-reach, -reach], [reach, reach]])
        return Grid.around(corners, 0.0, 2 * self.tangential / 3)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n samples, shape (n, 2)."""
        blank = torch.empty(0)
        along = 1 + self.radial * normal((n,), blank, generator)
        across = self.tangential * normal((n,), blank, generator)
        start = 2 * math.pi / self.blades * choose(n, self.blades, generator)
        angle = start + self.twist * along.exp()
        x = along * angle.cos() - across * angle.sin()
        y = along * angle.sin() + across * angle.cos()
        return 2 * torch.stack([x, y], dim=1)

    def true_log_prob(self, x: Tensor) -> Tensor:
        r"""Returns log p(x) in nats: (batch, 2) -> (batch,).

        A blade's point (a, c) = r (cos φ, sin φ) is turned by β + twist·e^a. For a given x the
        untwisted angle φ solves φ + twist·exp(r cos φ) = θ − β; the density of (a, c) is divided
        by |∂θ/∂φ|. Newton's method finds the root next to the blade; others exist only beyond
        four standard deviations and hold about 1e-6 of the mass.
        """
        check_width(x, self)
        half = x / 2
        starts = torch.arange(self.blades, device=x.device) * (2 * math.pi / self.blades)
        radius = half.norm(dim=1)[:, None]
        turned = torch.atan2(half[:, 1], half[:, 0])[:, None] - starts.to(x)  # (batch, blades)
        phi = _wrap(turned - self.twist * radius.exp())
        for _ in range(8):
            phi = phi - (self._gap(radius, phi, turned) / self._slope(radius, phi)).clamp(-1, 1)
        root = self._gap(radius, phi, turned).abs() < 1e-4
        along, across = radius * phi.cos(), radius * phi.sin()
        log_density: Tensor = (
            -0.5 * ((along - 1) / self.radial) ** 2
            - 0.5 * (across / self.tangential) ** 2
            - math.log(2 * math.pi * self.radial * self.tangential)
            - self._slope(radius, phi).abs().log()
        )
        log_density = log_density.masked_fill(~root, -math.inf)
        return log_density.logsumexp(1) - math.log(4 * self.blades)

    def _gap(self, radius: Tensor, phi: Tensor, turned: Tensor) -> Tensor:
        return _wrap(phi + self.twist * (radius * phi.cos()).exp() - turned)

    def _slope(self, radius: Tensor, phi: Tensor) -> Tensor:
        return 1 - self.twist * radius * phi.sin() * (radius * phi.cos()).exp()


def _wrap(angle: Tensor) -> Tensor:
    """Wraps an angle into (−π, π]."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
