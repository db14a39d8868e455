"""One layer of a continuously indexed flow: two couplings, an index and what it does."""

import math

import torch
from torch import Tensor, nn

from smoothctl.architectures.layers import mlp
from smoothctl.architectures.realnvp import Coupling

__all__ = ["IndexDensity", "IndexedBlock"]


class IndexDensity(nn.Module):
    """N(u; m(y), diag e^(2r(y))): p(u|z) of the model, or q(u|x) of the inference.

    The log-deviations r are softly capped.

    Args:
        given: coordinates of y.
        latents: coordinates of u.
        width: units in each hidden layer.
        layers: hidden layers.
        cap: the bound of |r|.
    """

    def __init__(self, given: int, latents: int, width: int, layers: int, cap: float) -> None:
        super().__init__()
        self.cap = cap
        self.network = mlp(given, width, layers, 2 * latents)

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Returns means and log-deviations, each (batch, latents), given (batch, given)."""
        outputs: Tensor = self.network(given)
        mean, raw = outputs.chunk(2, dim=1)
        return mean, _capped(raw, self.cap)

    def draw(self, given: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the index, (batch, latents), that standard noise makes, and its log-density."""
        mean, log_sd = self.forward(given)
        return mean + log_sd.exp() * noise, _standard_log_prob(noise) - log_sd.sum(1)

    def log_prob(self, index: Tensor, given: Tensor) -> Tensor:
        """Returns the log-density of an index in nats: (batch, latents) -> (batch,)."""
        mean, log_sd = self.forward(given)
        noise = (index - mean) * (-log_sd).exp()
        return _standard_log_prob(noise) - log_sd.sum(1)


class IndexedBlock(nn.Module):
    r"""z ↦ f(e^(−s(u)) ⊙ z − t(u)) with an index u ~ p(u|z) (Cornish et al. 2020, section 3).

    f undoes two affine couplings, so that together they move every coordinate. Everything but s
    and t sees the context too. Coordinates are in the order even, odd. The couplings start as the
    identity, but s and t do not start at zero: from there the index would never come into use.

    Args:
        dims: coordinates of z, at least 2.
        context: coordinates of the context.
        latents: coordinates of u.
        width: units in each hidden layer of the couplings.
        index_width: units in each hidden layer of the networks of s and t, of p and of q.
        layers: hidden layers of every network.
        cap: bound of every log-scale.
    """

    def __init__(
        self,
        dims: int,
        context: int,
        latents: int,
        width: int,
        index_width: int,
        layers: int,
        cap: float,
    ) -> None:
        super().__init__()
        self.cap = cap
        self.sizes = (dims + 1) // 2, dims // 2
        even, odd = self.sizes
        self.first = Coupling(even + context, odd, width, layers, cap)
        self.second = Coupling(odd + context, even, width, layers, cap)
        self.generative = IndexDensity(dims + context, latents, index_width, layers, cap)
        self.inference = IndexDensity(dims + context, latents, index_width, layers, cap)
        self.shift_and_scale = mlp(latents, index_width, layers, 2 * dims)

    def inwards(
        self, z: Tensor, context: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Goes from the data's side to the noise's by an index that is drawn from q(u|z).

        Args:
            z: shape (batch, D).
            context: shape (batch, C).
            noise: standard normals, shape (batch, latents).

        Returns:
            The new z; log |det ∂z_new/∂z| + log p(u|z_new); log q(u|z).
        """
        index, log_inference = self.inference.draw(_join(z, context), noise)
        even, odd = z.split(self.sizes, dim=1)
        odd, first = self.first(even, odd, context)
        even, second = self.second(odd, even, context)
        shift, log_scale = self._shift_and_scale(index)
        z = (torch.cat([even, odd], dim=1) + shift) * log_scale.exp()
        log_generative = self.generative.log_prob(index, _join(z, context))
        return z, first + second + log_scale.sum(1) + log_generative, log_inference

    def outwards(self, z: Tensor, context: Tensor | None, noise: Tensor) -> Tensor:
        """Goes from the noise's side to the data's by an index that is drawn from p(u|z)."""
        index, _ = self.generative.draw(_join(z, context), noise)
        shift, log_scale = self._shift_and_scale(index)
        even, odd = (z * (-log_scale).exp() - shift).split(self.sizes, dim=1)
        even = self.second.inverse(odd, even, context)
        odd = self.first.inverse(even, odd, context)
        return torch.cat([even, odd], dim=1)

    def _shift_and_scale(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns t(u) and s(u), each (batch, D)."""
        shift, raw = self.shift_and_scale(index).chunk(2, dim=1)
        return shift, _capped(raw, self.cap)


def _join(z: Tensor, context: Tensor | None) -> Tensor:
    return z if context is None else torch.cat([z, context], dim=1)


def _capped(raw: Tensor, cap: float) -> Tensor:
    return cap * torch.tanh(raw / cap)


def _standard_log_prob(noise: Tensor) -> Tensor:
    return -0.5 * (noise**2).sum(1) - 0.5 * noise.shape[1] * math.log(2 * math.pi)
