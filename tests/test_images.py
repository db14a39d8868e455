"""Images from every kind of source: the same pixels, decoded once, with one sentence on failure."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smoothctl import datasets
from smoothctl.datasets.base import Dataset
from smoothctl.datasets.pixels import open_image, to_array
from smoothctl.errors import DataError, NotAvailable, RunError, UsageError
from smoothctl.metrics.sigma import sigma_heuristic
from smoothctl.runs.config import StageConfig
from smoothctl.runs.run import load_run

MNIST = Path(__file__).parents[2] / "shared/data/mnist"
N = 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/images"


@pytest.fixture
def grey() -> np.ndarray:
    """Forty grey 6×6 images; the first pixel is the number of the image."""
    return _images((N, 6, 6))


def _images(shape: tuple[int, ...]) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images[:, 0, 0] = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 3))
    return images


def _folder(root: Path, images: np.ndarray, names: Callable[[int], str] = "{:03d}.png".format):
    for number, image in enumerate(images):
        path = root / names(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def _everything(data: Dataset) -> np.ndarray:
    """All stored images as bytes, sorted by their first pixel: (n, C, H, W)."""
    x = torch.cat([view.head() for view in (data.train, data.validation, data.test)])
    pixels = ((x + 1) * 127.5).round().byte().numpy()
    return pixels[np.argsort(pixels[:, 0, 0, 0], kind="stable")]


class TestSources:
    """A folder, a table and an array of the same images are the same dataset."""

    def test_folder(self, tmp_path: Path, grey: np.ndarray) -> None:
        data = datasets.open_dataset(str(_folder(tmp_path / "pics", grey)))
        assert (data.domain, data.levels, data.event_shape) == ("image", 256, (1, 6, 6))
        assert [len(v) for v in (data.train, data.validation, data.test)] == [32, 4, 4]
        assert (_everything(data)[:, 0] == grey).all()
        assert data.classes is None
        assert data.slug == "pics"
        with pytest.raises(NotAvailable):
            data.train.head_labels()

    def test_values_are_v_over_half_minus_one(self, tmp_path: Path) -> None:
        images = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (20, 1, 1))
        np.save(tmp_path / "a.npy", images)
        x = datasets.open_dataset(str(tmp_path / "a.npy")).train.head(1).flatten()
        assert x.dtype == torch.float32
        assert torch.equal(x, torch.arange(256.0) / 127.5 - 1)

    def test_split_folders_and_classes(self, tmp_path: Path, grey: np.ndarray) -> None:
        for split, images in (("train", grey), ("Test", grey[:9])):
            _folder(tmp_path / "pics" / split, images, lambda i: f"{'ab'[i % 2]}/x/{i:03d}.png")
        data = datasets.open_dataset(str(tmp_path / "pics"))
        assert (len(data.test), data.classes) == (9, 2)
        numbers = ((data.test.head()[:, 0, 0, 0] + 1) * 127.5).round().long()
        assert torch.equal(data.test.head_labels(), numbers % 2)

    @pytest.mark.parametrize("layout", ["nhw", "nhwc", "nchw", "n1hw"])
    def test_arrays(self, tmp_path: Path, layout: str) -> None:
        images = _images((N, 6, 5, 3)) if layout in ("nhwc", "nchw") else _images((N, 6, 5))
        channels_first = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        stored = np.ascontiguousarray(images if layout in ("nhw", "nhwc") else channels_first)
        np.savez(tmp_path / "a.npz", x_train=stored, x_test=stored[:3], y_train=np.arange(N) % 7)
        data = datasets.open_dataset(str(tmp_path / "a.npz"))
        assert data.event_shape == channels_first.shape[1:]
        assert len(data.test) == 3
        assert data.classes is None
        seen = torch.cat([data.train.head(), data.validation.head()])
        pixels = ((seen + 1) * 127.5).round().byte().numpy()
        assert (pixels[np.argsort(pixels[:, 0, 0, 0])] == channels_first).all()

    def test_labels_of_arrays(self, tmp_path: Path, grey: np.ndarray) -> None:
        np.savez(tmp_path / "a.npz", images=grey, labels=np.arange(N)[:, None] % 7)
        assert datasets.open_dataset(str(tmp_path / "a.npz")).classes == 7
        np.savez(tmp_path / "b.npz", images=grey, labels=np.arange(3))
        with pytest.raises(DataError, match="must be 40 whole numbers"):
            datasets.open_dataset(str(tmp_path / "b.npz"))

    @pytest.mark.parametrize("kind", ["folder", "file", "glob", "arrow", "save_to_disk"])
    def test_tables(self, tmp_path: Path, grey: np.ndarray, kind: str) -> None:
        hub = pytest.importorskip("datasets")
        features = hub.Features({"picture": hub.Image(), "kind": hub.ClassLabel(names=["a", "b"])})
        rows = {"picture": list(map(Image.fromarray, grey)), "kind": [i % 2 for i in range(N)]}
        table = hub.Dataset.from_dict(rows, features)
        folder = tmp_path / "table"
        folder.mkdir()
        if kind == "save_to_disk":
            hub.DatasetDict({"train": table}).save_to_disk(folder)
        elif kind == "arrow":
            table.save_to_disk(folder)
        else:
            table.to_parquet(folder / "train-00000-of-00001.parquet")
            if kind == "folder":
                table.select(range(5)).to_parquet(folder / "test-00000-of-00001.parquet")
        name = {
            "file": folder / "train-00000-of-00001.parquet",
            "glob": folder / "*.parquet",
        }.get(kind, folder)
        data = datasets.open_dataset(str(name))
        assert data.classes == 2
        assert "*" not in data.slug
        if kind == "folder":
            assert len(data.test) == 5
        else:
            assert (_everything(data)[:, 0] == grey).all()

    def test_columns(self, tmp_path: Path, grey: np.ndarray) -> None:
        hub = pytest.importorskip("datasets")
        pictures = list(map(Image.fromarray, grey))
        features = hub.Features({"a": hub.Image(), "b": hub.Image(), "label": hub.Value("int64")})
        rows = {"a": pictures, "b": pictures[::-1], "label": list(range(N))}
        path = tmp_path / "t.parquet"
        hub.Dataset.from_dict(rows, features).to_parquet(path)
        with pytest.raises(DataError, match="columns of images .*`data.column=NAME`"):
            datasets.open_dataset(str(path))
        data = datasets.open_dataset(str(path), {"column": "b"})
        numbers = ((data.train.head()[:, 0, 0, 0] + 1) * 127.5).round().long()
        assert torch.equal(data.train.head_labels(), N - 1 - numbers)
        with pytest.raises(UsageError, match="no column 'c'"):
            datasets.open_dataset(str(path), {"column": "c"})

    def test_a_registered_name_goes_before_a_folder(self, in_tmp: Path, grey: np.ndarray) -> None:
        _folder(Path("digits"), grey)
        _folder(Path("owner/name"), grey)
        assert datasets.open_dataset("digits").levels == 17
        assert datasets.open_dataset("./digits").levels == 256
        assert datasets.open_dataset("owner/name").levels == 256
        assert datasets.canonical_name("digits") == "digits"
        assert datasets.canonical_name("owner/name") == str(Path("owner/name").absolute())
        assert datasets.canonical_name("owner/other") == "owner/other"


class TestPixels:
    """Every mode of Pillow becomes grey or RGB bytes."""

    @pytest.mark.parametrize(
        ("mode", "kind", "channels", "value"),
        [
            ("1", "png", 1, 255), ("L", "png", 1, 200), ("P", "gif", 3, 204),
            ("RGB", "bmp", 3, 200), ("CMYK", "tiff", 3, 200), ("RGBA", "png", 3, 200),
            ("LA", "png", 1, 200), ("I;16", "png", 1, 200), ("I", "tiff", 1, 200),
        ],
    )  # fmt: skip
    def test_modes(self, mode: str, kind: str, channels: int, value: int) -> None:
        if mode in ("I;16", "I"):
            wide = np.full((4, 4), 200 * 257, np.uint16 if mode == "I;16" else np.int32)
            image = Image.fromarray(wide)
        else:
            image = Image.new("RGB", (4, 4), (value,) * 3).convert(mode)
        file = io.BytesIO()
        image.save(file, kind)
        opened = open_image(file.getvalue())
        assert opened.mode == ("L" if channels == 1 else "RGB")
        assert (to_array(opened, channels) == value).all()

    def test_transparent_pixels_lie_on_white(self) -> None:
        file = io.BytesIO()
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(file, "png")
        assert (to_array(open_image(file.getvalue()), 3) == 255).all()

    def test_the_first_frame_of_an_animation(self) -> None:
        frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
        file = io.BytesIO()
        frames[0].save(file, "webp", save_all=True, append_images=frames[1:], lossless=True)
        assert (to_array(open_image(file.getvalue()), 1) == 10).all()

    def test_grey_and_colour_together_are_colour(self, tmp_path: Path, grey: np.ndarray) -> None:
        root = _folder(tmp_path / "pics", grey)
        Image.new("RGB", (6, 6), (9, 0, 0)).save(root / "zzz.png")
        assert datasets.open_dataset(str(root)).event_shape == (3, 6, 6)
        data = datasets.open_dataset(str(root), {"grey": True})
        assert data.event_shape == (1, 6, 6)
        assert datasets.open_dataset(str(root), {"grey": False}).event_shape == (3, 6, 6)

    def test_crop_and_size(self, tmp_path: Path) -> None:
        images = np.zeros((20, 12, 10), np.uint8)
        images[:, 4:8, 3:7] = 255
        root = _folder(tmp_path / "pics", images)
        opened = [datasets.open_dataset(str(root), o) for o in ({"crop": 4}, {"size": 5})]
        assert [data.event_shape for data in opened] == [(1, 4, 4), (1, 5, 5)]
        assert (opened[0].train.head() == 1).all()
        assert opened[0].fingerprint != opened[1].fingerprint
        assert dict(opened[0].options) == {"crop": 4}
        with pytest.raises(DataError, match="10×12, smaller than crop=11"):
            datasets.open_dataset(str(root), {"crop": 11})

    def test_unequal_sizes_name_two(self, tmp_path: Path, grey: np.ndarray) -> None:
        root = _folder(tmp_path / "pics", grey)
        Image.new("L", (7, 9)).save(root / "odd.png")
        with pytest.raises(DataError, match=r"000\.png is 6×6 .*odd\.png is 7×9.*size=32"):
            datasets.open_dataset(str(root))
        assert datasets.open_dataset(str(root), {"size": 6}).event_shape == (1, 6, 6)


class TestViews:
    """Orders, labels and mirror images are functions of seed, epoch and position."""

    @pytest.fixture
    def path(self, tmp_path: Path, grey: np.ndarray) -> str:
        np.savez(tmp_path / "a.npz", images=grey, labels=np.arange(N))
        return str(tmp_path / "a.npz")

    def test_labels_go_with_the_images(self, path: str) -> None:
        view = datasets.open_dataset(path).train
        numbers = ((view.batch(3, 1, 5, 20)[:, 0, 0, 0] + 1) * 127.5).round().long()
        assert torch.equal(view.labels(3, 1, 5, 20), numbers)
        assert torch.equal(view.rows(torch.tensor([4, 2])), view.head()[[4, 2]])
        assert torch.equal(view.head_labels(3), view.head_labels()[:3])

    def test_an_epoch_is_a_permutation(self, path: str) -> None:
        view = datasets.open_dataset(path).train
        epochs = [view.labels(0, epoch, 0, len(view)) for epoch in (0, 1)]
        assert not torch.equal(*epochs)
        assert torch.equal(*(epoch.sort().values for epoch in epochs))

    def test_mirrored_whatever_the_batches_are(self, path: str) -> None:
        data = datasets.open_dataset(path, {"flip": True})
        plain = datasets.open_dataset(path)
        whole = data.train.batch(1, 2, 0, N)
        parts = [data.train.batch(1, 2, i, i + 7) for i in range(0, N, 7)]
        assert torch.equal(whole, torch.cat(parts))
        straight = plain.train.batch(1, 2, 0, N)
        kept = (whole == straight).flatten(1).all(1)
        assert torch.equal(whole[~kept], straight[~kept].flip(-1))
        assert 5 < int(kept.sum()) < 27
        assert not torch.equal(
            kept, (data.train.batch(1, 3, 0, N) == plain.train.batch(1, 3, 0, N)).flatten(1).all(1)
        )
        for view, other in ((data.validation, plain.validation), (data.test, plain.test)):
            assert torch.equal(view.batch(1, 2, 0, 4), other.batch(1, 2, 0, 4))
        assert torch.equal(data.train.head(), plain.train.head())
        assert data.fingerprint == plain.fingerprint

    def test_images_are_read_from_the_disk(self, path: str) -> None:
        stored = datasets.open_dataset(path).train._part.images[:3]
        assert isinstance(stored.base.base, np.memmap)


class TestCache:
    """Decoded once; damaged or half-written files are never used."""

    @pytest.fixture
    def root(self, tmp_path: Path, grey: np.ndarray) -> Path:
        return _folder(tmp_path / "pics", grey)

    def test_reused_until_the_files_change(self, root: Path, cache: Path) -> None:
        said: list[str] = []
        first = datasets.open_dataset(str(root), note=said.append)
        again = datasets.open_dataset(str(root), note=said.append)
        assert len(said) == 1
        assert "Decodes the images of" in said[0]
        assert torch.equal(first.train.head(), again.train.head())
        Image.new("L", (6, 6), 77).save(root / "000.png")
        changed = datasets.open_dataset(str(root))
        assert changed.fingerprint != first.fingerprint
        assert len(list(cache.iterdir())) == 2

    @pytest.mark.parametrize(
        "damage", ["cut", "index", "deep", "old", "gone", "pipe", "link", "labels", "files"]
    )
    def test_rebuilt_when_damaged(self, root: Path, cache: Path, damage: str) -> None:
        for split in ("train", "test"):
            _folder(root / split, _images((N, 6, 6)), lambda i: f"{'ab'[i % 2]}/{i}.png")
        before = datasets.open_dataset(str(root))
        folder = next(cache.iterdir())
        images, labels, files = (folder / f"train.{n}" for n in ("images", "labels", "files"))
        index = folder / "index.json"
        written = json.loads(index.read_text())
        written.pop("check")
        how: dict[str, Callable[[], object]] = {
            "cut": lambda: images.write_bytes(images.read_bytes()[:-1]),
            "index": lambda: index.write_text("{"),
            "deep": lambda: index.write_text("[" * 100_000),
            "old": lambda: index.write_text(json.dumps({**written, "format": 1})),
            "gone": images.unlink,
            "link": lambda: (images.unlink(), images.symlink_to("nowhere")),
            "pipe": lambda: (labels.unlink(), os.mkfifo(labels)),
            "labels": lambda: labels.write_bytes(labels.read_bytes()[::-1]),
            "files": lambda: files.write_bytes(files.read_bytes()[::-1]),
        }
        how[damage]()
        said: list[str] = []
        after = datasets.open_dataset(str(root), note=said.append)
        assert said == [
            f"Decodes the images of {root} into {folder}, again, as what is there is damaged."
        ]
        assert after.fingerprint == before.fingerprint
        assert torch.equal(after.test.head_labels(), before.test.head_labels())
        assert images.stat().st_size == N * 36
        assert [path.name for path in cache.iterdir()] == [folder.name]

    @pytest.mark.parametrize("when", ["before", "while"])
    def test_pixels_that_are_damaged_are_decoded_again(
        self, root: Path, cache: Path, when: str
    ) -> None:
        whole = datasets.open_dataset(str(root))
        expected, batch = whole.train.head(), whole.train.batch(1, 2, 0, 9)
        images = next(cache.iterdir()) / "whole.images"
        wrong = bytes(byte ^ 255 for byte in images.read_bytes())
        if when == "before":
            images.write_bytes(wrong)
        said: list[str] = []
        data = datasets.open_dataset(str(root), note=said.append)
        if when == "while":
            images.write_bytes(wrong)
        views = (data.test, data.train, data.validation)
        shown = [view.rows(torch.tensor([1])) for view in views]
        assert torch.equal(shown[1], expected[1:2])
        assert torch.equal(data.train.batch(1, 2, 0, 9), batch)
        assert len(said) == 1
        assert "again, as what is there is damaged" in said[0]
        assert images.read_bytes() != wrong

    def test_each_byte_of_the_index_counts(self, root: Path, cache: Path) -> None:
        before = datasets.open_dataset(str(root))
        index = next(cache.iterdir()) / "index.json"
        content = index.read_bytes()
        for at in range(0, len(content), 29):
            index.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            after = datasets.open_dataset(str(root))
            assert (after.fingerprint, after.classes) == (before.fingerprint, before.classes)
            assert torch.equal(after.test.head(), before.test.head())

    def test_damaged_pixels_of_images_that_changed_end_in_a_sentence(
        self, root: Path, cache: Path
    ) -> None:
        data = datasets.open_dataset(str(root))
        images = next(cache.iterdir()) / "whole.images"
        images.write_bytes(bytes(N * 36))
        Image.new("L", (6, 6), 77).save(root / "000.png")
        with pytest.raises(DataError, match="have changed while they were in use: run the same"):
            data.train.head()

    def test_a_fit_to_a_damaged_cache_is_the_same_fit(self, cli, root: Path, cache: Path) -> None:
        small = ["--steps", "2", "--batch-size", "4", "--sigma", "0.3", "--dataset", root]
        small += ["--set", "filters=4", "--set", "blocks=1", "--device", "cpu"]
        assert cli("fit-prior", *small, "--out", "a")[0] == 0
        images = next(cache.iterdir()) / "whole.images"
        images.write_bytes(bytes(byte ^ 255 for byte in images.read_bytes()))
        code, _, err = cli("fit-prior", *small, "--out", "b")
        assert code == 0
        assert "as what is there is damaged" in err
        weights = [Path(out, "prior/model.safetensors").read_bytes() for out in "ab"]
        assert weights[0] == weights[1]

    def test_nothing_is_left_after_a_failure(self, root: Path, cache: Path) -> None:
        (root / "bad.png").write_bytes(b"nothing")
        with pytest.raises(DataError, match=r"bad\.png cannot be decoded"):
            datasets.open_dataset(str(root))
        assert list(cache.iterdir()) == []

    def test_abandoned_files_are_removed(self, root: Path, cache: Path) -> None:
        for name, age in ((".old.1.tmp", 10**6), (".new.1.tmp", 0), (".long.1.tmp", 10**6)):
            (cache / name).mkdir(parents=True)
            if name == ".long.1.tmp":
                (cache / name / "whole.images").write_text("still being written")
            then = (cache / name).stat().st_mtime - age
            os.utime(cache / name, (then, then))
        datasets.open_dataset(str(root))
        assert sorted(p.name for p in cache.glob(".*")) == [".long.1.tmp", ".new.1.tmp"]

    def test_what_is_another_user_s_stays(self, root: Path, cache: Path, monkeypatch) -> None:
        datasets.open_dataset(str(root))
        (cache / ".old.1.tmp").mkdir()
        os.utime(cache / ".old.1.tmp", (0, 0))
        index = next(cache.glob("*/index.json"))
        index.write_text("{")
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        with pytest.raises(DataError, match=r"are damaged: let their owner .*\$SMOOTHCTL_CACHE"):
            datasets.open_dataset(str(root))
        other = datasets.open_dataset(str(root), {"size": 4})
        assert other.event_shape == (1, 4, 4)
        assert index.read_text() == "{"
        assert (cache / ".old.1.tmp").exists()

    def test_a_cache_that_cannot_be_written(self, root: Path, monkeypatch, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path / "file"))
        with pytest.raises(DataError, match=r"Cannot keep decoded images .*\$SMOOTHCTL_CACHE"):
            datasets.open_dataset(str(root))

    def test_a_full_disk(self, root: Path, monkeypatch, cache: Path) -> None:
        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(DataError, match="No space left on device.*free space"):
                datasets.open_dataset(str(root))
        assert list(cache.iterdir()) == []

    @pytest.mark.slow
    def test_two_processes_at_once(self, root: Path, cache: Path) -> None:
        code = (
            "import sys\nfrom smoothctl.datasets import open_dataset\n"
            "sys.stdin.readline()\nprint(open_dataset(sys.argv[1]).fingerprint)"
        )
        command = [sys.executable, "-c", code, str(root)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        children = [subprocess.Popen(command, **pipes) for _ in range(2)]
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        prints = {child.communicate(timeout=120)[0] for child in children}
        assert all(child.returncode == 0 for child in children)
        assert prints == {f"{datasets.open_dataset(str(root)).fingerprint}\n"}
        assert len(list(cache.iterdir())) == 1

    def test_the_loser_uses_the_winner_s(self, root: Path, cache: Path, monkeypatch) -> None:
        from smoothctl.datasets import image_cache

        decode = image_cache.decode

        def slow(*given) -> dict:
            monkeypatch.setattr(image_cache, "decode", decode)
            datasets.open_dataset(str(root))
            return decode(*given)

        monkeypatch.setattr(image_cache, "decode", slow)
        datasets.open_dataset(str(root))
        assert len(list(cache.iterdir())) == 1


class TestCorrupt:
    """One sentence that names the image, or a count of those left out."""

    @pytest.mark.parametrize("kind", ["text", "cut", "empty", "bomb"])
    def test_files(self, tmp_path: Path, grey: np.ndarray, kind: str, monkeypatch) -> None:
        root = _folder(tmp_path / "pics", np.kron(grey, np.ones((1, 4, 4), np.uint8)))
        bad = root / "017.png"
        content = {"text": b"no image", "cut": bad.read_bytes()[:-60], "empty": b""}
        bad.write_bytes(content.get(kind, bad.read_bytes()))
        if kind == "bomb":
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 24)
            Image.new("L", (30, 30)).save(bad)
        with pytest.raises(DataError, match=r"017\.png cannot be decoded .*`skip_corrupt`"):
            datasets.open_dataset(str(root))
        for _ in range(2):
            said: list[str] = []
            data = datasets.open_dataset(str(root), {"skip_corrupt": True}, said.append)
            assert f"Leaves out 1 of {N} images" in said[-1]
        assert sum(map(len, (data.train, data.validation, data.test))) == N - 1

    def test_rows(self, tmp_path: Path, grey: np.ndarray, cache: Path) -> None:
        hub = pytest.importorskip("datasets")
        stored = []
        for image in grey:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "png")
            stored.append({"bytes": file.getvalue(), "path": None})
        stored[7]["bytes"] = b"nothing"
        table = hub.Dataset.from_dict({"image": stored}, hub.Features({"image": hub.Image()}))
        table.to_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"Row 7 of .*a\.parquet \[whole\] cannot be decoded"):
            datasets.open_dataset(str(tmp_path / "a.parquet"))
        datasets.open_dataset(str(tmp_path / "a.parquet"), {"skip_corrupt": True})
        index = json.loads((next(cache.iterdir()) / "index.json").read_text())
        assert index["splits"]["whole"]["skipped"] == 1
        stored[7] = None
        table = hub.Dataset.from_dict({"image": stored}, hub.Features({"image": hub.Image()}))
        table.to_parquet(tmp_path / "b.parquet")
        with pytest.raises(DataError, match=r"Row 7 of .*b\.parquet.*the image is missing"):
            datasets.open_dataset(str(tmp_path / "b.parquet"))

    def _bad(self, path: Path, kind: str, images: np.ndarray) -> Path:
        writers: dict[str, Callable[[], object]] = {
            "float.npy": lambda: np.save(path, images / 255),
            "channels.npy": lambda: np.save(path, np.zeros((30, 5, 5, 2), np.uint8)),
            "fortran.npy": lambda: np.save(path, np.asfortranarray(images)),
            "few.npy": lambda: np.save(path, images[:5]),
            "two.npz": lambda: np.savez(path, left=images, right=images),
            "cut.npy": lambda: (np.save(path, images), os.truncate(path, path.stat().st_size - 9)),
            "flat.npz": lambda: _damage(path, images),
            "cut.parquet": lambda: path.write_bytes(b"PAR1 nothing PAR1"),
            "none": path.mkdir,
            "missing/pictures/here": lambda: None,
        }
        writers[kind]()
        return path

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("float.npy", "must hold 8-bit images"),
            ("channels.npy", "1 or 3 channels"),
            ("fortran.npy", "Fortran order"),
            ("few.npy", "at least 20"),
            ("two.npz", "left, right"),
            ("cut.npy", "is damaged"),
            ("flat.npz", "is damaged"),
            ("cut.parquet", "cannot be loaded|could not be reached"),
            ("none", "holds no images"),
            ("missing/pictures/here", "There is no file or folder"),
        ],
    )
    def test_bad_data_get_a_sentence(
        self, tmp_path: Path, grey: np.ndarray, kind: str, message: str
    ) -> None:
        with pytest.raises(DataError, match=message) as caught:
            datasets.open_dataset(str(self._bad(tmp_path / kind, kind, grey)))
        assert "\n" not in str(caught.value)


def _damage(path: Path, images: np.ndarray) -> None:
    np.savez(path, train=images, test=images)
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(bytes(content))


class TestDigits:
    """scikit-learn's digits, without scikit-learn."""

    def test_equal_to_scikit_learn_s(self) -> None:
        theirs = pytest.importorskip("sklearn.datasets").load_digits()
        data = datasets.open_dataset("digits")
        views = (data.train, data.validation, data.test)
        assert [len(view) for view in views] == [1296, 144, 357]
        ours = torch.cat([((v.head() + 1) * 8).flatten(1) for v in views])
        rows = torch.cat([ours, torch.cat([v.head_labels() for v in views])[:, None]], 1)
        expected = np.c_[theirs.data, theirs.target]
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.tolist()))
        assert (data.levels, data.classes, data.event_shape) == (17, 10, (1, 8, 8))

    def test_has_no_settings(self) -> None:
        with pytest.raises(UsageError, match="digits has no settings: leave out size"):
            datasets.open_dataset("digits", {"size": 4})


class TestMNIST:
    """The whole of it, as on the hub."""

    def test_shapes_labels_and_sigma(self) -> None:
        if not MNIST.is_dir():
            pytest.skip(f"MNIST is not in {MNIST}")
        data = datasets.open_dataset(str(MNIST))
        views = (data.train, data.validation, data.test)
        assert [len(view) for view in views] == [55_000, 5_000, 10_000]
        assert (data.event_shape, data.classes) == ((1, 28, 28), 10)
        assert data.test.head_labels(5).tolist() == [7, 2, 1, 0, 4]
        mean = (data.test.head(2000).mean().item() + 1) / 2
        assert mean == pytest.approx(0.13, abs=0.01)
        estimate = sigma_heuristic(data)
        assert estimate.sigma == pytest.approx(0.365, abs=0.002)


class TestHub:
    """Names of the hub say what would serve without it."""

    @pytest.mark.parametrize("name", ["mnist", "celeba", "owner/name"])
    def test_offline(self, name: str, monkeypatch) -> None:
        hub = pytest.importorskip("datasets")
        monkeypatch.setattr(hub.config, "HF_HUB_OFFLINE", True)
        with pytest.raises(DataError, match="could not be reached .*`dataset=FOLDER`") as caught:
            datasets.open_dataset(name)
        assert "\n" not in str(caught.value)

    def test_a_hub_dataset(self, monkeypatch, grey: np.ndarray) -> None:
        """What load_dataset gives is decoded, split and named."""
        hub = pytest.importorskip("datasets")
        features = hub.Features({"img": hub.Image(), "label": hub.ClassLabel(num_classes=4)})
        rows = {"img": list(map(Image.fromarray, grey)), "label": [i % 4 for i in range(N)]}
        table = hub.Dataset.from_dict(rows, features)
        splits = hub.DatasetDict({"train": table, "valid": table.select(range(4)), "extra": table})
        monkeypatch.setattr(hub, "load_dataset", lambda *_: splits)
        data = datasets.open_dataset("owner/name")
        assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 4)
        assert data.slug == "owner-name"
        named = datasets.open_dataset("cifar10", {"size": 4})
        assert (named.name, named.event_shape, named.suggested_sigma) == ("cifar10", (1, 4, 4), 0.3)
        assert not named.train._flip
        monkeypatch.setattr(hub, "load_dataset", lambda *_: {"a": table, "b": table})
        with pytest.raises(DataError, match="no split train; its splits are a, b"):
            datasets.open_dataset("owner/name")


class TestCommands:
    """Settings of the data on the command line and in the run folder."""

    def test_sigma_heuristic(self, cli, grey: np.ndarray) -> None:
        (_folder(Path("pics"), grey) / "bad.png").write_bytes(b"")
        given = ["sigma-heuristic", "--dataset", "pics", "--data", "size=4", "--json"]
        assert cli(*given)[0] == 1
        code, out, err = cli(*given, "--skip-corrupt")
        assert code == 0
        assert json.loads(out)["sigma"] > 0
        assert "Leaves out 1 of 41" in err

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["--dataset", "rings", "--data", "size=4"], 2, "rings has no settings"),
            (["--dataset", "pics", "--data", "sise=4"], 2, "did you mean size"),
            (["--dataset", "pics", "--data", "size=-4"], 2, "setting 'size' is wrong"),
            (["--dataset", "pics", "--data", "size"], 2, "--data takes KEY=VALUE"),
            (["--dataset", "pics", "--data", "size=4", "--data", "size=5"], 2, "given twice"),
        ],
    )
    def test_bad_settings(
        self, cli, grey: np.ndarray, arguments: list[str], code: int, message: str
    ) -> None:
        _folder(Path("pics"), grey)
        result = cli("sigma-heuristic", *arguments)
        assert result[0] == code
        assert message in result[2]

    def test_fitting(self, cli, grey: np.ndarray) -> None:
        """The denoiser takes the prior's settings; the run folder opens the same data."""
        _folder(Path("pics"), grey)
        small = ["--steps", "1", "--batch-size", "4", "--device", "cpu", "--sigma", "0.3"]
        small += ["--set", "filters=4", "--set", "blocks=1"]
        given = ["--dataset", "pics", "--data", "size=8", "--data", "flip=true"]
        code, _, err = cli("fit-prior", *given, *small)
        assert code == 0, err
        assert "Fits pixelcnnpp to" in err
        run = Path("runs/pics-pixelcnnpp")
        config = (run / "prior/config.toml").read_text()
        assert "[data]\nsize = 8 # command line\nflip = true # command line\n" in config
        result = cli("fit-denoiser", "--data", "size=4", *small)
        assert result[0] == 1
        assert "The denoiser's data ({'size': 4}) is not its prior's" in result[2]
        code, _, err = cli("fit-denoiser", *small)
        assert code == 0, err
        assert "size = 8 # prior" in (run / "denoiser/config.toml").read_text()
        data = load_run(run).dataset()
        assert (data.event_shape, dict(data.options)) == ((1, 8, 8), {"size": 8, "flip": True})
        again = cli("fit-prior", "--config", run / "prior/config.toml", "--device", "cpu")
        assert "already complete with this configuration" in again[2]
        Image.new("L", (6, 6), 3).save("pics/000.png")
        with pytest.raises(RunError, match="has changed since"):
            load_run(run).dataset()

    def test_digits_are_the_default_for_image_architectures(self, cli) -> None:
        small = ["--steps", "1", "--batch-size", "4", "--device", "cpu"]
        small += ["--set", "filters=4", "--set", "blocks=1"]
        code, _, err = cli("fit-prior", "--arch", "pixelcnnpp", *small)
        assert code == 0, err
        assert "Fits pixelcnnpp to digits." in err
        assert Path("runs/digits-pixelcnnpp/prior/model.safetensors").is_file()
        result = cli("fit-prior", "--arch", "made", "--dataset", "digits")
        assert "made models vectors, and digits holds images" in result[2]

    def test_a_table_in_the_file(self, cli) -> None:
        Path("c.toml").write_text("data = 3")
        result = cli("fit-prior", "--config", "c.toml")
        assert result[0] == 2
        assert "'data' must be a table" in result[2]

    def test_show_opens_nothing(self, cli, cache: Path) -> None:
        shown = json.loads(cli("datasets", "show", "celeba", "--json")[1])
        assert (shown["event shape"], shown["suggested sigma"]) == ([3, 32, 32], 0.3)
        assert {s["name"]: s["default"] for s in shown["settings"]}["crop"] == 140
        assert cli("datasets", "list")[0] == 0
        assert json.loads(cli("datasets", "show", "digits", "--json")[1])["levels"] == 17
        assert not cache.exists()


class TestConfig:
    """The table [data] of a stage's configuration."""

    VALUES = {  # noqa: RUF012
        "stage": "baseline", "dataset": "x", "event_shape": (1, 4, 4), "architecture": "made",
        "training": {},
    }  # fmt: skip

    def test_empty_is_not_written(self) -> None:
        from smoothctl.config import build

        plain = build(StageConfig, self.VALUES, "x")
        sized = build(StageConfig, {**self.VALUES, "data": {"size": 4}}, "x")
        assert "data" not in plain.to_dict()
        assert sized.to_dict()["data"] == {"size": 4}
        assert StageConfig.from_dict(sized.to_dict(), "x") == sized
        with pytest.raises(RunError, match="has data"):
            plain.check_same_smoothing(sized, "run")
        assert plain.differences(sized) == ["data.size: none → 4"]
