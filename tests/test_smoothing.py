"""The bounds hold, meet the truth where it is known, and every way of sampling works."""

import math

import pytest
import torch
from torch import Tensor

from smoothctl import architectures, kernels
from smoothctl.architectures.base import Density
from smoothctl.config import build
from smoothctl.datasets import open_dataset
from smoothctl.datasets.gaussians import TwoGaussians
from smoothctl.errors import NotAvailable
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.smoothing.resampling import resample
from smoothctl.smoothing.two_step import TwoStep

SIGMA = 0.3


class ExactPrior(Density):
    """The true smoothed density of N(0, 1) data under Gaussian smoothing: N(0, 1 + σ²)."""

    summary = "exact"

    def log_prob(self, x: Tensor, context=None, labels=None) -> Tensor:
        return torch.distributions.Normal(0, math.sqrt(1 + SIGMA**2)).log_prob(x).sum(1)

    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        scale = math.sqrt(1 + SIGMA**2)
        return scale * torch.randn(n, *self.event_shape, generator=generator, dtype=torch.float64)


class ExactDenoiser(Density):
    """The true posterior p(x|x̃) = N(x̃/(1 + σ²), σ²/(1 + σ²))."""

    summary = "exact"
    sd = SIGMA / math.sqrt(1 + SIGMA**2)

    def log_prob(self, x: Tensor, context=None, labels=None) -> Tensor:
        assert context is not None
        mean = context / (1 + SIGMA**2)
        return torch.distributions.Normal(mean, self.sd).log_prob(x).sum(1)

    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        noise = torch.randn(context.shape, generator=generator, dtype=context.dtype)
        return context / (1 + SIGMA**2) + self.sd * noise


def exact(dims: int = 2) -> TwoStep:
    kernel = kernels.load("gaussian")(SIGMA)
    return TwoStep(kernel, ExactPrior((dims,)), ExactDenoiser((dims,), (dims,)))


def _moons(n: int) -> Tensor:
    return open_dataset("two-moons").test.head(n)


@pytest.fixture
def method(trained_run: Run) -> TwoStep:
    found = trained_run.two_step()
    assert found is not None
    return found


@pytest.mark.parametrize("dims", [1, 2])
def test_with_exact_stages_every_estimate_is_the_truth(dims: int) -> None:
    """With the true p(x̃) and p(x|x̃) the weights are constant: all estimates are log p(x)."""
    x = torch.randn(20, dims, generator=generator("x"), dtype=torch.float64)
    truth = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    weighted = exact(dims).importance_weighted_bound(x, 3, generator=generator("w"))
    assert torch.allclose(weighted, truth, atol=1e-9)
    assert torch.allclose(exact(dims).log_prob_by_quadrature(x), truth, atol=1e-6)


def test_single_draw_bound_of_exact_stages_is_tight_on_average() -> None:
    x = torch.randn(40_000, 2, generator=generator("x"), dtype=torch.float64)
    bound = exact().bound(x, generator=generator("b")).total
    truth = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    gap = truth - bound
    assert gap.mean().item() == pytest.approx(0, abs=5 * gap.std().item() / math.sqrt(len(x)))


def test_bounds_are_ordered_and_below_the_truth(method: TwoStep) -> None:
    """E bound ≤ E bound with 16 draws ≤ E bound with 256 draws ≤ log p(x), by quadrature."""
    x = _moons(100)
    with torch.no_grad():
        single = method.bound(x.repeat(64, 1), generator=generator(1)).total.view(64, -1).mean(0)
    few = method.importance_weighted_bound(x, 16, generator=generator(2))
    many = method.importance_weighted_bound(x, 1024, generator=generator(3))
    truth = method.log_prob_by_quadrature(x)
    assert single.mean() < few.mean() < many.mean() + 0.01
    assert many.mean().item() == pytest.approx(truth.mean().item(), abs=0.02)
    assert single.mean() < truth.mean()


def test_quadrature_integrates_to_one(method: TwoStep) -> None:
    """∫ p(x) dx = 1 for the two-step model's own density."""
    axis = torch.linspace(-8, 8, 49)
    x = torch.cartesian_prod(axis, axis)
    mass = method.log_prob_by_quadrature(x, points=41).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=0.03)


def test_chunks_do_not_change_the_result(method: TwoStep, monkeypatch) -> None:
    import smoothctl.smoothing.bounds as module

    x = _moons(10)
    whole = method.importance_weighted_bound(x, 8, generator=generator(0))
    monkeypatch.setattr(module, "_NOISE_ROWS", 8)
    assert torch.allclose(whole, method.importance_weighted_bound(x, 8, generator=generator(0)))


def test_bound_s_terms_add_up(method: TwoStep) -> None:
    terms = method.bound(_moons(100), generator=generator(0))
    assert torch.equal(terms.total, terms.prior + terms.entropy + terms.denoiser)
    assert (terms.entropy == terms.entropy[0]).all()
    assert terms.entropy[0].item() == pytest.approx(method.kernel.entropy((2,)))


def test_single_step_of_the_exact_prior_is_the_posterior_mean() -> None:
    x_smooth = torch.randn(10, 2, generator=generator("s"), dtype=torch.float64)
    assert torch.allclose(exact().single_step(x_smooth), x_smooth / (1 + SIGMA**2))


def test_single_step_is_the_best_linear_estimate_on_a_correlated_gaussian() -> None:
    """The error is the posterior variance, tr(Σ − Σ(Σ + σ²I)⁻¹Σ)/2, and no larger."""
    covariance = torch.tensor([[1.0, 0.95], [0.95, 1.0]], dtype=torch.float64)
    smoothed = covariance + SIGMA**2 * torch.eye(2)
    normal = torch.distributions.MultivariateNormal(torch.zeros(2).double(), smoothed)
    kernel = kernels.load("gaussian")(SIGMA)
    chol = torch.linalg.cholesky(covariance)
    x = torch.randn(20_000, 2, generator=generator("c"), dtype=torch.float64) @ chol.T
    x_smooth = kernel.sample(x, generator("n"))
    estimate = kernel.posterior_mean(x_smooth, normal.log_prob)
    best = x_smooth @ torch.linalg.solve(smoothed, covariance)
    assert torch.allclose(estimate, best, atol=1e-6)
    posterior = covariance - covariance @ torch.linalg.solve(smoothed, covariance)
    error = ((estimate - x) ** 2).mean().item()
    assert error == pytest.approx(posterior.trace().item() / 2, rel=0.03)


def test_sampling_shapes_and_seeds(method: TwoStep) -> None:
    a, b = (method.sample(7, generator=generator(3)) for _ in range(2))
    assert a.shape == (7, 2)
    assert torch.equal(a, b)
    assert method.sample_smoothed(5, generator=generator(0)).shape == (5, 2)
    assert method.single_step(torch.zeros(0, 2)).shape == (0, 2)


@pytest.mark.parametrize("known", [[[True, False]], [[False, True]]])
def test_inpainting_keeps_the_known_columns_and_draws_the_others(
    method: TwoStep, known: list[list[bool]]
) -> None:
    x, mask = _moons(500), torch.tensor(known)
    filled = method.inpaint(x, mask, generator=generator("inpaint"))
    kept = mask.expand_as(x)
    assert torch.equal(filled[kept], x[kept])
    assert (filled[~kept] != x[~kept]).all()


def test_an_inpainted_second_column_follows_the_data(method: TwoStep) -> None:
    """Given the first column, the second is distributed as the model's own samples have it."""
    x, mask = method.sample(4000, generator=generator("x")), torch.tensor([[True, False]])
    filled = method.inpaint(x, mask, generator=generator("inpaint"))
    for column in (x, filled):
        assert column[:, 1].mean().item() == pytest.approx(x[:, 1].mean().item(), abs=0.15)
    near = lambda z: float((z[:, 0] * z[:, 1]).mean())  # noqa: E731
    assert near(filled) == pytest.approx(near(x), abs=0.2)


def test_a_completion_of_many_is_one_given_all_that_is_known(method: TwoStep) -> None:
    """The first column given the second: drawn before it, and so blind to it, unless chosen."""
    x, mask = method.sample(4000, generator=generator("x")), torch.tensor([[False, True]])
    noise = generator("inpaint")
    blind = method.inpaint(x, mask, generator=noise)
    chosen = resample(method.completions(x, mask, 16, generator=noise), noise).rows
    assert torch.equal(chosen[:, 1], x[:, 1])
    together = lambda z: float((z[:, 0] * z[:, 1]).mean())  # noqa: E731
    assert abs(together(blind) - together(x)) > 0.5
    assert together(chosen) == pytest.approx(together(x), abs=0.12)


@pytest.mark.parametrize("name", ["made", "logistic-mixture", "joint prior", "joint denoiser"])
@pytest.mark.parametrize("column", [0, 1])
def test_the_mean_weight_is_the_marginal(name: str, column: int) -> None:
    """The mean of w over what is drawn is p(x_known | c): the weights are of that draw."""
    torch.manual_seed(0)
    density, context = _density(name), None
    if density.context_shape is not None:
        context = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    x, known = torch.tensor([[0.4, -0.7]]).double(), torch.zeros(1, 2, dtype=torch.bool)
    known[0, column] = True
    rows = 100_000
    many = None if context is None else context.expand(rows, 2)
    drawn = density.inpaint(x.repeat(rows, 1), known, many, None, generator("w"))
    with torch.no_grad():
        weights = density.completion_log_weight(drawn, known, many).exp()
        grid, step = _line(), float(_line()[1] - _line()[0])
        events = x.repeat(len(grid), 1)
        events[:, 1 - column] = grid
        given = None if context is None else context.expand(len(grid), 2)
        marginal = density.log_prob(events, given).exp().sum() * step
    error = float(weights.std()) / math.sqrt(rows)
    assert float(weights.mean()) == pytest.approx(float(marginal), abs=4 * error + 1e-4)


def _line() -> Tensor:
    return torch.linspace(-60, 60, 60_001, dtype=torch.float64)


def _density(name: str) -> Density:
    """Returns a density of two coordinates that depend on each other."""
    if name == "logistic-mixture":
        density: Density = architectures.load(name)((2,)).double()
        density.initialize(torch.randn(500, 2, dtype=torch.float64))
        density.bias.data.add_(torch.randn_like(density.bias))
        return density
    gain = {"output_gain": 3.0, "mixtures": 3}
    made = architectures.load("made")
    if name == "made":
        density = made((2,), config=build(made.Config, gain, "made")).double()
        density.initialize(torch.randn(500, 2, dtype=torch.float64))
        return density
    joint = made.joint((2,), build(made.Config, gain, "made")).double()
    joint.initialize(torch.randn(500, 4, dtype=torch.float64))
    return joint.prior() if name == "joint prior" else joint.denoiser()


def test_two_step_samples_of_exact_stages_follow_the_data() -> None:
    x = exact().sample(100_000, generator=generator("follow"))
    assert x.mean().item() == pytest.approx(0, abs=0.02)
    assert x.std().item() == pytest.approx(1, abs=0.01)


def test_without_a_denoiser_it_says_so(method: TwoStep) -> None:
    alone = TwoStep(method.kernel, method.prior)
    for ask in (lambda: alone.bound(torch.zeros(2, 2)), lambda: alone.sample(3)):
        with pytest.raises(NotAvailable, match="fit a denoiser first"):
            ask()


def test_quadrature_of_many_dimensions_is_not_available() -> None:
    with pytest.raises(NotAvailable, match="importance-weighted"):
        exact(3).log_prob_by_quadrature(torch.zeros(2, 3, dtype=torch.float64))


def test_laplace_single_step_of_the_true_density() -> None:
    """Laplace denoising pulls x̃ of two-gaussians towards the modes."""
    kernel = kernels.load("laplace")(SIGMA)
    x = TwoGaussians().test.head(100).double()
    x_smooth = kernel.sample(x, generator("l"))
    grid = torch.linspace(-1.5, 1.5, 601, dtype=torch.float64)
    weight = TwoGaussians().true_log_prob(grid[:, None]).exp() * (grid[1] - grid[0])

    def log_prob(y: Tensor) -> Tensor:
        parts = [(kernel.log_density(r - grid).exp() @ weight).log() for r in y.split(2048)]
        return torch.cat(parts)

    estimate = kernel.posterior_mean(x_smooth, log_prob)
    assert ((estimate - x) ** 2).mean() < 0.7 * ((x_smooth - x) ** 2).mean()
