"""Where the cache is."""

from pathlib import Path

import pytest

from smoothctl.storage.cache import cache_folder


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOOTHCTL_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("SMOOTHCTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/smoothctl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert cache_folder() == Path("/h/.cache/smoothctl")
