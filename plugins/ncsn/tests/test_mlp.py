"""The perceptron of vectors."""

import torch
from smoothctl_ncsn.mlp import LevelMLP


def test_it_sees_x_and_the_level() -> None:
    torch.manual_seed(0)
    network = LevelMLP(3, 16, 2)
    x = torch.randn(4, 3)
    sigma = torch.tensor([0.01, 0.1, 1.0, 10.0])[:, None]
    assert network(x, sigma).shape == x.shape
    one = network(x[:1].expand(4, 3), sigma)
    assert (torch.pdist(one) > 1e-4).all()
    assert not torch.allclose(network(x, sigma), network(-x, sigma))
