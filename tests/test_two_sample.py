"""The classifier two-sample test: honest on equal sets, and seeing what distances are blind to."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from smoothctl.datasets.shapes import Rings
from smoothctl.errors import DataError
from smoothctl.metrics.two_sample import classifier_test, energy_distance
from smoothctl.rng import generator


def normals(n: int, d: int = 2, key: str = "x") -> Tensor:
    return torch.randn(n, d, generator=generator(key, n, d))


def wide_rings(n: int) -> Tensor:
    """Rings with twice their noise."""
    x = Rings().sample(n, generator("wide"))
    return x + math.sqrt(3) * Rings.noise * normals(n, key="wider")


@pytest.mark.slow
def test_of_equal_distributions_z_is_standard_normal() -> None:
    found = [
        classifier_test(normals(60, key=f"x{i}"), normals(60, key=f"y{i}"), i) for i in range(8)
    ]
    z = np.array([each.z for each in found])
    assert abs(z.mean()) < 4 / math.sqrt(8)
    assert 0.3 < z.std(ddof=1) < 2


def test_z_and_p_are_those_of_the_accuracy() -> None:
    found = classifier_test(normals(101), normals(80, key="y") + 0.5)
    assert found.held_out == 80
    assert found.z == pytest.approx((found.accuracy - 0.5) * math.sqrt(4 * 80))
    assert found.p_value == pytest.approx(1 - 0.5 * (1 + math.erf(found.z / math.sqrt(2))))


def test_accuracy_of_shifted_normals_is_the_best_possible() -> None:
    """No classifier is right more often than Φ(δ/2) about two normals that lie δ apart."""
    shifted = normals(4000, key="y") + torch.tensor([2.0, 0.0])
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert classifier_test(normals(4000), shifted).accuracy == pytest.approx(best, abs=0.03)


@pytest.mark.slow
def test_sees_a_wrong_noise_width_where_the_energy_distance_is_blind() -> None:
    true, other = (Rings().sample(5000, generator(key)) for key in "ab")
    assert classifier_test(wide_rings(5000), true).z > 8
    assert abs(classifier_test(other, true).z) < 4
    chance = [energy_distance(Rings().sample(5000, generator(i)), true) for i in range(3)]
    assert energy_distance(wide_rings(5000), true) < 2 * max(map(abs, chance))


@pytest.mark.slow
def test_repeats_and_leaves_the_global_generator_alone() -> None:
    x, y = normals(50), normals(50, key="y") + 0.5
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (classifier_test(x, y, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert first == again != other


@pytest.mark.slow
def test_works_where_gradients_are_off_and_whatever_the_units() -> None:
    x, y = normals(400, 3), normals(400, 3, "y") + 1
    x[:, 2] = y[:, 2] = 5
    with torch.no_grad():
        small, large = (classifier_test(s * x + 1, s * y + 1) for s in (1e-3, 1e3))
    assert small.z > 5
    assert small.accuracy == pytest.approx(large.accuracy, abs=0.01)


def test_bad_input() -> None:
    x = normals(50)
    with pytest.raises(DataError, match="not finite"):
        classifier_test(x, torch.full_like(x, math.nan))
    with pytest.raises(DataError, match="one width"):
        classifier_test(x, normals(50, 3))
    with pytest.raises(DataError, match="at least 20 samples of each set, not 19"):
        classifier_test(x, x[:19])
