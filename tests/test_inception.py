"""Inception: clean-fid's own features and distance, and weights that are checked before use."""

import hashlib
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoothctl.datasets.pictures import write_png
from smoothctl.errors import DataError, NotAvailable, UsageError
from smoothctl.metrics import inception
from smoothctl.metrics.features import Request
from smoothctl.metrics.frechet import frechet_distance
from smoothctl.metrics.image_sets import ImageSet, open_images
from smoothctl.metrics.inception import Inception
from smoothctl.metrics.resizing import Resize
from smoothctl.rng import generator

NAME = "inception-2015-12-05.pt"


class Tiny(nn.Module):
    """What Inception's file has, with other layers."""

    def __init__(self, width: int, classes: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 9, stride=29), nn.Tanh(), nn.AdaptiveAvgPool2d(1)
        )
        self.output = nn.Linear(width, classes)

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        features = self.layers((img - 128) / 128).reshape(img.shape[0], -1)
        if return_features:
            return features
        if no_output_bias:
            return (features @ self.output.weight.t()).softmax(1)
        return self.output(features).softmax(1)


class Hidden(nn.Module):
    """The same, with a last layer that does not lie where it is looked for."""

    def __init__(self, tiny: Tiny) -> None:
        super().__init__()
        self.layers, self.tiny = tiny.layers, tiny

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        return self.tiny(img, return_features, use_fp16, no_output_bias)


class Temperature(Tiny):
    """Has a last layer, but does something else with it."""

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        features = self.layers((img - 128) / 128).reshape(img.shape[0], -1)
        return (3 * (features @ self.output.weight.t())).softmax(1)


class Other(nn.Module):
    """Some other network."""

    def forward(self, img: Tensor) -> Tensor:
        return img


class NoClasses(Tiny):
    """Gives features whatever it is asked for."""

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        return self.layers(img).reshape(img.shape[0], -1)


def save(module: nn.Module, file: Path) -> str:
    """Writes TorchScript; returns its SHA-256."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        torch.jit.save(torch.jit.script(module.eval()), str(file))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def tiny(width: int = 6) -> Tiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        return Tiny(width)


def images(n: int, channels: int, key: str) -> Tensor:
    """Coarse patches in random colours, uint8 (n, C, 20, 24)."""
    patches = torch.rand(n, channels, 5, 6, generator=generator(key)) * 255
    return patches.repeat_interleave(4, 2).repeat_interleave(4, 3).round().to(torch.uint8)


def resized(images: Tensor) -> Tensor:
    return Resize(299)(images)


def folder(path: Path, n: int, channels: int, key: str) -> Path:
    for i, image in enumerate(images(n, channels, key)):
        write_png(path / f"{i:03}.png", image.numpy())
    return path


def request(file: Path | None, sha256: str | None = None, **rest: Any) -> Request:
    pixels = images(4, 3, "reference")
    reference = ImageSet("some", (3, 20, 24), 4, lambda start, stop: pixels[start:stop])
    return Request(reference, file, sha256, **rest)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A weights file and its hash; nothing else is at hand, and nothing can be fetched."""
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SMOOTHCTL_INCEPTION", raising=False)
    monkeypatch.delenv("SMOOTHCTL_INCEPTION_SHA256", raising=False)
    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: pytest.fail("asked the network"))
    return tmp_path / NAME, save(tiny(), tmp_path / NAME)


class TestAgainstCleanFID:
    """The figures are clean-fid's."""

    @pytest.mark.parametrize("channels", [1, 3])
    def test_features(self, weights, tmp_path: Path, channels: int) -> None:
        from cleanfid.fid import get_folder_features
        from cleanfid.inception_torchscript import InceptionV3W

        file, sha256 = tmp_path / "wide" / NAME, ""
        file.parent.mkdir()
        sha256 = save(tiny(2048), file)
        where = folder(tmp_path / "images", 6, channels, "features")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load`", FutureWarning)
            theirs = InceptionV3W(str(file.parent), download=False)
        options = {"num_workers": 0, "device": torch.device("cpu"), "verbose": False}
        expected = get_folder_features(str(where), theirs, **options)
        found = Inception(request(file, sha256))(open_images(str(where)).read(0, 6)).features
        assert found.shape == (6, 2048)
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-6, atol=1e-7)

    def test_distance(self, weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import scipy.linalg
        from cleanfid import fid

        plain = scipy.linalg.sqrtm
        monkeypatch.setattr(fid.linalg, "sqrtm", lambda a, disp=True: (plain(a), 0.0))
        network = tiny()
        steps = lambda x: network.layers((x - 128) / 128).flatten(1).detach()  # noqa: E731
        folders = [folder(tmp_path / key, 24, 3, key) for key in ("x", "y")]
        ours = Inception(request(*weights))
        features = [ours(open_images(str(path)).read(0, 24)).features for path in folders]
        expected = fid.compare_folders(
            *map(str, folders), steps, "clean", device=torch.device("cpu"), verbose=False
        )
        assert expected > 0
        assert frechet_distance(*features) == pytest.approx(expected, rel=1e-6)


class TestProbabilities:
    """Softmax of the last layer without its bias, in one pass or in two."""

    def test_leave_the_bias_out(self, weights) -> None:
        found = Inception(request(*weights))(images(3, 3, "p")).probabilities
        network = tiny()
        x = resized(images(3, 3, "p"))
        torch.testing.assert_close(found, network(x, no_output_bias=True).detach())
        assert not torch.allclose(found, network(x).detach(), atol=1e-3)
        assert found.shape == (3, 5)

    @pytest.mark.parametrize(("module", "passes"), [(tiny(), 1), (Hidden(tiny()), 2)])
    def test_do_not_depend_on_where_the_layer_lies(self, weights, module, passes) -> None:
        file = weights[0].with_name("other.pt")
        extractor = Inception(request(file, save(module, file)))
        assert (extractor._head is None) == (passes == 2)
        expected = tiny()(resized(images(3, 1, "p")), no_output_bias=True).detach()
        torch.testing.assert_close(extractor(images(3, 1, "p")).probabilities, expected)

    def test_are_the_file_s_own_where_its_layer_is_used_otherwise(self, weights) -> None:
        file, module = weights[0].with_name("other.pt"), Temperature(6)
        extractor = Inception(request(file, save(module, file)))
        expected = module(resized(images(3, 3, "p"))).detach()
        torch.testing.assert_close(extractor(images(3, 3, "p")).probabilities, expected)


class TestWeights:
    """Where the file comes from, and that nothing looks at it before its hash is right."""

    def test_a_wrong_hash_is_told_before_the_file_is_loaded(
        self, weights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("loaded"))
        with pytest.raises(DataError, match=f"{weights[1]} and not {inception.SHA256}"):
            Inception(request(weights[0]))
        with pytest.raises(DataError, match="and not " + "0" * 64):
            Inception(request(weights[0], "0" * 64))
        monkeypatch.setenv("SMOOTHCTL_INCEPTION_SHA256", "1" * 64)
        with pytest.raises(DataError, match=f"{'1' * 64} or {inception.SHA256}"):
            Inception(request(weights[0]))

    def test_no_hash_at_all(self, weights) -> None:
        with pytest.raises(UsageError, match="64 hexadecimal"):
            Inception(request(weights[0], "abc"))

    def test_nowhere(self, weights, tmp_path: Path) -> None:
        with pytest.raises(NotAvailable, match="`feature_weights`") as told:
            Inception(request(None))
        assert str(tmp_path / "cache" / "inception") in str(told.value)

    def test_a_named_file_that_is_not_there(self, weights, monkeypatch) -> None:
        with pytest.raises(DataError, match=r"There is no weights file .*nothing\.pt\."):
            Inception(request(weights[0].with_name("nothing.pt")))
        monkeypatch.setenv("SMOOTHCTL_INCEPTION", "nothing.pt")
        with pytest.raises(DataError, match=r"nothing\.pt, which \$SMOOTHCTL_INCEPTION names"):
            Inception(request(None))

    def test_by_environment_or_cache(self, weights, tmp_path: Path, monkeypatch) -> None:
        file, sha256 = weights
        monkeypatch.setenv("SMOOTHCTL_INCEPTION", str(file))
        monkeypatch.setenv("SMOOTHCTL_INCEPTION_SHA256", sha256.upper())
        by_name = Inception(request(None))
        monkeypatch.delenv("SMOOTHCTL_INCEPTION")
        (tmp_path / "cache" / "inception").mkdir(parents=True)
        file.rename(tmp_path / "cache" / "inception" / NAME)
        assert Inception(request(None)).sha256 == by_name.sha256
        assert by_name.details["weights SHA-256"] == sha256

    def test_the_hash_tells_weights_apart(self, weights) -> None:
        other = weights[0].with_name("other.pt")
        theirs = Inception(request(other, save(tiny(7), other)))
        assert Inception(request(*weights)).sha256 != theirs.sha256

    def test_a_file_that_is_no_torchscript(self, weights) -> None:
        file = weights[0].with_name("no.pt")
        file.write_bytes(b"nothing")
        with pytest.raises(DataError, match=r"no\.pt is no TorchScript"):
            Inception(request(file, hashlib.sha256(b"nothing").hexdigest()))

    @pytest.mark.parametrize(
        ("module", "said"),
        [(Other(), "no TorchScript with the interface"), (NoClasses(6), "no class probabilities")],
    )
    def test_torchscript_of_another_network(self, weights, module, said) -> None:
        file = weights[0].with_name("other.pt")
        with pytest.raises(DataError, match=said):
            Inception(request(file, save(module, file)))

    def test_channels_that_it_cannot_take(self, weights) -> None:
        reference = ImageSet("some", (2, 20, 24), 4, lambda start, stop: images(4, 2, "x"))
        with pytest.raises(NotAvailable, match="1 or 3 channels"):
            Inception(Request(reference, *weights))


class TestDownload:
    """Only when allowed, verified, and all or nothing."""

    @pytest.fixture
    def address(self, weights, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A file that is fetched in place of the true one."""
        from urllib.request import urlopen

        monkeypatch.setattr(torch.hub, "urlopen", urlopen)
        monkeypatch.setattr(inception, "_ADDRESS", weights[0].as_uri())
        monkeypatch.setattr(inception, "SHA256", weights[1])
        return weights[0]

    def test_into_the_cache_once(self, address: Path, tmp_path: Path) -> None:
        told: list[str] = []
        first = Inception(request(None, download=True, note=told.append))
        assert socket.getdefaulttimeout() is None
        address.unlink()
        again = Inception(request(None, download=True, note=told.append))
        assert [file.name for file in (tmp_path / "cache" / "inception").iterdir()] == [NAME]
        assert first.sha256 == again.sha256
        assert len(told) == 1

    def test_something_else_is_not_kept(self, address: Path, tmp_path: Path) -> None:
        address.write_bytes(b"an error page")
        with pytest.raises(DataError, match="nothing was kept"):
            Inception(request(None, download=True))
        assert not any((tmp_path / "cache" / "inception").iterdir())

    def test_an_address_that_cannot_be_reached(self, address: Path, tmp_path: Path) -> None:
        address.unlink()
        with pytest.raises(NotAvailable, match="cannot be fetched .* by hand"):
            Inception(request(None, download=True))
        assert not any((tmp_path / "cache" / "inception").iterdir())
