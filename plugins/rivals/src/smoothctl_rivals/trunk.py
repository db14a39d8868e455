"""A trunk of smooth convolutions from images to small maps, which VAE and EBM share."""

from itertools import pairwise

from torch import Tensor, nn

__all__ = ["SmoothBlock", "trunk", "widths"]


class SmoothBlock(nn.Module):
    """h + conv(silu(conv(silu(h)))), whose second convolution starts at zero.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(second.weight)
        self.layers = nn.Sequential(nn.SiLU(), first, nn.SiLU(), second)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps like those given, (batch, width, H, W)."""
        out: Tensor = maps + self.layers(maps)
        return out


def widths(filters: int) -> list[int]:
    """Returns the channels of a trunk's maps of full size, half and quarter."""
    return [filters, 2 * filters, 2 * filters]


def trunk(channels: int, filters: int, blocks: int) -> nn.Sequential:
    """Returns residual blocks at three sizes, of which the second and third halve the one before.

    A side that is odd is rounded up, so that images of any size will do.

    Args:
        channels: of the images.
        filters: channels at full size.
        blocks: residual blocks at each size.
    """
    sizes = widths(filters)
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, 3, padding=1)]
    for width, smaller in pairwise(sizes):
        layers += [SmoothBlock(width) for _ in range(blocks)]
        layers += [nn.SiLU(), nn.Conv2d(width, smaller, 3, stride=2, padding=1)]
    layers += [SmoothBlock(sizes[-1]) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.SiLU())
