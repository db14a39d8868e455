"""Atomic writes: the old or the new content, and nothing left behind."""

import errno
import json
from pathlib import Path

import pytest
import torch

from smoothctl import files
from smoothctl.errors import RunError
from smoothctl.files import new_folder, read_weights, verify_manifest, write_bytes, write_weights


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a"
    write_bytes(target, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RunError, match="Cannot write .*: No space left on device"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "f") as folder:
        (folder / "half").write_text("half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "f") as folder:
        (folder / "data").write_text("whole")
    verify_manifest(tmp_path / "f")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "data").write_text("flip"), "damaged"),
        (lambda f: (f / "data").unlink(), "data is missing"),
        (lambda f: (f / "manifest.json").write_text("["), "manifest cannot be read"),
        (lambda f: (f / "manifest.json").unlink(), "manifest cannot be read"),
    ],
)
def test_damage_is_found_and_named(tmp_path: Path, damage, message: str) -> None:
    with new_folder(tmp_path / "f") as folder:
        (folder / "data").write_text("good")
    damage(tmp_path / "f")
    with pytest.raises(RunError, match=message):
        verify_manifest(tmp_path / "f")


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with new_folder(tmp_path / "f") as folder:
        (folder / "data").write_text("good")
    (tmp_path / "f/manifest.json").write_text(json.dumps({"sha256": {"../secret": "0"}}))
    with pytest.raises(RunError, match="secret is missing"):
        verify_manifest(tmp_path / "f")


def test_weights_are_readable_by_the_group_like_other_files(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", {"a": torch.zeros(2)}, {"format": 1})
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "w").stat().st_mode == (tmp_path / "plain").stat().st_mode
    tensors, metadata = read_weights(tmp_path / "w")
    assert torch.equal(tensors["a"], torch.zeros(2))
    assert metadata == {"format": 1}
