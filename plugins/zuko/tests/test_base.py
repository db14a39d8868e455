"""What holds for every architecture of the plugin."""

from importlib.metadata import entry_points

import pytest
import torch
from smoothctl_zuko import GMM, MAF, NICE, UNAF, RealNVP

from smoothctl.architectures.standardised import StandardisedDensity
from smoothctl.errors import UsageError
from smoothctl.rng import generator

ALL = {
    point.name: point.load()
    for point in entry_points(group="smoothctl.architectures")
    if point.name.startswith("zuko-")
}
FLEXIBLE_ALONE = sorted(set(ALL) - {"zuko-maf", "zuko-nice", "zuko-realnvp", "zuko-cnf"})


def _on_data(
    architecture: type[StandardisedDensity], dims: int = 2, dtype: torch.dtype = torch.float32
) -> tuple[StandardisedDensity, torch.Tensor]:
    """Returns a model that has seen two clusters, and the clusters."""
    torch.manual_seed(0)
    x = 0.1 * torch.randn(400, dims, dtype=dtype) + torch.tensor([-1.0, 1.0]).repeat(200)[:, None]
    model = architecture((dims,)).to(dtype)
    model.initialize(x)
    return model.eval(), x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(ALL))
def test_a_stray_point_has_a_finite_density_and_score(name: str, dtype: torch.dtype) -> None:
    """However far x̃ is from the data, by a thousand standard deviations and more."""
    model, x = _on_data(ALL[name], dtype=dtype)
    far = torch.tensor([[1.0, 1.0], [-1.0, 0.0], [0.3, -2.0]], dtype=dtype)
    points = torch.cat([x[:20], *(reach * far for reach in (3.0, 30.0, 1000.0))])
    assert model.log_prob(points).isfinite().all()
    assert model.score_function(points).isfinite().all()


@pytest.mark.parametrize("name", FLEXIBLE_ALONE)
def test_one_dimension_integrates_to_one(name: str) -> None:
    model, _ = _on_data(ALL[name], dims=1, dtype=torch.float64)
    axis = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    grid, weights = 400 * axis**3, 1200 * axis**2 * (axis[1] - axis[0])
    with torch.no_grad():
        mass = (model.log_prob(grid[:, None]).exp() * weights).sum()
    assert mass.item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("architecture", [MAF, NICE, RealNVP])
def test_one_dimension_would_be_a_mere_gaussian(architecture: type[StandardisedDensity]) -> None:
    with pytest.raises(UsageError, match="mere Gaussian"):
        architecture((1,))


@pytest.mark.parametrize("architecture", [MAF, GMM])
def test_draws_leave_the_global_generator_alone(architecture: type[StandardisedDensity]) -> None:
    """They neither depend on it nor move it."""
    model, _ = _on_data(architecture)
    first = model.sample(5, generator=generator("draws"))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(model.sample(5, generator=generator("draws")), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_are_the_same_in_both_modes() -> None:
    """Zuko's integrals leave their network's weights out of the gradient in evaluation mode."""
    model, x = _on_data(UNAF)
    gradients = []
    for mode in (True, False):
        model.train(mode)
        model.zero_grad()
        model.training_loss(x).mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
