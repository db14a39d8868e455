"""What the features of a pixel say of its values: a softmax over levels, a mixture of logistics."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothctl.architectures.base import standardise
from smoothctl.architectures.mixtures import LARGEST_LOG_SCALE, Mixture, log_scale_of, spread
from smoothctl_rivals.autoregressive import MaskedConv2d

__all__ = ["Head", "LogisticHead", "SoftmaxHead"]


class Head(nn.Module):
    """Two masked 1×1 convolutions, each after a ReLU (van den Oord et al. 2016a, table 1).

    Args:
        features: the colour channel that each feature belongs to, int64 (features,).
        channels: colour channels C.
        outputs: numbers P that a channel's distribution takes.
    """

    def __init__(self, features: Tensor, channels: int, outputs: int) -> None:
        super().__init__()
        self.channels = channels
        self.hidden = MaskedConv2d(features, features)
        self.last = MaskedConv2d(features, torch.arange(channels).repeat_interleave(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, features, H, W) to (batch, C, H, W, P)."""
        hidden = F.relu(self.hidden(F.relu(features)))
        with torch.autocast(hidden.device.type, enabled=False):  # in bf16 a mean has two digits
            out: Tensor = self.last(hidden.to(self.last.weight.dtype))
        return torch.unflatten(out, 1, (self.channels, -1)).movedim(2, -1)


class SoftmaxHead(Head):
    """p(x_c) = softmax over the levels, each a class of its own (2016a, section 2.2).

    Args:
        features: see `Head`.
        channels: see `Head`.
        levels: values of a channel, v · 2/(levels − 1) − 1.
    """

    def __init__(self, features: Tensor, channels: int, levels: int) -> None:
        super().__init__(features, channels, levels)
        self.steps = levels - 1

    def initialize(self, x: Tensor) -> None:
        """Leaves the first weights as they are: every level is about as likely."""

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns the log-mass of each value in nats, shape of x: (batch, C, H, W)."""
        index = ((x + 1) * (self.steps / 2)).round().long().clamp(0, self.steps)
        logs = F.log_softmax(self(features), dim=-1)
        return torch.gather(logs, -1, index[..., None]).squeeze(-1)

    def draw(self, features: Tensor, u: Tensor) -> Tensor:
        """Maps uniforms (batch, 2, C, H, W) to values by the cumulated masses."""
        cumulated = self(features).softmax(-1).cumsum(-1)[..., :-1]
        index: Tensor = (u[:, 0, ..., None] > cumulated).sum(-1)
        return index.to(u) * (2 / self.steps) - 1


class LogisticHead(Head):
    """p(x_c) = a mixture of logistics, for values on the reals.

    Args:
        features: see `Head`.
        channels: see `Head`.
        mixtures: logistics K of a channel.
        min_log_scale: floor of their log-scales.
    """

    def __init__(
        self, features: Tensor, channels: int, mixtures: int, min_log_scale: float
    ) -> None:
        super().__init__(features, channels, 3 * mixtures)
        self.min_log_scale = min_log_scale

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Starts as a wide mixture about the data, (batch, C, H, W), of each channel."""
        assert self.last.bias is not None
        mean, sd = _moments(x)
        logits, means, log_scales = self.last.bias.view(self.channels, 3, -1).unbind(1)
        k = logits.shape[1]
        logits.zero_()
        means.copy_(mean[:, None] + sd[:, None] * spread(k).to(mean))
        log_scales.copy_(sd.log()[:, None].expand_as(means) + log_scale_of(1 / k))

    def mixture(self, features: Tensor) -> Mixture:
        """Returns the mixture of each value, parameters of shape (batch, C, H, W, K)."""
        logits, means, log_scales = self(features).unflatten(-1, (3, -1)).unbind(-2)
        return Mixture(logits, means, log_scales.clamp(self.min_log_scale, LARGEST_LOG_SCALE))

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns the log-density of each value in nats, shape of x: (batch, C, H, W)."""
        return self.mixture(features).log_prob(x)

    def draw(self, features: Tensor, u: Tensor) -> Tensor:
        """Maps uniforms (batch, 2, C, H, W) to values."""
        return self.mixture(features).quantile(u[:, 0], u[:, 1])


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of each channel of images, (C,) both."""
    return standardise(x.movedim(1, -1).flatten(0, -2))
