"""Two users of one cache: each can use it, or is told what to do; neither loses anything."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smoothctl.datasets import open_dataset
from smoothctl.errors import DataError, NotAvailable
from smoothctl.metrics import classifier
from smoothctl.metrics.classifier import ClassifierFeatures
from smoothctl.metrics.extraction import cached
from smoothctl.metrics.features import Request
from smoothctl.metrics.image_sets import open_images
from smoothctl.metrics.inception import Inception

ONE, OTHER = 61_001, 61_002

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be two users; test_images.py has what needs one"
)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may enter, with pictures; its cache is where decoded ones go."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    (root / "pictures").mkdir()
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 6), np.uint8)
        Image.fromarray(pixels).save(root / f"pictures/{number}.png")
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(root / "own"))
    open_dataset(str(root / "pictures")).test.head()  # all is imported: others cannot read it
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(root / "cache"))
    yield root
    shutil.rmtree(root)


def as_user(uid: int, umask: int, work: Callable[[], str]) -> str:
    """Returns what work gives in a process of another user, or the sentence that it ends in."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(umask)
            try:
                said = work()
            except DataError as error:
                said = str(error)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = json.load(file)
    os.waitpid(child, 0)
    return told


def opened(shared: Path, **options: int) -> Callable[[], str]:
    """Work that opens the pictures and reads all of them."""

    def work() -> str:
        data = open_dataset(str(shared / "pictures"), options)
        return f"{data.fingerprint} {float(data.train.head().sum())}"

    return work


def everything(folder: Path) -> dict[str, tuple]:
    """What there is below a folder, and whose it is."""
    return {
        str(path): (
            path.lstat().st_uid,
            path.lstat().st_ino,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
        if path.lstat().st_uid == ONE
    }


@pytest.mark.parametrize("state", ["whole", "damaged", "abandoned"])
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_two_users(shared: Path, umask: int, mode: int, state: str) -> None:
    (shared / "cache").mkdir()
    (shared / "cache").chmod(0o1777)
    mine = as_user(ONE, umask, opened(shared))
    images = shared / "cache/images"
    images.chmod(mode)
    if state == "damaged":
        os.truncate(next(images.glob("*/whole.images")), 7)
    if state == "abandoned":
        as_user(ONE, umask, lambda: str((images / ".old.1.tmp").mkdir()))
        os.utime(images / ".old.1.tmp", (0, 0))
    before = everything(shared)
    assert len(before) == 5 + (state == "abandoned")
    theirs, resized = (as_user(OTHER, 0o022, opened(shared, **o)) for o in ({}, {"size": 4}))
    assert everything(shared) == before
    if umask == 0o077:
        assert "cannot be read (Permission denied)" in theirs
        assert "chmod -R a+rX" in theirs
    elif state == "damaged":
        assert "are damaged: let their owner remove them" in theirs
    else:
        assert theirs == mine
    if mode == 0o755:
        assert "Cannot keep decoded images" in resized
        assert "Permission denied" in resized
        assert "writable for you, or set $SMOOTHCTL_CACHE to a folder of your own" in resized
    else:
        assert resized.split()[0] not in ("", *mine.split())
        assert as_user(ONE, umask, opened(shared, size=4)) == resized


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_another_user_s_scores_left_is_taken_or_told(
    shared: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shared / "cache").mkdir()
    (shared / "cache").chmod(0o1777)
    monkeypatch.setattr(classifier, "_STEPS", 5)
    images = open_images("digits").head(200)

    def classified() -> str:
        said: list[str] = []
        features = ClassifierFeatures(Request(images, note=said.append))
        cached(images, features, note=said.append)
        try:
            return f"{features.sha256} {' '.join(said)}"
        finally:
            with pytest.raises(NotAvailable, match="are not at hand"):
                Inception(Request(images))

    with monkeypatch.context() as patched:
        patched.setenv("SMOOTHCTL_CACHE", str(shared / "own"))
        classified()  # all is imported
    as_user(ONE, umask, lambda: str((shared / "cache/inception").mkdir()))
    mine = as_user(ONE, umask, classified)
    before = everything(shared)
    theirs = as_user(OTHER, 0o022, classified)
    assert everything(shared) == before
    assert theirs.split()[0] == mine.split()[0]
    assert ("Goes on without keeping" in theirs) == (umask == 0o077)
