"""idx files hold the same data as arrays of NumPy, in every type, plain and gzipped."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smoothctl.datasets import is_local, open_dataset
from smoothctl.datasets.array_files import load, stored
from smoothctl.datasets.idx_sets import idx_files
from smoothctl.datasets.listing import listed
from smoothctl.datasets.pictures import read_events
from smoothctl.errors import DataError
from smoothctl.metrics.image_sets import open_images

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
N = 30


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path / "cache"))


def idx(array: np.ndarray) -> bytes:
    """An array as an idx file."""
    code = CODES[array.dtype.str[1:]]
    header = struct.pack(f">2x2B{array.ndim}I", code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pictures(n: int = N) -> np.ndarray:
    images = np.random.default_rng(n).integers(0, 256, (n, 6, 5), np.uint8)
    images[:, 0, 0] = np.arange(n)
    return images


def put(path: Path, array: np.ndarray) -> Path:
    """Writes an idx file, gzipped where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))
    return path


SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)
ARRAYS = st.sampled_from(list(CODES)).flatmap(lambda dtype: arrays(dtype, SHAPES))


@pytest.mark.parametrize("ending", ["", ".gz"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(array=ARRAYS)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, ending: str, array: np.ndarray
) -> None:
    path = put(tmp_path_factory.mktemp("idx") / f"x{ending}", array)
    header = stored(path)["data"]
    assert (header.shape, header.dtype.str[1:]) == (array.shape, array.dtype.str[1:])
    assert header.held == array.nbytes
    found = load(path, ["data"])["data"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dtype", CODES)
def test_two_dimensions_are_rows(tmp_path: Path, dtype: str, ending: str) -> None:
    rows = np.random.default_rng(0).integers(0, 99, (N, 3)).astype(dtype)
    path = put(tmp_path / f"rows-idx2-x{ending}", rows)
    np.save(tmp_path / "rows.npy", rows)
    data, same = open_dataset(str(path)), open_dataset(str(tmp_path / "rows.npy"))
    assert data.domain == "vector"
    assert data.train.head().dtype == same.train.head().dtype
    assert torch.equal(data.train.head(), same.train.head())
    if dtype in ("u1", "f4", "f8"):
        assert torch.equal(read_events(path, (3,)), torch.from_numpy(rows).float())


@pytest.mark.parametrize(
    "name", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte", "emnist-x-{}-{}-idx{}-ubyte"]
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_four_files_are_splits_and_classes(tmp_path: Path, name: str, ending: str) -> None:
    folder = tmp_path / "four"
    for split, n in (("train", N), ("t10k", 7)):
        put(folder / (name.format(split, "images", 3) + ending), pictures(n))
        put(folder / (name.format(split, "labels", 1) + ending), np.arange(n, dtype=np.uint8) % 7)
    data = open_dataset(str(folder))
    assert (data.event_shape, data.classes, data.slug) == ((1, 6, 5), 7, "four")
    assert [len(view) for view in (data.train, data.validation, data.test)] == [N - 3, 3, 7]
    pixels = ((data.test.head() + 1) * 127.5).round().byte().numpy()
    assert (pixels[:, 0] == pictures(7)).all()
    numbers = ((data.train.head()[:, 0, 0, 0] + 1) * 127.5).round().long()
    assert torch.equal(data.train.head_labels(), numbers % 7)
    assert open_images(str(folder), "test").count == 7


def test_one_file_is_a_dataset_of_its_own(tmp_path: Path) -> None:
    path = put(tmp_path / "train-images-idx3-ubyte.gz", pictures())
    assert open_dataset(str(path)).classes is None
    put(tmp_path / "train-labels-idx1-ubyte", np.arange(N, dtype=np.uint8) % 4)
    data = open_dataset(str(path))
    assert data.classes == 4
    assert sum(map(len, (data.train, data.validation, data.test))) == N
    assert open_dataset(str(tmp_path)).fingerprint == data.fingerprint
    assert read_events(path, (1, 6, 5)).shape == (N, 1, 6, 5)
    assert open_images(str(path)).count == N


def test_the_first_bytes_say_what_a_file_is(tmp_path: Path) -> None:
    path = put(tmp_path / "digits", pictures())
    assert open_dataset(str(path)).event_shape == (1, 6, 5)


def test_plain_goes_before_gzipped(tmp_path: Path) -> None:
    for ending in (".gz", ""):
        put(tmp_path / f"raw/train-images-idx3-ubyte{ending}", pictures())
    assert idx_files(str(tmp_path), listed(str(tmp_path))) == {
        "images": tmp_path / "raw/train-images-idx3-ubyte"
    }


def test_several_sets_are_told_apart_by_a_glob(tmp_path: Path) -> None:
    for name in ("emnist-a", "emnist-b"):
        for split, n in (("train", N), ("test", 6)):
            put(tmp_path / f"{name}-{split}-images-idx3-ubyte", pictures(n))
    with pytest.raises(DataError, match=f"several sets .* such as '{tmp_path}/emnist-a-\\*'"):
        open_dataset(str(tmp_path))
    assert len(open_dataset(f"{tmp_path}/emnist-b-*").test) == 6
    one = f"{tmp_path}/emnist-a-*"
    assert set(idx_files(one, listed(one))) == {"x_train", "x_test"}


def test_labels_that_do_not_fit_get_a_sentence(tmp_path: Path) -> None:
    path = put(tmp_path / "a-images-idx3-ubyte", pictures())
    put(tmp_path / "a-labels-idx1-ubyte", np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="a-labels-idx1-ubyte must be 30 whole numbers"):
        open_dataset(str(path))


def test_pictures_of_floats_are_refused_as_a_dataset(tmp_path: Path) -> None:
    path = put(tmp_path / "a-images-idx3-float", pictures().astype(np.float32))
    with pytest.raises(DataError, match=r"must hold 8-bit images.*not float32 \(30, 6, 5\)"):
        open_dataset(str(path))


def header(*sizes: int, code: int = 8) -> bytes:
    return struct.pack(f">2x2B{len(sizes)}I", code, len(sizes), *sizes)


WHOLE = gzip.compress(idx(pictures()))
BAD = {
    "empty-idx3-ubyte": (b"", "neither .npy nor .npz nor idx"),
    "text-idx3-ubyte": (b"no idx file", "neither .npy nor .npz nor idx"),
    "cut header": (header(30, 6, 6)[:9], "its header is cut off"),
    "cut": (header(30, 6, 6) + bytes(99), "speaks of 1,080 bytes, and it holds 99"),
    "cut rows": (header(30, 6) + bytes(99), "speaks of 180 bytes, and it holds 99"),
    "huge": (header(2**32 - 1, 2**32 - 1, 9) + bytes(99), "166,.* bytes, and it holds 99"),
    "short.gz": (gzip.compress(header(30, 6, 6) + bytes(99)), "1,080 bytes, and it holds 99"),
    "huge.gz": (gzip.compress(header(2**32 - 1, 2**31)), "would unpack to 9,2.* bytes"),
    "cut-idx3-ubyte.gz": (WHOLE[:-99], "end-of-stream"),
    "wrong-idx3-ubyte.gz": (WHOLE[:-8] + bytes(4) + WHOLE[-4:], "CRC"),
    "text-idx3-ubyte.gz": (gzip.compress(b"no idx"), "what is packed in it is no idx file"),
    "many": (header(*[1] * 255) + bytes(1), "shape|dim"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files_get_a_sentence(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    for call in (
        lambda: open_dataset(str(tmp_path / name)),
        lambda: read_events(tmp_path / name, (2,)),
        lambda: open_images(str(tmp_path / name)),
    ):
        with pytest.raises(DataError, match=f"(?i){name}.*({message})") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_damaged_file_of_a_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path / "train-images-idx3-ubyte", pictures())
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(header(7, 6, 5) + bytes(9))
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is damaged"):
        open_dataset(str(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x-idx3-ubyte")
    with pytest.raises(DataError, match="There is no file|no plain file"):
        open_dataset(str(tmp_path / "x-idx3-ubyte"))


def test_a_name_that_is_missing_is_a_path() -> None:
    assert is_local("train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match="There is no file"):
        open_dataset("train-images-idx3-ubyte.gz")
