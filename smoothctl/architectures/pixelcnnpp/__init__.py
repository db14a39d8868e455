"""PixelCNN++: an autoregressive network for images (Salimans et al. 2017), and its samplers."""

from smoothctl.architectures.pixelcnnpp.density import PixelCNNpp

__all__ = ["PixelCNNpp"]
