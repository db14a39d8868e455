"""A list says the same from the cache as from an import, and never what was true before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smoothctl import kernels
from smoothctl.registry.summaries import Described, describe
from tests.packages import write_package

CODE = "from smoothctl.kernels.gaussian import Gaussian\nclass Mine(Gaussian): summary = {!r}\n"
ODD = "\x1b[31mred\n\u202eturned \U000e0041 \ud800 " + "long \x07" * 200
POINTS = {"smoothctl.kernels": {"mine": "their_kernels:Mine"}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMOOTHCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, summary: str, requires: tuple[str, ...] = ()) -> None:
    write_package(path, "theirs", {"their_kernels.py": CODE.format(summary)}, POINTS, requires)


def listed() -> dict[str, Described]:
    """What a new process would list, as far as the plugin is concerned."""
    sys.modules.pop("their_kernels", None)
    return {found.entry.name: found for found in describe(kernels.registry)}


def kept(cache: Path) -> Path:
    (file,) = (cache / "summaries").iterdir()
    return file


@pytest.mark.parametrize("plural", ["kernels", "datasets", "architectures", "features"])
def test_a_second_list_imports_no_torch(plural: str) -> None:
    code = (
        f"import sys\nfrom smoothctl.cli import main\nsys.argv = ['', '{plural}', 'list', '--json']"
        "\ntry:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "sys.exit(10 * ('torch' in sys.modules or 'numpy' in sys.modules))"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (10, 0), second.stderr
    assert first.stdout == second.stdout
    assert all(row["summary"] and not row["error"] for row in json.loads(second.stdout))


@pytest.mark.parametrize("summary", ["mine", "", ODD])
def test_a_plugin_is_imported_once(path: Path, summary: str) -> None:
    write(path, summary)
    first = listed()
    assert "their_kernels" in sys.modules
    second = listed()
    assert "their_kernels" not in sys.modules
    assert first == second
    assert str(first["mine"].summary).isprintable()


def test_changed_code_is_read_anew(path: Path) -> None:
    write(path, "before")
    assert listed()["mine"].summary == "before"
    (path / "their_kernels.py").write_text(CODE.format("after it"))
    sys.path_importer_cache.clear()
    assert listed()["mine"].summary == "after it"
    (path / "their_kernels.py").write_text("raise RuntimeError('boom')")
    for _ in range(2):
        assert "boom" in str(listed()["mine"].error)
    assert listed()["gaussian"].error is None


def test_another_installed_package_has_all_imported_anew(path: Path) -> None:
    write(path, "mine")
    listed()
    write_package(path, "other", {}, {})
    listed()
    assert "their_kernels" in sys.modules


def test_metadata_are_checked_each_time(path: Path) -> None:
    write(path, "mine", requires=("zuk0>=1",))
    for _ in range(2):
        assert "needs zuk0>=1, which is not installed" in str(listed()["mine"].error)
        assert "their_kernels" not in sys.modules


DAMAGED = ["", "{", "[]", "null", '{"summaries": []}', '{"summaries": {"a": 3}}']


@pytest.mark.parametrize("content", [*DAMAGED, "[" * 10**5, "é" * 2**20], ids=range(8))
def test_a_damaged_cache_is_made_again(cache: Path, content: str) -> None:
    first = listed()
    whole = kept(cache).read_text()
    kept(cache).write_text(content)
    assert listed() == first
    assert kept(cache).read_text() == whole


def test_numbers_and_lists_in_the_place_of_summaries(cache: Path) -> None:
    first = listed()
    value = json.loads(kept(cache).read_text())
    for odd in (3, None, [], {"a": 1}):
        wrong = {"format": 1, "summaries": dict.fromkeys(value["summaries"], odd)}
        kept(cache).write_text(json.dumps(wrong))
        assert listed() == first


def test_what_others_wrote_into_the_cache_is_escaped_and_short(cache: Path) -> None:
    listed()
    value = json.loads(kept(cache).read_text())
    value["summaries"] = dict.fromkeys(value["summaries"], ODD * 20)
    kept(cache).write_text(json.dumps(value))
    summary = str(listed()["gaussian"].summary)
    assert summary.isprintable()
    assert "\\u001b[31mred" in summary
    assert len(summary) < 20_000


@pytest.mark.parametrize("kind", ["file", "pipe", "folder"])
def test_a_cache_that_cannot_be_used(cache: Path, kind: str) -> None:
    first = listed()
    if kind == "file":
        (cache / "summaries").rename(cache / "away")
        (cache / "summaries").write_text("")
    else:
        file = kept(cache)
        file.unlink()
        os.mkfifo(file) if kind == "pipe" else file.mkdir()
    assert listed() == first
