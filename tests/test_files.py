"""Atomic writes: the old or the new content, and nothing left behind."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest
import torch

from smoothctl.errors import RunError
from smoothctl.storage import files
from smoothctl.storage.files import (
    append_line,
    check_inside,
    move,
    new_folder,
    parse_json,
    read_json,
    read_toml,
    remove,
    verify_manifest,
    write_bytes,
)
from smoothctl.storage.locks import hold
from smoothctl.storage.weights import read_weights, write_weights


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


NEWER = '{"format": 2, "sha256": {}}'


def _replace(path: Path, make) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "data").write_text("flip"), "damaged"),
        (lambda f: (f / "data").unlink(), "no file 'data' of its manifest"),
        (lambda f: (f / "manifest.json").write_text("["), "manifest.json is damaged"),
        (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda f: (f / "manifest.json").write_text(""), "manifest.json is empty"),
        (lambda f: (f / "manifest.json").write_text("[" * 10**5), "nested too deeply"),
        (lambda f: (f / "manifest.json").write_text(" " * 2**21), "larger than 1,048,576"),
        (lambda f: (f / "manifest.json").write_text("[]"), "lists no files"),
        (lambda f: _replace(f / "manifest.json", os.mkdir), "manifest.json is no plain file"),
        (lambda f: _replace(f / "manifest.json", os.mkfifo), "manifest.json is no plain file"),
        (lambda f: (f / "manifest.json").write_text(NEWER), "newer smoothctl: .* upgrade"),
        (lambda f: _replace(f / "data", lambda p: p.symlink_to("/etc/passwd")), "a link out of"),
        (lambda f: _replace(f / "data", lambda p: p.symlink_to("data")), "no file 'data'"),
        (lambda f: _replace(f / "data", lambda p: p.symlink_to("/dev/zero")), "no file 'data'"),
        (lambda f: _replace(f / "data", os.mkfifo), "no file 'data'"),
        (lambda f: _replace(f / "data", os.mkdir), "no file 'data'"),
    ],
)
def test_damage_is_found_and_named(tmp_path: Path, damage, message: str) -> None:
    with new_folder(tmp_path / "f") as folder:
        (folder / "data").write_text("good")
    damage(tmp_path / "f")
    with pytest.raises(RunError, match=message):
        verify_manifest(tmp_path / "f")


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", ".", "..", "", "x" * 5000, "x/" * 5000, "\0", "\ud800"],
    ids=["out", "root", "self", "parent", "empty", "long", "deep", "NUL", "half"],
)
def test_a_manifest_names_files_of_its_folder_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    with new_folder(tmp_path / "f") as folder:
        (folder / "data").write_text("good")
    content = {"format": 1, "sha256": {name: "0"}}
    (tmp_path / "f/manifest.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="is incomplete: it has no file '") as raised:
        verify_manifest(tmp_path / "f")
    assert len(str(raised.value)) < 300


def test_weights_are_readable_by_the_group_like_other_files(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", {"a": torch.zeros(2)}, {"format": 1})
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "w").stat().st_mode == (tmp_path / "plain").stat().st_mode
    tensors, metadata = read_weights(tmp_path / "w")
    assert torch.equal(tensors["a"], torch.zeros(2))
    assert metadata == {"format": 1}


TENSORS = {
    "a": torch.arange(24.0).reshape(2, 3, 4),
    "b": torch.tensor(7),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "none": torch.zeros(0, 2),
}
METADATA = {"format": 1, "smoothctl": "0.1", "options": {"width": 3, "offset": True}, "σ": 0.3}


@pytest.mark.slow
def test_no_flipped_bit_of_a_weights_file_passes(tmp_path: Path) -> None:
    """Each bit of the header and of the values: an error in one sentence.

    A flip in the word "content_sha256" itself leaves what looks like a file of before there was
    one: its content is whole, and a key is left over.
    """
    file = tmp_path / "w"
    write_weights(file, TENSORS, METADATA)
    content = file.read_bytes()
    start = 8 * content.index(b"content_sha256")
    word = range(start, start + 8 * len("content_sha256"))
    whole = 0
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            tensors, metadata = read_weights(file)
        except RunError as error:
            assert str(error).startswith(f"{file} ")
            assert "\n" not in str(error)
            continue
        assert bit in word
        assert METADATA.items() < metadata.items()
        assert all(torch.equal(tensors[key], value) for key, value in TENSORS.items())
        whole += 1
    assert whole < len(word)


def test_every_truncation_of_a_weights_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "w"
    write_weights(file, TENSORS, METADATA)
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(RunError, match="is truncated" if length else "is empty"):
            read_weights(file)
    file.write_bytes(content + b"x")
    with pytest.raises(RunError, match="is damaged .it has"):
        read_weights(file)


def test_weights_of_before_there_was_a_digest_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(TENSORS, tmp_path / "w", metadata={"smoothctl": json.dumps(METADATA)})
    tensors, metadata = read_weights(tmp_path / "w")
    assert metadata == METADATA
    assert all(torch.equal(tensors[key], value) for key, value in TENSORS.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + bytes(100), "zip archive, as torch.save writes it.*never read"),
        (b"\x80\x02ctorch\n" + bytes(100), "a Python pickle.*never read"),
        (b"hello, this is text", "is no safetensors file"),
        (bytes.fromhex("ffffffffffffff7f") + b"{" + bytes(50), "is no safetensors file"),
        ((10**6).to_bytes(8, "little") + b"{" + bytes(50), "is truncated"),
        ((20).to_bytes(8, "little") + b"{" * 20, "its header cannot be read"),
        ((10**6).to_bytes(8, "little") + b'{"a":' * (10**6 // 5), "its header cannot be read"),
        ((2).to_bytes(8, "little") + b"{}", "not written by smoothctl"),
    ],
)
def test_what_is_no_weights_file_is_told_apart(tmp_path: Path, content, message: str) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_weights(tmp_path / "w")


def test_a_weights_file_that_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in [("pipe", "no plain file"), (".", "no plain file"), ("no", "There is no")]:
        with pytest.raises(RunError, match=message):
            read_weights(tmp_path / path)


def test_a_header_that_asks_for_terabytes_takes_no_memory(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    text = json.dumps({"a": entry, "__metadata__": {"smoothctl": "{}"}}).encode()
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(RunError, match="is truncated: it has"):
        read_weights(tmp_path / "w")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a = [", "is damaged, no TOML"),
        ("a = " + "[" * 2000, "nested too deeply"),
        ("a" + ".a" * 100 + " = 1", "nested too deeply"),
        (f"a = 1{'0' * 1000}", "absurdly large"),
        ("a = 1\n" * 20_000, "larger than"),
        ("a = '\udcff'", "is damaged, no text"),
    ],
)
def test_toml_that_is_hostile(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=message):
        read_toml(tmp_path / "c", 2**16)


def test_json_that_is_hostile(tmp_path: Path) -> None:
    for text in ("[" * 10**6, '{"a":' * 50 + "1" + "}" * 50, "1" * 5000, f"[1{'0' * 400}]", "{"):
        with pytest.raises(ValueError):
            parse_json(text)
    with pytest.raises(RunError, match="missing"):
        read_json(tmp_path / "none", 10)
    assert parse_json("[1, [2, {}], NaN, 1e999]")[:2] == [1, [2, {}]]


def test_links_are_followed_inside_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "prior").mkdir(parents=True)
    (run / "out").symlink_to(tmp_path)
    (run / "in").symlink_to(run / "prior")
    (run / "loop").symlink_to("loop")
    (tmp_path / "other").symlink_to(run)
    for inner in ("prior/x", "in/x", "x"):
        assert check_inside(run / inner, run) == run / inner
        check_inside(tmp_path / "other" / inner, tmp_path / "other")
    for outer in ("out", "out/x", "../x"):
        with pytest.raises(RunError, match="a link out of"):
            check_inside(run / outer, run)
    with pytest.raises(RunError, match="leads nowhere"):
        check_inside(run / "loop/x", run)


def test_appending_follows_no_link_and_never_half_a_line(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "log").symlink_to("elsewhere")
    with pytest.raises(RunError, match="is a link"):
        append_line(tmp_path / "log", "x")
    assert (tmp_path / "elsewhere").read_text() == "kept"
    append_line(tmp_path / "lines", "ä")
    append_line(tmp_path / "lines", "b")
    assert (tmp_path / "lines").read_text() == "ä\nb\n"
    assert stat.S_IMODE((tmp_path / "lines").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "elsewhere").stat().st_mode
    )


def test_new_names_are_on_the_disk_with_their_folders(tmp_path: Path, monkeypatch) -> None:
    """Every folder in which a name was made is synced after it was made."""
    synced = []
    real = files._sync
    monkeypatch.setattr(files, "_sync", lambda p: (synced.append(p), real(p)))
    write_bytes(tmp_path / "a/b/file", b"x")
    assert {tmp_path, tmp_path / "a", tmp_path / "a/b"} <= set(synced)
    synced.clear()
    with new_folder(tmp_path / "c/d") as folder:
        (folder / "data").write_text("x")
    assert {tmp_path, tmp_path / "c"} <= set(synced)
    synced.clear()
    move(tmp_path / "a/b/file", tmp_path / "c/file")
    assert synced == [tmp_path / "c", tmp_path / "a/b"]
    remove(tmp_path / "c/d")
    assert synced[-1] == tmp_path / "c"
    with hold(tmp_path / "e/f/.lock", "f"):
        assert {tmp_path, tmp_path / "e"} <= set(synced)


@pytest.mark.parametrize("moment", ["fsync", "replace", "open"])
def test_a_write_that_is_interrupted_leaves_the_old(tmp_path, monkeypatch, moment: str) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    write_bytes(tmp_path / "file", b"old")
    with new_folder(tmp_path / "folder") as folder:
        (folder / "data").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(
            *{
                "fsync": (files.os, "fsync", interrupted),
                "replace": (files.Path, "replace", interrupted),
                "open": (files.Path, "open", interrupted),
            }[moment]
        )
        with pytest.raises(KeyboardInterrupt):
            write_bytes(tmp_path / "file", b"new")
        with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "folder") as folder:
            (folder / "data").write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"
    verify_manifest(tmp_path / "folder", "data")
    assert (tmp_path / "folder/data").read_text() == "old"
