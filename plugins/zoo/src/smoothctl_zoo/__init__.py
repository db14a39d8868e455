"""Fitted models for smoothctl."""

from pathlib import Path

from smoothctl.runs.packaged import PackagedModel

__all__ = ["mnist"]

_MODELS = Path(__file__).parent / "models"

mnist = PackagedModel(
    _MODELS / "mnist-two-step",
    "handwritten digits, 28×28: PixelCNN++ smoothed with σ 0.5, and a plain one beside it",
    "weights Apache-2.0; fitted to MNIST (Y. LeCun, C. Cortes, C. J. C. Burges)",
)
