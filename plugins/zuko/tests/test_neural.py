"""The neural flow is a bijection of the reals."""

import torch
from smoothctl_zuko import NAF
from zuko.flows import NAF as NAF_OF_ZUKO


def test_normal_draws_of_any_size_come_back() -> None:
    torch.manual_seed(0)
    transform = NAF((2,)).double().eval().zuko.transform
    z = torch.tensor([[-30.0, 6.0], [0.0, 0.0], [5.0, -40.0], [0.1, 20.0]]).double()
    with torch.no_grad():
        x = transform().inv(z)
        assert x.abs().max() > 11
        assert torch.allclose(transform()(x), z, atol=1e-4)


def test_its_settings_reach_the_networks() -> None:
    config = NAF.Config(transforms=3, signal=5, monotonic_width=6, monotonic_layers=1, width=7)
    layers = NAF((2,), config=config).zuko.transform.transforms
    assert len(layers) == 3
    for layer in layers:
        assert [list(p.shape) for p in layer.univariate.parameters()] == [
            [2, 6, 6],
            [2, 6],
            [2, 1, 6],
            [2, 1],
        ]
        assert layer.hyper[0].weight.shape == (7, 2)


def test_zukos_own_squeezes_the_reals_into_too_little() -> None:
    """Why this plugin leaves the squeezing out; where this fails, zuko's own will do."""
    torch.manual_seed(0)
    flow = NAF_OF_ZUKO(2, transforms=2, signal=4, network={"hidden_features": (16,)})
    ends = torch.tensor([[-1e9, -1e9], [1e9, 1e9]])
    with torch.no_grad():
        image = flow().transform(ends)
    assert image.abs().max() < 5
