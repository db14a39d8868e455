"""The command line in a test: the fixture `cli`, for a conftest.py to import."""

import sys
from pathlib import Path

import pytest

from smoothctl.cli import main

__all__ = ["CommandLine", "cli"]


class CommandLine:
    """Runs what a person types, in this process.

    Args:
        capsys: reads what is printed.
        monkeypatch: sets the words.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *words: object) -> tuple[int, str, str]:
        """Returns exit code, stdout and stderr of `smoothctl WORDS`."""
        self._monkeypatch.setattr(sys, "argv", ["smoothctl", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return code, *self._capsys.readouterr()

    def output(self, *words: object) -> str:
        """Returns stdout of a command that must succeed."""
        code, out, err = self(*words)
        assert code == 0, err
        return out


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    """Runs command lines in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys, monkeypatch)
