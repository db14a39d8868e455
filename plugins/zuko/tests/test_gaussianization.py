"""The transformation in log-space equals zuko's where that is exact, and goes on beyond."""

import torch
from smoothctl_zuko.gaussianization import LogGaussianization, normal_quantile
from zuko.transforms import GaussianizationTransform

_PHI = (torch.tensor([-0.5, 0.2, 1.0]).double(), torch.tensor([0.1, -0.4, 0.3]).double())


def test_quantiles_undo_the_distribution_function() -> None:
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        y = torch.linspace(-2000, 0, 4001, dtype=dtype)
        found = normal_quantile(torch.special.log_ndtr(y))
        assert ((found - y).abs() <= tolerance * (1 + y.abs())).all()


def test_quantiles_have_their_derivative() -> None:
    log_p = torch.tensor([-1e6, -300.0, -5.0, -0.7]).double().requires_grad_(True)
    assert torch.autograd.gradcheck(normal_quantile, (log_p,))


def test_it_is_zukos_transformation() -> None:
    x = torch.linspace(-2.5, 2.5, 101).double()
    ours, theirs = (cls(*_PHI).call_and_ladj(x) for cls in _TRANSFORMATIONS)
    assert torch.allclose(ours[0], theirs[0], atol=1e-3)
    assert torch.allclose(ours[1], theirs[1], atol=1e-2)


def test_the_log_derivative_is_the_derivatives() -> None:
    x = torch.tensor([-300.0, -20.0, -1.0, 0.0, 2.0, 50.0]).double().requires_grad_(True)
    y, log_slope = LogGaussianization(*_PHI).call_and_ladj(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope.log(), log_slope, atol=1e-6)


def test_it_is_undone_far_from_the_data() -> None:
    transformation = LogGaussianization(*_PHI, bound=1e3)
    x = torch.tensor([-200.0, -12.0, 0.0, 3.0, 90.0]).double()
    assert torch.allclose(transformation.inv(transformation(x)), x, atol=1e-5)


def test_zukos_own_ends_within_thirty_standard_deviations() -> None:
    """Why this plugin computes in log-space; where this fails, zuko's own will do."""
    shift, scale = (parameter.float() for parameter in _PHI)
    y, log_slope = GaussianizationTransform(shift, scale).call_and_ladj(torch.tensor([30.0]))
    assert y < 5
    assert log_slope == -torch.inf


_TRANSFORMATIONS = (LogGaussianization, GaussianizationTransform)
