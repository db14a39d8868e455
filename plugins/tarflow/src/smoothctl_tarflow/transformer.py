"""A causal transformer that can be run at once, or token by token with what it saw kept."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

__all__ = ["Cache", "CausalTransformer"]


class Cache:
    """Keys and values of the tokens so far, in room that is there from the start.

    Args:
        like: dtype and device.
        layers: of the transformer.
        shape: (batch, heads, tokens, width of a head).
    """

    def __init__(self, like: Tensor, layers: int, shape: tuple[int, int, int, int]) -> None:
        self.keys, self.values = like.new_empty(2, layers, *shape)
        self.tokens = 0

    def put(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps those of a token, (batch, heads, 1, width), and returns all up to it."""
        at = self.tokens
        self.keys[layer, :, :, at : at + 1] = key
        self.values[layer, :, :, at : at + 1] = value
        return self.keys[layer, :, :, : at + 1], self.values[layer, :, :, : at + 1]


class Layer(nn.Module):
    """Attention to this token and those before it, then a network of each token alone.

    Args:
        width: of a token.
        heads: of attention; they divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_attention = nn.Linear(width, 3 * width)
        self.from_attention = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor, cache: Cache | None = None, number: int = 0) -> Tensor:
        """Maps (batch, tokens, width) to the same; with a cache, one token after those in it."""
        heads = self.to_attention(self.before_attention(h)).unflatten(2, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, width)
        if cache is not None:
            key, value = cache.put(number, key, value)
        seen = scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        h = h + self.from_attention(seen.transpose(1, 2).flatten(2))
        deep: Tensor = self.narrow(gelu(self.widen(self.before_network(h))))
        return h + deep


class CausalTransformer(nn.Module):
    """Layers whose output at a token depends on that token and those before it.

    Args:
        tokens: in a sequence, each of which has a learned position.
        width: of a token.
        layers: how many.
        heads: of attention.
    """

    def __init__(self, tokens: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, h: Tensor) -> Tensor:
        """Maps all tokens at once: (batch, tokens, width) to the same."""
        h = h + self.position
        for layer in self.layers:
            h = layer(h)
        out: Tensor = self.norm(h)
        return out

    def cache(self, batch: int) -> Cache:
        """Returns an empty cache for so many sequences."""
        tokens, width = self.position.shape
        first = self.layers[0]
        assert isinstance(first, Layer)
        shape = (batch, first.heads, tokens, width // first.heads)
        return Cache(self.position, len(self.layers), shape)

    def next(self, h: Tensor, cache: Cache) -> Tensor:
        """Maps the next token, (batch, width) to the same, and keeps it."""
        h = (h + self.position[cache.tokens])[:, None]
        for number, layer in enumerate(self.layers):
            h = layer(h, cache, number)
        cache.tokens += 1
        out: Tensor = self.norm(h)[:, 0]
        return out
