"""Every model opens, draws images, is what its card says, and is as good as it was."""

import hashlib
from pathlib import Path

import pytest
import torch

from smoothctl.evaluation.likelihood import bounds, gain_estimate
from smoothctl.rng import generator
from smoothctl.runs.packaged import PackagedModel, registry
from smoothctl.runs.run import load_run
from smoothctl.storage.weights import read_weights

MODELS = [entry.name for entry in registry.entries() if entry.package == "smoothctl-zoo"]
MNIST = Path(__file__).parents[3].parent / "shared/data/mnist/mnist"
MEGABYTES = 12


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> str:
    """Each model's name, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return str(request.param)


@pytest.fixture
def model(name: str) -> PackagedModel:
    """Each model, as it is installed."""
    return registry.load(name)


def test_there_are_models() -> None:
    assert "mnist-two-step" in MODELS


def test_the_card_names_licence_hashes_and_the_commands_that_refit(model: PackagedModel) -> None:
    card = (model.folder / "README.md").read_text(encoding="utf-8")
    assert model.licence
    assert "licence" in card
    for stage in model.stages():
        content = (model.folder / stage / "model.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() in card
        assert f"smoothctl fit-{stage} " in card


def test_weights_are_halves_and_small(model: PackagedModel) -> None:
    for stage in model.stages():
        tensors, _ = read_weights(model.folder / stage / "model.safetensors")
        assert {x.dtype for x in tensors.values() if x.is_floating_point()} == {torch.float16}
    files = [path for path in model.folder.parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MEGABYTES * 1e6


def test_it_draws_images_of_its_data_s_kind(name: str) -> None:
    method = load_run(name).two_step()
    assert method is not None
    x = method.sample(2, generator=generator(0, "zoo"))
    assert x.shape[1:] == method.prior.event_shape
    assert x.abs().max() <= 1
    assert torch.allclose((x + 1) * 127.5, ((x + 1) * 127.5).round(), atol=1e-3)


def test_from_an_empty_folder_to_pictures(name: str, cli) -> None:
    """Samples of every stage, and what is made of the examples that go along."""
    cli.output("sample", name, "-n", "2", "--method", "all")
    examples = f"runs/{name}/examples.npz"
    cli.output("inpaint", examples, name, "-n", "2", "--draws", "1")
    cli.output("denoise", examples, name, "--add-noise", "-n", "2", "--draws", "1")
    assert len(list(Path(f"runs/{name}/samples").glob("*.png"))) == 3


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"there is no MNIST in {MNIST}")
def test_mnist_is_as_good_as_it_was(tmp_path: Path, monkeypatch) -> None:
    """Bits/dim of the first 32 test images, which a model of another scale or grid would miss."""
    monkeypatch.chdir(tmp_path)
    run = load_run("mnist-two-step", dataset=str(MNIST))
    method, x = run.two_step(), run.dataset().test.head(32)
    assert method is not None
    estimates, _ = bounds("two-step", method, x, 1, seed=0)
    assert estimates[0].bits_per_dim == pytest.approx(1.06, abs=0.03)
    gain = gain_estimate("two-step", method, x, seed=0)
    assert gain is not None
    assert gain.bits_per_dim is not None
    assert gain.bits_per_dim > 1
