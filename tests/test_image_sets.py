"""Sets of images: from datasets, folders and array files, read in blocks, told apart by content."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smoothctl.datasets import open_dataset
from smoothctl.errors import DataError, UsageError
from smoothctl.metrics.image_sets import ImageSet, of_tensor, of_view, open_images


def pixels(n: int, shape: tuple[int, ...] = (1, 4, 5), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def folder(path: Path, images: np.ndarray) -> Path:
    path.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(path / f"{number}.png")
    return path


def everything(images: ImageSet) -> np.ndarray:
    return torch.cat(list(images.blocks(3))).numpy()


class TestWhereTheyComeFrom:
    """The same images, whatever holds them."""

    def test_bytes_and_numbers_and_files_are_equal(self, tmp_path: Path) -> None:
        x = pixels(6)
        floats = x.astype(np.float32) / 127.5 - 1
        np.savez(tmp_path / "floats.npz", samples=floats, smoothed=floats * 2)
        np.save(tmp_path / "floats.npy", floats)
        np.savez(tmp_path / "last.npz", samples=x.transpose(0, 2, 3, 1))
        np.save(tmp_path / "grey.npy", x[:, 0])
        folder(tmp_path / "folder", x)
        names = ["floats.npz", "floats.npy", "last.npz", "grey.npy", "folder"]
        sets = [open_images(str(tmp_path / name)) for name in names]
        for images in sets:
            assert np.array_equal(everything(images), x)
            assert images.shape == (1, 4, 5)
        assert len({images.sha256 for images in sets}) == 1

    def test_an_array_by_name(self, tmp_path: Path) -> None:
        x = pixels(4).astype(np.float32) / 127.5 - 1
        np.savez(tmp_path / "all.npz", two_step=x, baseline=-x)
        assert np.array_equal(
            everything(open_images(f"{tmp_path}/all.npz:baseline")),
            255 - everything(open_images(f"{tmp_path}/all.npz:two_step")),
        )
        with pytest.raises(DataError, match="it holds two_step, baseline"):
            open_images(f"{tmp_path}/all.npz")

    def test_several_draws_of_each_image_are_one_set(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", samples=np.zeros((3, 2, 1, 4, 5), np.float32))
        assert len(open_images(str(tmp_path / "d.npz"))) == 6

    def test_a_dataset_and_its_splits(self) -> None:
        digits = open_dataset("digits")
        train, test = open_images("digits"), open_images("digits", "test")
        assert (len(train), len(test), train.classes) == (len(digits.train), 357, 10)
        expected = ((digits.test.head() + 1) * 127.5).round().to(torch.uint8)
        assert np.array_equal(everything(test), expected.numpy())
        assert torch.equal(test.labels, digits.test.head_labels())
        assert train.sha256 == of_view("other name", digits, digits.train).sha256 != test.sha256

    def test_splits_of_a_folder(self, tmp_path: Path) -> None:
        folder(tmp_path / "all" / "train", pixels(5))
        folder(tmp_path / "all" / "test", pixels(3, seed=1))
        assert len(open_images(str(tmp_path / "all"))) == 5
        assert len(open_images(str(tmp_path / "all"), "test")) == 3
        with pytest.raises(UsageError, match="no split 'validation'; it has: test, train"):
            open_images(str(tmp_path / "all"), "validation")

    def test_an_array_has_no_splits(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", samples=np.zeros((3, 1, 4, 5), np.float32))
        with pytest.raises(UsageError, match="no split 'test': it is one set"):
            open_images(str(tmp_path / "x.npz"), "test")

    def test_settings_reach_the_images(self, tmp_path: Path) -> None:
        path = folder(tmp_path / "x", pixels(3))
        assert open_images(str(path), options={"size": 8, "grey": False}).shape == (3, 8, 8)


class TestReading:
    """In blocks, in order, and parts of a set."""

    def test_values_beyond_the_range_are_clipped(self) -> None:
        x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 9.0]).view(5, 1, 1, 1)
        assert everything(of_tensor("x", x)).ravel().tolist() == [0, 0, 128, 255, 255]

    def test_head_and_pick(self) -> None:
        images = open_images("digits")
        whole = everything(images)
        assert np.array_equal(everything(images.head(7)), whole[:7])
        assert images.head(None) is images.pick(10_000) is images
        picked = images.pick(50, seed=3)
        assert np.array_equal(everything(picked), everything(images.pick(50, seed=3)))
        assert picked.sha256 != images.pick(50, seed=4).sha256
        rows = {image.tobytes(): i for i, image in enumerate(whole)}
        positions = [rows[image.tobytes()] for image in everything(picked)]
        assert positions == sorted(positions)
        assert max(positions) > 600  # not the first ones
        assert torch.equal(picked.labels, images.labels[positions])

    def test_content_makes_the_hash(self) -> None:
        x = torch.from_numpy(pixels(4)).float() / 127.5 - 1
        changed = x.clone()
        changed[3, 0, 3, 4] = -changed[3, 0, 3, 4] + 0.5
        hashes = [of_tensor(*each).sha256 for each in [("a", x), ("b", x), ("a", changed)]]
        assert hashes[0] == hashes[1] != hashes[2]


class TestBadInput:
    """One sentence that says what is wrong and where."""

    def test_no_images(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no images"):
            open_images(str(tmp_path))

    def test_one_image(self, tmp_path: Path) -> None:
        path = folder(tmp_path / "one", pixels(1))
        with pytest.raises(DataError, match="one holds one image: at least two"):
            open_images(str(path))

    def test_mixed_sizes(self, tmp_path: Path) -> None:
        path = folder(tmp_path / "mixed", pixels(3))
        Image.new("L", (9, 9)).save(path / "odd.png")
        with pytest.raises(DataError, match="differ in size.*odd.png is 9×9"):
            open_images(str(path))

    def test_a_corrupt_file(self, tmp_path: Path) -> None:
        path = folder(tmp_path / "bad", pixels(3))
        (path / "1.png").write_bytes((path / "1.png").read_bytes()[:40])
        with pytest.raises(DataError, match=r"1\.png cannot be decoded"):
            open_images(str(path))
        assert len(open_images(str(path), options={"skip_corrupt": True})) == 2

    def test_not_finite(self, tmp_path: Path) -> None:
        x = np.zeros((4, 1, 4, 4), np.float32)
        x[2, 0, 1, 1] = np.nan
        np.savez(tmp_path / "nan.npz", samples=x)
        with pytest.raises(DataError, match="1 of the 4 images.*not finite"):
            open_images(str(tmp_path / "nan.npz"))

    def test_no_images_but_vectors(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "v.npz", samples=np.zeros((4, 2), np.float32))
        with pytest.raises(DataError, match="must hold images"):
            open_images(str(tmp_path / "v.npz"))
        with pytest.raises(DataError, match="holds vectors"):
            open_images("rings")

    def test_a_damaged_array_file(self, tmp_path: Path) -> None:
        (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nothing")
        with pytest.raises(DataError, match="x.npz"):
            open_images(str(tmp_path / "x.npz"))

    def test_a_damaged_array_within(self, tmp_path: Path) -> None:
        """Headers are whole, and the values are not."""
        file = tmp_path / "x.npz"
        np.savez(file, samples=np.zeros((40, 1, 9, 9), np.float32))
        content = bytearray(file.read_bytes())
        content[2000:2400] = b"\xff" * 400
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz"):
            open_images(str(file))

    def test_unknown_names(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no file or folder"):
            open_images(str(tmp_path / "nowhere"))
        with pytest.raises(UsageError, match="no dataset 'digit'; did you mean digits"):
            open_images("digit")
        with pytest.raises(UsageError, match="no split 'tests'; did you mean test"):
            open_images("digits", "tests")

    def test_other_shapes_do_not_compare(self) -> None:
        small, large = (of_tensor(n, torch.zeros(2, 1, n_, n_)) for n, n_ in (("a", 4), ("b", 8)))
        with pytest.raises(DataError, match="a holds images of 1×4×4 and b of 1×8×8"):
            small.check_comparable(large)
