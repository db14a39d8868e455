"""What a name means is found as Python finds it, within bounds; nothing is left out silently."""

import os
from glob import glob
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothctl.datasets import is_local, listing, open_dataset
from smoothctl.datasets.listing import listed
from smoothctl.errors import DataError

FILES = [
    *("a.parquet", "b.parquet", "train-1.parquet", "[x].parquet", ".hidden.parquet", "other"),
    *("a/a.parquet", "a/train-1.parquet", "a/b/a.parquet", "a/a/a/b", "b/.c/a.parquet"),
    *(".c/a.parquet", "b/a", "b/train-2.parquet"),
]
PARTS = ["*", "**", "a", "b", "a*", "?", "[ab]", "[!a]", "*.parquet", "train-*", ".*", "..", "[x]*"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "1/2/3/4/root"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@settings(max_examples=150, deadline=None, derandomize=True)
@given(parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=4))
@pytest.mark.parametrize("absolute", [True, False])
def test_a_glob_matches_what_python_matches(tree: Path, absolute: bool, parts: list[str]) -> None:
    parts = [*parts, "*"] if parts[-1] == "**" else parts
    before = Path.cwd()
    os.chdir(tree)
    try:
        pattern = str(tree.joinpath(*parts)) if absolute else str(Path(*parts))
        expected = set(map(Path, glob(pattern, recursive=True)))  # noqa: PTH207
        if not Path(pattern).exists() and expected:
            assert set(listed(pattern)) == expected
        elif not expected:
            with pytest.raises(DataError, match="There is no file or folder"):
                listed(pattern)
    finally:
        os.chdir(before)


def test_a_folder_is_all_files_below_but_hidden_ones(tree: Path) -> None:
    expected = {tree / name for name in FILES if "." not in {p[0] for p in Path(name).parts}}
    assert set(listed(str(tree))) == expected


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.parquet").touch()
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "a/b/round").symlink_to("round")
    assert tmp_path / "a/b/x.parquet" in listed(str(tmp_path))
    for glob_ in ("**/*.parquet", "**/**/x.parquet", "*/*/x.parquet"):
        assert listed(f"{tmp_path}/{glob_}") == [tmp_path / "a/b/x.parquet"]


@pytest.mark.parametrize("pattern", ["", "/**/*", "/*/*", "/**/nothing", "/**/**/**/nothing"])
def test_a_search_has_an_end(tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for file in range(10):
            (tmp_path / f"{folder}/{file}").touch()
    monkeypatch.setattr(listing, "MOST_ENTRIES", 50)
    with pytest.raises(DataError, match=r"more than 50 files and folders: name a smaller part"):
        listed(f"{tmp_path}{pattern}")
    monkeypatch.setattr(listing, "MOST_ENTRIES", 10_000)
    monkeypatch.setattr(listing, "MOST_MATCHES", 30)
    if pattern.endswith("*"):
        with pytest.raises(DataError, match="matches more than 30 files: name a folder"):
            listed(f"{tmp_path}{pattern}")


def test_the_whole_machine_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_MATCHES", 1000)
    with pytest.raises(DataError, match=r"/\*\*/\* matches more than 1,000|cannot be read"):
        open_dataset("/**/*")


def test_whether_a_name_is_local_is_seen_by_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing may be searched")

    monkeypatch.setattr(os, "scandir", never)
    monkeypatch.setattr(os, "listdir", never)
    local = ["/**/*", "x*", "./x", "/x", "a/b/c", "-x.csv", "x.parquet", "a/[b]", "../**"]
    assert [name for name in local if not is_local(name)] == []
    assert [name for name in ("digits", "mnist", "owner/name", "", "x") if is_local(name)] == []


class TestUnreadable:
    """Folders that may not be read are an error, or a note where they may be left out."""

    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where the tests run as root everything is readable: the system's answer is replaced."""
        for name in ("good", "shut"):
            (tmp_path / "all" / name).mkdir(parents=True)
            (tmp_path / "all" / name / "x.parquet").touch()
        scandir = os.scandir

        def guarded(path: Path) -> object:
            if Path(path).name == "shut":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded)
        return tmp_path / "all"

    @pytest.mark.parametrize("pattern", ["", "/**/*.parquet", "/*/*.parquet"])
    def test_is_told(self, root: Path, pattern: str) -> None:
        with pytest.raises(DataError, match=r"shut cannot be read \(Permission .*`skip_corrupt`"):
            listed(f"{root}{pattern}")
        said: list[str] = []
        assert listed(f"{root}{pattern}", said.append) == [root / "good/x.parquet"]
        assert said == [
            f"Leaves out what is in {root}/shut: it cannot be read (Permission denied)."
        ]
