"""The flow: affine maps of each token given those before it, in alternating order."""

import torch
from torch import Tensor, nn

from smoothctl.architectures.any_sigma import sigma_network
from smoothctl_tarflow.transformer import CausalTransformer

__all__ = ["AutoregressiveMap", "TokenFlow"]


class AutoregressiveMap(nn.Module):
    r"""zᵢ ↦ (zᵢ − μᵢ) exp(−αᵢ), where μᵢ, αᵢ see z₁ … zᵢ₋₁ and c₁ … cᵢ (Zhai et al. 2024, eq. 4).

    The token before is the input of each, so that the first has weights of its own; the paper
    shifts outputs instead and leaves the first as it is. αᵢ is softly capped, cap·tanh(raw/cap):
    nothing overflows, whatever the weights. Starts as the identity.

    Args:
        tokens: in a sequence.
        dims: of a token.
        context: dimensions of a token of the context; 0: there is none.
        leveled: whether σ is an input.
        width: of the transformer.
        layers: of the transformer.
        heads: of the transformer.
        cap: the bound of |α|.
    """

    def __init__(
        self,
        tokens: int,
        dims: int,
        context: int,
        leveled: bool,
        width: int,
        layers: int,
        heads: int,
        cap: float,
    ) -> None:
        super().__init__()
        self.cap = cap
        self.start = nn.Parameter(torch.zeros(width))
        self.embed = nn.Linear(dims, width)
        self.embed_context = nn.Linear(context, width) if context else None
        self.level = sigma_network(width, width) if leveled else None
        self.transformer = CausalTransformer(tokens, width, layers, heads)
        self.out = nn.Linear(width, 2 * dims)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, z: Tensor, context: Tensor | None = None, log_sigma: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the transformed z, (batch, tokens, dims), and the log-determinant, (batch,)."""
        start = self.start.expand(len(z), 1, -1)
        h = torch.cat([start, self.embed(z[:, :-1])], dim=1) + self._of(context, log_sigma)
        shift, log_scale = self._affine(self.transformer(h))
        return (z - shift) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)

    def inverse(
        self, z: Tensor, context: Tensor | None = None, log_sigma: Tensor | None = None
    ) -> Tensor:
        """Undoes `forward`, one token after another."""
        cache, x = self.transformer.cache(len(z)), torch.empty_like(z)
        given = self._of(context, log_sigma).expand(len(z), z.shape[1], -1)
        before = self.start.expand(len(z), -1)
        for i in range(z.shape[1]):
            shift, log_scale = self._affine(self.transformer.next(before + given[:, i], cache))
            x[:, i] = z[:, i] * log_scale.exp() + shift
            before = self.embed(x[:, i])
        return x

    def _of(self, context: Tensor | None, log_sigma: Tensor | None) -> Tensor:
        """Returns what context and σ add to each token: (batch or 1, tokens or 1, width)."""
        added = self.start.new_zeros(1, 1, len(self.start))
        if self.embed_context is not None and context is not None:
            added = added + self.embed_context(context)
        if self.level is not None and log_sigma is not None:
            added = added + self.level(log_sigma)[:, None]
        return added

    def _affine(self, h: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self.out(h).chunk(2, dim=-1)
        return shift, self.cap * torch.tanh(raw / self.cap)


class TokenFlow(nn.Module):
    """Maps between tokens and noise of the same shape: every second one from the last token on.

    Args:
        flows: how many maps; the others are those of `AutoregressiveMap`.
    """

    def __init__(
        self,
        tokens: int,
        dims: int,
        context: int,
        leveled: bool,
        flows: int,
        width: int,
        layers: int,
        heads: int,
        cap: float,
    ) -> None:
        super().__init__()
        given = (context, leveled, width, layers, heads, cap)
        self.maps = nn.ModuleList(AutoregressiveMap(tokens, dims, *given) for _ in range(flows))

    def forward(
        self, z: Tensor, context: Tensor | None = None, log_sigma: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns noise, (batch, tokens, dims), and the log-determinant, (batch,)."""
        log_determinant = z.new_zeros(len(z))
        for step in self.maps:
            z, change = step(z, context, log_sigma)
            z, context = z.flip(1), _flipped(context)
            log_determinant = log_determinant + change
        return z, log_determinant

    def inverse(
        self, z: Tensor, context: Tensor | None = None, log_sigma: Tensor | None = None
    ) -> Tensor:
        """Undoes `forward`."""
        if len(self.maps) % 2:
            context = _flipped(context)
        for step in reversed(self.maps):
            assert isinstance(step, AutoregressiveMap)
            z, context = z.flip(1), _flipped(context)
            z = step.inverse(z, context, log_sigma)
        return z


def _flipped(context: Tensor | None) -> Tensor | None:
    return None if context is None else context.flip(1)
