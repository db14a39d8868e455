"""Inception features as clean-fid takes them, and the probabilities of the Inception score."""

import hashlib
import io
import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.hub import download_url_to_file

from smoothctl.errors import DataError, NotAvailable, UsageError
from smoothctl.metrics.features import Extracted, Features, Request
from smoothctl.metrics.resizing import Resize
from smoothctl.storage.cache import cache_folder

__all__ = ["SHA256", "Inception"]

WEIGHTS, WEIGHTS_SHA256 = "SMOOTHCTL_INCEPTION", "SMOOTHCTL_INCEPTION_SHA256"
"""Environment variables: a weights file, and its SHA-256 where it is not the known one."""

SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of the one file that published figures are computed with."""

_NAME = "inception-2015-12-05.pt"
_ADDRESS = (
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
    "inception-2015-12-05.pt"
)
_TIMEOUT = 30
_SIDE = 299
_METHOD = 1
_AGREE = 1e-4


class Inception(Features):
    """The network of 2015 that FID, KID and the Inception score are published with.

    Preprocessing and features are clean-fid's (Parmar, Zhang & Zhu 2022, mode "clean"): each
    channel is resized to 299×299 by Pillow's bicubic filter as 32-bit floats and clipped to
    0 … 255, not rounded; grey images get three equal channels; (x − 128)/128 goes through the
    file's `.layers`.

    Class probabilities are those of the published Inception score (Salimans et al. 2016):
    softmax of the last layer without its bias. This relies on the file's
    `forward(x, no_output_bias=True)`, which gives them and leaves 299×299 as it is. They are
    computed from the features where the file has an `output.weight` that does the same, as is
    tried on one image when it is loaded, and else by a second pass.

    The file is looked for in `request.weights`, $SMOOTHCTL_INCEPTION and the user's cache, in
    this order, and fetched only when `request.download` says so. Its SHA-256 is compared before
    anything else looks at it, because TorchScript is code: it must be the known one, or one that
    the user gives in `request.sha256` or $SMOOTHCTL_INCEPTION_SHA256.
    """

    summary = "Inception v3 of 2015 as in clean-fid, for FID, KID and the Inception score"
    preprocessing = "Pillow bicubic to 299×299 in floats, clipped, not rounded (clean-fid 'clean')"
    batch = 32
    takes_weights = True

    def __init__(self, request: Request) -> None:
        channels = request.reference.shape[0]
        if channels not in (1, 3):
            raise NotAvailable(f"Inception takes images of 1 or 3 channels, not {channels}.")
        self._resize = Resize(_SIDE)
        expected = _expected(request.sha256)
        file = _find(request)
        content = _read(file)
        self._weights = _verified(content, str(file), expected)
        self._network, self._head = _loaded(content, file, request.device)
        self._device = request.device

    @property
    def sha256(self) -> str:
        """Of the weights, the preprocessing and the version of this method."""
        text = f"{_METHOD} {self._weights} {self.preprocessing}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def details(self) -> dict[str, float | str]:
        """The SHA-256 of the weights file."""
        return {"weights SHA-256": self._weights}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Returns features and probabilities: uint8 (n, C, H, W) -> (n, 2048), (n, 1008)."""
        x = self._resize(images).to(self._device)
        features = _features(self._network, x)
        if self._head is None:
            probabilities = self._network(x, no_output_bias=True)
        else:
            probabilities = F.linear(features, self._head).softmax(1)
        return Extracted(features.float().cpu(), probabilities.float().cpu())


def _features(network: Any, x: Tensor) -> Tensor:
    """The steps of clean-fid's `InceptionV3W`, for any width: (n, 3, 299, 299) -> (n, d)."""
    features: Tensor = network.layers.forward((x - 128) / 128)
    return features.reshape(len(x), -1)


def _loaded(content: bytes, file: Path, device: str) -> tuple[Any, Tensor | None]:
    """Returns the network, and its last layer's weights where they give its probabilities.

    Raises:
        DataError: it is no TorchScript, or one with other inputs and outputs.
    """
    try:
        with _without_warning("`torch.jit.load` is deprecated"), torch.no_grad():
            network = torch.jit.load(io.BytesIO(content), map_location=device).eval()
            probe = torch.linspace(0, 255, 3 * _SIDE**2, device=device)
            probe = probe.view(1, 3, _SIDE, _SIDE)
            features = _features(network, probe)
            probabilities = network(probe, no_output_bias=True)
            total = float(probabilities.sum(1))
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines()
        reason = lines[-1].strip().removesuffix(".") if lines else type(error).__name__
        raise DataError(
            f"{file} is no TorchScript with the interface of {_NAME} ({reason[:200]})."
        ) from error
    if probabilities.ndim != 2 or abs(total - 1) > _AGREE:
        raise DataError(f"{file} gives no class probabilities: take {_NAME}.")
    return network, _head(network, features, probabilities)


def _head(network: Any, features: Tensor, probabilities: Tensor) -> Tensor | None:
    """Returns the last layer's weights where softmax(features · weightsᵀ) are its probabilities."""
    weight = getattr(getattr(network, "output", None), "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[1] != features.shape[1]:
        return None
    by_head = F.linear(features, weight.detach()).softmax(1)
    same = by_head.shape == probabilities.shape and torch.allclose(
        by_head, probabilities, atol=_AGREE
    )
    return weight.detach() if same else None


def _expected(sha256: str | None) -> list[str]:
    """Returns the SHA-256 that a file may have."""
    own = sha256 or os.environ.get(WEIGHTS_SHA256)
    if own and not re.fullmatch(r"[0-9a-fA-F]{64}", own):
        raise UsageError(f"A SHA-256 has 64 hexadecimal digits, unlike '{own}'.")
    if sha256:
        return [sha256.lower()]
    return [*([own.lower()] if own else []), SHA256]


def _find(request: Request) -> Path:
    """Returns the weights file, fetched where that is allowed.

    Raises:
        NotAvailable: it is nowhere, and may not or cannot be fetched.
        DataError: the named file is not there, or what was fetched is another one.
    """
    named = request.weights or os.environ.get(WEIGHTS)
    if named:
        if not Path(named).is_file():
            source = "" if request.weights else f", which ${WEIGHTS} names"
            raise DataError(f"There is no weights file {named}{source}.")
        return Path(named)
    kept = cache_folder() / "inception" / _NAME
    if os.access(kept, os.R_OK) and kept.is_file():
        return kept
    if not request.download:
        raise NotAvailable(
            f"Inception's weights are not at hand: put {_NAME} into {kept.parent}, or name it with "
            f"`feature_weights` or ${WEIGHTS}, or let `download` fetch it (91 MB)."
        )
    request.note(f"Fetches Inception's weights (91 MB) from {_ADDRESS} into {kept.parent}, once.")
    _download(kept)
    return kept


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error


def _verified(content: bytes, where: str, expected: list[str]) -> str:
    """Returns the content's SHA-256.

    Raises:
        DataError: it is not among the expected ones.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in expected:
        raise DataError(
            f"{where} has the SHA-256 {sha256} and not {' or '.join(expected)}: replace it, or, "
            "where it is a file of your own that you trust, give its SHA-256 with "
            f"`feature_sha256` or ${WEIGHTS_SHA256}."
        )
    return sha256


def _download(target: Path) -> None:
    """Fetches the known file; it appears under its name when it is complete and verified."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=target.parent) as folder, _impatience():
            fetched = Path(folder) / target.name
            download_url_to_file(_ADDRESS, str(fetched), progress=False)
            sha256 = hashlib.sha256(fetched.read_bytes()).hexdigest()
            if sha256 != SHA256:
                raise DataError(
                    f"{_ADDRESS} gave a file with the SHA-256 {sha256} and not {SHA256}: nothing "
                    "was kept; try again, or from another network."
                )
            fetched.replace(target)
    except (OSError, HTTPException) as error:
        reason = str(getattr(error, "reason", None) or error).removesuffix(".")
        raise NotAvailable(
            f"Inception's weights cannot be fetched from {_ADDRESS} ({reason}): put the file into "
            f"{target.parent} by hand, or name it with `feature_weights` or ${WEIGHTS}."
        ) from error


@contextmanager
def _impatience() -> Iterator[None]:
    """Lets a network that says nothing be an error, for which torch.hub would wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _without_warning(start: str) -> Iterator[None]:
    """Hides the one deprecation whose message starts so: nothing else would do what we need."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", re.escape(start), category)
        yield
