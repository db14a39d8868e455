"""DINOv2 features, which see more of an image's content than Inception's (Stein et al. 2023)."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smoothctl.errors import DataError, NotAvailable
from smoothctl.metrics.features import Extracted, Features, Request
from smoothctl.metrics.resizing import Resize
from smoothctl.storage.cache import cache_folder

__all__ = ["DINOv2"]

WEIGHTS = "SMOOTHCTL_DINOV2"
"""Environment variable: the folder of the weights."""

_MODEL = "facebook/dinov2-large"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_METHOD = 1
_SIDE = 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels, which the network was trained with."""


class DINOv2(Features):
    """The class token of a DINOv2 vision transformer (Oquab et al. 2023) after its last layer.

    As in Stein et al. 2023 ("Exposing flaws of generative model evaluation metrics"): each channel
    is resized to 224×224 by Pillow's bicubic filter as floats, and ImageNet's mean and deviation
    are taken off; grey images get three equal channels.

    The weights are a folder with config.json and model.safetensors, as the Hugging Face hub has
    them (published figures take facebook/dinov2-large): that of `request.weights`,
    $SMOOTHCTL_DINOV2 or the user's cache, in this order; `request.download` fetches it from the
    hub. Nothing in it can run code.
    """

    summary = "DINOv2's class token, for Fréchet and kernel distances that see content"
    preprocessing = "Pillow bicubic to 224×224 in floats, clipped, ImageNet's mean and deviation"
    batch = 32
    takes_weights = True

    def __init__(self, request: Request) -> None:
        channels = request.reference.shape[0]
        if channels not in (1, 3):
            raise NotAvailable(f"DINOv2 takes images of 1 or 3 channels, not {channels}.")
        self._resize = Resize(_SIDE)
        folder = _find(request)
        self._weights = _digest(folder, request.sha256)
        self._network = _loaded(folder).to(request.device)
        self._device = request.device

    @property
    def sha256(self) -> str:
        """Of the weights, the preprocessing and the version of this method."""
        return hashlib.sha256(
            f"{_METHOD} {self._weights} {self.preprocessing}".encode()
        ).hexdigest()

    @property
    def details(self) -> dict[str, float | str]:
        """The SHA-256 of the weights file."""
        return {"weights SHA-256": self._weights}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Returns features: uint8 (n, C, H, W) -> (n, d), d 1024 of the large network."""
        x = self._resize(images).to(self._device) / 255
        mean, deviation = (x.new_tensor(each).view(3, 1, 1) for each in (_MEAN, _DEVIATION))
        tokens = self._network(pixel_values=(x - mean) / deviation).last_hidden_state
        return Extracted(tokens[:, 0].float().cpu())


def _find(request: Request) -> Path:
    """Returns the folder of the weights, fetched where that is allowed.

    Raises:
        NotAvailable: it is nowhere, and may not or cannot be fetched.
        DataError: the named folder lacks a file.
    """
    named = request.weights or os.environ.get(WEIGHTS)
    if named:
        for name in (_CONFIG, _WEIGHTS):
            if not (Path(named) / name).is_file():
                raise DataError(f"{named} is no folder of DINOv2's weights: it has no {name}.")
        return Path(named)
    kept = cache_folder() / "dinov2"
    if all((kept / name).is_file() for name in (_CONFIG, _WEIGHTS)):
        return kept
    if not request.download:
        raise NotAvailable(
            f"DINOv2's weights are not at hand: put {_CONFIG} and {_WEIGHTS} of {_MODEL} into "
            f"{kept}, or name their folder with `feature_weights` or ${WEIGHTS}, or let `download` "
            "fetch them (1.2 GB)."
        )
    request.note(f"Fetches DINOv2's weights (1.2 GB) of {_MODEL} into {kept}, once.")
    _download(kept)
    return kept


def _download(kept: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    raised: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)
    try:
        snapshot_download(_MODEL, local_dir=kept, allow_patterns=[_CONFIG, _WEIGHTS])
    except raised as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise NotAvailable(
            f"DINOv2's weights cannot be fetched from the hub ({reason}): put {_CONFIG} and "
            f"{_WEIGHTS} of {_MODEL} into {kept} by hand."
        ) from error


def _digest(folder: Path, expected: str | None) -> str:
    """Returns the SHA-256 of the weights file.

    Raises:
        DataError: it is not the expected one, or the file cannot be read.
    """
    try:
        with (folder / _WEIGHTS).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{folder / _WEIGHTS} cannot be read: {error.strerror}.") from error
    if expected is not None and sha256 != expected.lower():
        raise DataError(f"{folder / _WEIGHTS} has the SHA-256 {sha256} and not {expected}.")
    return sha256


def _loaded(folder: Path) -> nn.Module:
    """Returns the network.

    Raises:
        NotAvailable: transformers is not installed.
        DataError: the folder holds another network, or is damaged.
    """
    try:
        from transformers import Dinov2Model
        from transformers.utils import logging
    except ImportError as error:
        raise NotAvailable(
            f"DINOv2 needs transformers ({error}): run pip install 'smoothctl[dinov2]'."
        ) from error
    log: Any = logging
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        settings = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if settings.get("model_type") != "dinov2":
            raise ValueError(f"its config.json is of '{settings.get('model_type')}'")
        load: Any = Dinov2Model.from_pretrained
        network, loading = load(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        if lacking := sorted(loading["missing_keys"]):
            raise ValueError(f"it lacks {lacking[0]}")
    except Exception as error:  # whatever a foreign configuration makes of a network
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{folder} holds no DINOv2 network ({lines[0][:200].rstrip('.')})."
        ) from error
    found: nn.Module = network.eval()
    return found
