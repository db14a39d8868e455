"""Writes docs/cli.md from the commands' own help: `nox -s cli-reference`."""

import html
import subprocess
import sys
from pathlib import Path

__all__ = ["PATH", "text"]

PATH = Path(__file__).parents[1] / "docs/cli.md"


def text() -> str:
    """Returns the reference of all commands as Markdown."""
    command = [sys.executable, "-m", "typer", "smoothctl.cli", "utils", "docs"]
    done = subprocess.run(
        [*command, "--name", "smoothctl", "--title", "Command line"],
        capture_output=True,
        text=True,
        check=True,
    )
    return html.unescape(done.stdout).rstrip() + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
