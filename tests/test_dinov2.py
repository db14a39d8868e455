"""DINOv2's features, of a tiny network with random weights: contract, pipeline, and damage."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from smoothctl.errors import DataError, NotAvailable
from smoothctl.metrics.dinov2 import DINOv2
from smoothctl.metrics.features import Request
from smoothctl.metrics.image_sets import of_tensor
from smoothctl.rng import generator
from smoothctl.testing import CommandLine, FeaturesContract

transformers = pytest.importorskip("transformers", reason="pip install 'smoothctl[dinov2]'")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov2")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=518, patch_size=14
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _at_hand(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOOTHCTL_DINOV2", str(weights))


class TestDINOv2(FeaturesContract):
    features_class = DINOv2


class TestDINOv2OfColour(FeaturesContract):
    features_class = DINOv2
    shape = (3, 9, 8)
    count = 24


def request(weights: Path | None = None, sha256: str | None = None) -> Request:
    images = torch.rand(4, 3, 10, 10, generator=generator("images")) * 2 - 1
    return Request(of_tensor("some", images), weights, sha256)


def test_the_pipeline_is_that_of_the_paper(weights: Path) -> None:
    """Pillow, ImageNet's mean and deviation, transformers' network, its class token."""
    image = (torch.rand(3, 12, 10, generator=generator("one")) * 255).round().to(torch.uint8)
    planes = [
        np.asarray(Image.fromarray(plane.numpy().astype(np.float32)).resize((224, 224), 3))
        for plane in image
    ]
    x = torch.from_numpy(np.stack(planes)).clip(0, 255) / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    network = transformers.Dinov2Model.from_pretrained(weights).eval()
    with torch.no_grad():
        expected = network(((x - mean) / deviation)[None]).pooler_output
    found = DINOv2(request())(image[None]).features
    assert torch.allclose(found, expected, atol=1e-5)


def test_weights_that_are_wrong_are_said(weights: Path, tmp_path: Path) -> None:
    for change, said in (
        ({"model_type": "bert"}, "is of 'bert'"),
        ({"hidden_size": 24}, "holds no DINOv2 network"),
        ({"num_hidden_layers": "many"}, "holds no DINOv2 network"),
    ):
        settings = {**json.loads((weights / "config.json").read_text()), **change}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        save_file(load_file(weights / "model.safetensors"), tmp_path / "model.safetensors")
        with pytest.raises(DataError, match=said):
            DINOv2(request(tmp_path))
    with pytest.raises(DataError, match=r"no config\.json"):
        DINOv2(request(tmp_path / "none"))
    with pytest.raises(DataError, match="SHA-256"):
        DINOv2(request(weights, "0" * 64))


def test_without_weights_it_says_where_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMOOTHCTL_DINOV2")
    with pytest.raises(NotAvailable, match="feature_weights"):
        DINOv2(request())


@pytest.mark.slow
def test_images_are_judged_by_it(weights: Path, cli: CommandLine) -> None:
    images = torch.randint(0, 255, (24, 1, 8, 8), generator=generator("judged"), dtype=torch.uint8)
    np.save("some.npy", images.numpy())
    options = ("--reference", "digits", "--features", "dinov2", "--feature-weights", weights)
    out = json.loads(cli.output("score", "some.npy", *options, "--json"))
    assert out["features"] == "dinov2"
    assert out["rows"][-1]["frechet_distance"] > 0
