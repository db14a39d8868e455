"""Images and arrays that others may have made: each works or is refused in a sentence, cheaply."""

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smoothctl.datasets import open_dataset
from smoothctl.datasets.pictures import read_events, read_mask
from smoothctl.errors import DataError, SmoothctlError, UsageError
from smoothctl.metrics.image_sets import open_images

SHAPE = (1, 8, 8)


def grey(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)


def png(width: int, height: int) -> bytes:
    """A PNG whose header says this size, and which holds a few bytes of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(4096))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


def encoded(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


FRAMES = [Image.fromarray(grey(seed)) for seed in range(3)]
WHOLE = encoded(FRAMES[0])
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(ran) (w) file showpage\n"

GOOD = {
    "cmyk.jpg": encoded(Image.new("CMYK", (8, 8), (200, 220, 230, 240)), "JPEG"),
    "16-bit.png": encoded(Image.fromarray(grey().astype(np.uint16) * 257)),
    "animated.gif": encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    "animated.webp": encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
    "animated.png": encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
    "wrong ending.jpg": WHOLE,
    "1-bit.png": encoded(Image.fromarray(grey() > 99)),
    "palette.png": encoded(FRAMES[0].convert("P")),
    "clear.png": encoded(FRAMES[0].convert("LA")),
    "ü \n'\"$(x).png": WHOLE,
    "-x.png": WHOLE,
}
BAD = {
    "bomb.png": png(50_000, 50_000),
    "empty size.png": png(0, 0),
    "no height.png": png(8, 0),
    "overflow.png": png(2**31 - 1, 2**31 - 1),
    "long.png": png(100_000, 1),
    "cut.png": WHOLE[:-30],
    "cut header.png": WHOLE[:20],
    "empty.png": b"",
    "text.png": b"this is no image",
    "float.tiff": encoded(Image.fromarray(grey().astype(np.float32)), "TIFF"),
    "postscript.png": POSTSCRIPT,
    "pickle.png": pickle.dumps(1),
    "zip.png": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_images_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(GOOD[name])
    for path in (tmp_path / name, tmp_path):
        assert read_events(path, SHAPE).shape == (1, *SHAPE)
    assert read_mask(str(tmp_path / name), SHAPE).shape == (1, *SHAPE)
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(WHOLE)
    assert open_images(str(tmp_path)).count == 21
    assert len(open_dataset(str(tmp_path), {}).test) == 2


@pytest.mark.parametrize("name", BAD)
def test_damaged_images_get_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BAD[name])
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=name):
            read_events(path, SHAPE)
    with pytest.raises(DataError, match=name):
        read_mask(str(tmp_path / name), SHAPE)
    if name == "long.png":
        return  # twenty such are a data set of their own
    for number in range(20):
        (tmp_path / f"z{number}.png").write_bytes(WHOLE)
    for read in (open_images, lambda path: open_dataset(path, {})):
        with pytest.raises(DataError, match=name):
            read(str(tmp_path))
    assert open_images(str(tmp_path), options={"skip_corrupt": True}).count == 20


def test_what_is_no_file_is_left_out_or_refused(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(WHOLE)
    (tmp_path / "folder.png").mkdir()
    assert read_events(tmp_path, SHAPE).shape[0] == 1
    os.mkfifo(tmp_path / "pipe.png")
    assert read_events(tmp_path, SHAPE).shape[0] == 1
    with pytest.raises(DataError, match="no plain file"):
        read_events(tmp_path / "pipe.png", SHAPE)
    with pytest.raises(DataError, match="holds no images"):
        read_events(tmp_path / "folder.png", SHAPE)
    with pytest.raises(DataError, match="no plain file"):
        open_images(str(tmp_path))
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "pipe.png").unlink()
    with pytest.raises(DataError, match=r"loop\.png"):
        open_images(str(tmp_path))


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


def npy(shape: tuple[int, ...], dtype: str = "<f4", content: bytes = b"") -> bytes:
    """An .npy file whose header says this shape, whatever it holds."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def blown_up(size: int) -> bytes:
    """An archive of a member of zeros: a thousandth of what it unpacks to."""
    return npz(samples=npy((size // 8, 2), content=bytes(size)))


def lying(content: bytes, size: int) -> bytes:
    """The same archive with another unpacked size in its directory."""
    at = content.rindex(b"PK\x01\x02") + 24
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def floats(value: float) -> bytes:
    return npy((30, 2), content=np.full(60, value, "<f4").tobytes())


def objects(tmp_path: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(tmp_path / "ran")] * 30, dtype=object), allow_pickle=True)
    return buffer.getvalue()


ARRAYS = {
    "nan.npy": (floats(float("nan")), "not finite|NaN"),
    "inf.npz": (npz(samples=floats(float("inf"))), "not finite|infinite"),
    "huge.npy": (npy((10**12, 2), content=bytes(80)), "8,000,000,000,000 bytes, and it holds 80"),
    "huge.npz": (npz(samples=npy((10**9, 2), content=bytes(80))), "bytes, and it holds 80"),
    "negative.npy": (npy((-1, 2), content=bytes(80)), "read|must hold|must be"),
    "overflow.npy": (npy((10**20, 10**20)), "bytes, and it holds 0"),
    "none.npy": (npy((0, 2)), "not|rows"),
    "no width.npy": (npy((10**15, 0)), "not|must"),
    "text.npy": (npy((30, 2), "<U9", bytes(2160)), "not <U9|must"),
    "wide text.npy": (npy((30, 2), "<U99999999"), "bytes, and it holds 0"),
    "record.npy": (npy((30,), "[('a', '<f4')]", bytes(120)), "must|read"),
    "pickle.npy": (pickle.dumps(1), "neither .npy nor .npz"),
    "pickle.npz": (pickle.dumps(1), "neither .npy nor .npz"),
    "cut.npz": (npz(samples=floats(1.0))[:-30], "zip"),
    "empty.npz": (b"", "neither .npy nor .npz"),
    "no arrays.npz": (npz(), "holds nothing"),
    "names.npz": (npz(left=floats(0.0), right=floats(1.0)), "holds left, right"),
    "lie.npz": (lying(npz(samples=npy((2**24, 2), content=bytes(80))), 2**27 + 99), "EOF|CRC"),
    "bomb.npz": (lying(npz(samples=npy((2**28, 2))), 2**31 + 99), "would unpack to 2,147,483,648"),
    "code.npy": (b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').abort()".ljust(32), "malformed"),
    "deep.npy": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"[" * 60_000, "Header|header"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_damaged_arrays_get_a_sentence(tmp_path: Path, name: str) -> None:
    content, message = ARRAYS[name]
    (tmp_path / name).write_bytes(content)
    calls = (
        lambda: read_events(tmp_path / name, (2,), ("samples",)),
        lambda: open_dataset(str(tmp_path / name), {}),
    )
    for call in calls:
        with pytest.raises(DataError, match=f"{name}.*({message})") as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(SmoothctlError, match=name):
        open_images(str(tmp_path / name))


def test_objects_in_arrays_are_never_made(tmp_path: Path) -> None:
    content = objects(tmp_path)
    pickle.loads(content[content.index(b"\x80") :])[0].close()  # it would work
    (tmp_path / "ran").unlink()
    for name, held in {"x.npy": content, "x.npz": npz(samples=content)}.items():
        (tmp_path / name).write_bytes(held)
        for call in (
            lambda path: read_events(path, (2,), ("samples",)),
            lambda path: open_dataset(str(path), {}),
            lambda path: open_images(str(path)),
        ):
            with pytest.raises(DataError, match="Python objects, which are never read"):
                call(tmp_path / name)
    (tmp_path / "y.npz").write_bytes(npz(train=npy((30, 8, 8), "|u1", bytes(1920)), y=content))
    for name in ("y_train", "labels"):
        inner = {"train": npy((30, 8, 8), "|u1", bytes(1920)), name: content}
        (tmp_path / "y.npz").write_bytes(npz(**inner))
        with pytest.raises(DataError, match="Python objects"):
            open_dataset(str(tmp_path / "y.npz"), {})
    assert not (tmp_path / "ran").exists()


def test_a_member_called_like_a_path_is_written_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.npz").write_bytes(npz(**{"../../evil": floats(0.5)}))
    assert read_events(tmp_path / "in/x.npz", (2,)).shape == (30, 2)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "x.npz"]


_READ = """
import json, resource, sys, time
from pathlib import Path
from smoothctl.datasets import open_dataset
from smoothctl.errors import SmoothctlError
from smoothctl.metrics.image_sets import open_images
from smoothctl.datasets.pictures import read_events
import smoothctl.datasets.images, smoothctl.datasets.arrays, PIL.Image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    start, said = time.process_time(), []
    for read in (lambda: read_events(Path(path), (2,), ("samples",)),
                 lambda: read_events(Path(path), (1, 8, 8), ("samples",)),
                 lambda: open_dataset(path, {}), lambda: open_images(path)):
        try:
            read()
            said.append("read")
        except SmoothctlError as error:
            said.append(str(error))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps([said, time.process_time() - start, peak]))
"""


def one_group(path: Path, content: bytes, rows: int) -> None:
    """A Parquet file of a single group of equal rows, stored once."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    part = pa.array([{"bytes": content, "path": None}] * 20, kind)
    column = pa.chunked_array([part] * (rows // 20))
    write_table(pa.table({"image": column}), path, row_group_size=rows)


@pytest.mark.slow
def test_little_data_take_little_memory(tmp_path: Path) -> None:
    """Archives and images that unpack to a thousand times their size: 1 GB is never taken."""
    bombs = {
        "zeros.npz": blown_up(2**28 + 2**20),
        "bytes.npz": npz(samples=npy((2**22 + 2**14, 8, 8), "|u1", bytes(2**28 + 2**20))),
        "packed.gz": gzip.compress(
            struct.pack(">4B2I", 0, 0, 8, 2, 2**27, 3) + bytes(3 * 2**27), 1
        ),
        "short.gz": gzip.compress(struct.pack(">4B2I", 0, 0, 8, 2, 2**27, 2) + bytes(2**27), 1),
        "folder": b"",
    }
    one_group(tmp_path / "group.parquet", np.random.default_rng(0).bytes(10**6), 800)
    assert (tmp_path / "group.parquet").stat().st_size < 2**21
    for name, content in bombs.items():
        if content:
            (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    for number in range(3):
        (tmp_path / f"folder/{number}.png").write_bytes(png(30_000, 30_000))
    done = subprocess.run(
        [sys.executable, "-c", _READ, *(str(tmp_path / n) for n in [*bombs, "group.parquet"])],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        said, seconds, peak = json.loads(line)
        print(seconds, peak, said)
        assert "read" not in said
        assert seconds < 5
        assert peak < 500


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, which a test may look into."""
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(folder: Path, *contents: bytes) -> Path:
    """A folder of twenty small images after others."""
    folder.mkdir()
    for number, content in enumerate([*contents, *[WHOLE] * 20]):
        (folder / f"{number:02}.png").write_bytes(content)
    return folder


@pytest.mark.parametrize("setting", [{"size": 40_000}, {"size": 10**400}, {"crop": 10**6}])
def test_settings_that_describe_enormous_images_are_refused(
    tmp_path: Path, cache: Path, setting: dict[str, int]
) -> None:
    folder = str(pictures(tmp_path / "pictures"))
    for read in (open_dataset, lambda path, given: open_images(path, options=given)):
        with pytest.raises(UsageError, match=f"'{next(iter(setting))}' is wrong: .*less than"):
            read(folder, setting)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (png(9000, 9000), {}, "9000×9000 pixels in 1 channel:"),
        (png(2049, 2048), {}, "2049×2048 pixels in 1 channel:"),
        (png(3000, 3000), {"crop": 2900}, "2900×2900 pixels in 1 channel:"),
        (encoded(Image.new("RGB", (1200, 1200))), {}, "1200×1200 pixels in 3 channels:"),
        (encoded(Image.new("L", (1200, 1200))), {"grey": False}, "1200×1200 pixels in 3"),
        (WHOLE, {"size": 1200, "grey": False}, "1200×1200 pixels in 3 channels:"),
    ],
)
def test_images_that_are_no_event_are_refused(
    tmp_path: Path, cache: Path, content: bytes, options: dict, said: str
) -> None:
    folder = pictures(tmp_path / "pictures", content)
    with pytest.raises(DataError, match=rf"00\.png would be {said} .*4,194,304 values"):
        open_dataset(str(folder), options)
    assert list(cache.glob("images/*")) == []


@pytest.mark.parametrize("kind", ["folder", "x.npy", "x-idx3-ubyte", "x.parquet"])
def test_images_that_do_not_fit_on_the_disk_are_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    images = np.stack([grey(seed) for seed in range(20)])
    path = tmp_path / kind
    if kind == "folder":
        pictures(path)
    elif kind == "x.npy":
        np.save(path, images)
    elif kind == "x-idx3-ubyte":
        path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 20, 8, 8) + images.tobytes())
    else:
        table(path, [{"bytes": WHOLE, "path": None}] * 20)
    free = shutil.disk_usage(tmp_path)._replace(free=20 * 2**20 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(DataError, match=rf"{kind} take 20 MiB, and {cache}/images has 20 MiB left"):
        open_dataset(str(path), {"size": 1024})
    assert list(cache.glob("images/*")) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=20 * 2**20))
    assert len(open_dataset(str(path), {"size": 1024}).test) == 2


def test_arrays_of_enormous_images_take_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        file.write(npy((20, 20_000, 20_000), "|u1"))
        file.truncate(file.tell() + 20 * 20_000**2)  # takes no disk
    with pytest.raises(DataError, match="holds images of 400,000,000 bytes: 268,435,456 may be"):
        open_dataset(str(tmp_path / "x.npy"), {"size": 4})


@pytest.mark.parametrize("label", [2**16, 2**40, 2**64 - 1])
def test_absurd_classes_are_refused(tmp_path: Path, label: int) -> None:
    images = np.stack([grey(seed) for seed in range(20)])
    np.savez(tmp_path / "x.npz", images=images, labels=np.full(20, label, np.uint64))
    with pytest.raises(DataError, match=f"Image 0 of .* is of class {label}: number classes below"):
        open_dataset(str(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(20) - 1)
    assert open_dataset(str(tmp_path / "x.npz")).classes is None  # -1 is no class


def test_labels_that_are_too_many_are_not_read(tmp_path: Path) -> None:
    images = np.stack([grey(seed) for seed in range(20)])
    labels = npy((2**27,), "<i8", bytes(80))
    stored = npy(images.shape, "|u1", images.tobytes())
    (tmp_path / "x.npz").write_bytes(npz(images=stored, y=labels))
    with pytest.raises(DataError, match="must be 20 whole numbers, one an image, not int64"):
        open_dataset(str(tmp_path / "x.npz"))


def table(path: Path, rows: list[dict]) -> Path:
    """A Parquet file of a column of images."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    path.parent.mkdir(exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    write_table(pa.table({"image": pa.array(rows, kind)}), path)
    return path


@pytest.mark.parametrize(
    "named",
    ["{outside}/secret.png", "../secret.png", "link.png", "in/../../secret.png", "down/secret.png"],
)
def test_rows_open_no_file_elsewhere(tmp_path: Path, cache: Path, named: str) -> None:
    folder = tmp_path / "table"
    good = {"bytes": WHOLE, "path": "/etc/hostname"}  # with bytes, it is a name alone
    rows = [*[good] * 20, {"bytes": None, "path": named.format(outside=tmp_path)}]
    path = table(folder / "x.parquet", rows)
    (tmp_path / "secret.png").write_bytes(WHOLE)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "down").symlink_to(tmp_path)
    for given in (path, f"{folder}/*.parquet"):
        for options in ({}, {"skip_corrupt": True}):
            with pytest.raises(DataError, match=r"Row 20 of .*names the file '.*', which does not"):
                open_dataset(str(given), options)
    assert list(cache.glob("images/*")) == []


@pytest.mark.parametrize("how", ["beside", "absolute"])
def test_rows_open_files_beside_their_table(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "table"
    rows = [{"bytes": None, "path": f"{i}.png" if how == "beside" else f"{folder}/{i}.png"}
            for i in range(20)]  # fmt: skip
    path = table(folder / "x.parquet", rows)
    for number in range(20):
        (folder / f"{number}.png").write_bytes(WHOLE)
    assert len(open_dataset(str(path)).test) == 2
    (folder / "7.png").unlink()
    os.mkfifo(folder / "7.png")
    with pytest.raises(DataError, match=r"Row 7 of .*cannot be decoded .*it is no plain file"):
        open_dataset(str(path), {"size": 4})


@pytest.mark.parametrize("row", [None, {"bytes": None, "path": None}, {"bytes": b"", "path": "x"}])
def test_a_row_without_an_image_is_said(tmp_path: Path, row: dict | None) -> None:
    path = table(tmp_path / "x.parquet", [*[{"bytes": WHOLE, "path": None}] * 20, row])
    with pytest.raises(DataError, match=r"Row 20 of .*\(ValueError: the image is missing"):
        open_dataset(str(path))
    assert len(open_dataset(str(path), {"skip_corrupt": True}).test) == 2


PIPES = ["x", "x.csv", "x.npy", "x.npz", "x.parquet", "x.arrow", "x-idx3-ubyte", "x.gz", "x.png"]


@pytest.mark.parametrize("name", PIPES)
def test_pipes_are_never_waited_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / name)
    for read in (open_dataset, open_images, lambda path: read_events(Path(path), SHAPE)):
        for path in (tmp_path / "in" / name, f"{tmp_path}/in/x*", tmp_path / "in"):
            with pytest.raises(
                SmoothctlError, match="no plain file|holds no|no file|tables? of|alone"
            ):
                read(str(path))


@pytest.mark.parametrize("name", ["-pictures", "-x.csv", "-y.npy", "-z.parquet", "-i-idx3-ubyte"])
def test_names_may_begin_with_a_dash(in_tmp: Path, name: str) -> None:
    images = np.stack([grey(seed) for seed in range(20)])
    pictures(in_tmp / "-pictures").joinpath("00.png").rename("-pictures/-0.png")
    Path("-x.csv").write_text("".join(f"{i},{i * i % 7}\n" for i in range(20)))
    np.save("-y.npy", images)
    table(in_tmp / "-z.parquet", [{"bytes": WHOLE, "path": None}] * 20)
    Path("-i-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 20, 8, 8) + images.tobytes())
    for given in (name, f"./{name}"):
        assert len(open_dataset(given).test) == 2


def test_a_name_that_is_too_long_gets_a_sentence() -> None:
    for name in ("a" * 5000, "a" * 5000 + ".csv", "./" + "a" * 5000, "a" * 5000 + ".npz:x"):
        for read in (open_dataset, open_images):
            with pytest.raises(SmoothctlError):
                read(name)
