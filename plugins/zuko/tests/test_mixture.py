"""The mixture is zuko's, on standardised data."""

import torch
from smoothctl_zuko import GMM


def test_it_is_the_sum_of_its_gaussians() -> None:
    torch.manual_seed(0)
    model = GMM((2,), config=GMM.Config(components=3)).double()
    x = torch.randn(50, 2).double() * torch.tensor([2.0, 0.5]) + 1
    model.initialize(x)
    logits, means, log_diagonal, below = model.zuko.phi
    z, _ = model.to_standard(x, None)
    total = torch.zeros(50).double()
    for k, weight in enumerate(logits.softmax(0)):
        lower = torch.diag(log_diagonal[k].exp() + 1e-6)
        lower[1, 0] = below[k, 0]
        gaussian = torch.distributions.MultivariateNormal(means[k], scale_tril=lower)
        total = total + weight * gaussian.log_prob(z).exp()
    assert torch.allclose(model.log_prob(x), total.log() - x.std(0, correction=0).log().sum())
