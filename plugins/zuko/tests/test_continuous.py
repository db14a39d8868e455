"""The integration is as exact as it is asked to be."""

import torch
from smoothctl_zuko import CNF


def test_neighbours_in_the_batch_matter_within_the_tolerance_alone() -> None:
    torch.manual_seed(0)
    model = CNF((2,), config=CNF.Config(width=16, absolute=1e-7, relative=1e-7)).double()
    x = torch.randn(20, 2).double()
    alone = torch.cat([model.log_prob(row) for row in x.split(1)])
    together = model.log_prob(torch.cat([x, 100 * x]))[:20]
    assert torch.allclose(alone, together, atol=1e-4)
