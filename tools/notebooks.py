"""Runs the notebooks of docs/notebooks from first cell to last, each in an empty folder.

python -m tools.notebooks [NAME ...]
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def main(names: list[str]) -> None:
    """Runs those that are named, or all."""
    for file in sorted(FOLDER.glob("*.ipynb")):
        if names and file.stem not in names:
            continue
        begun = time.monotonic()
        notebook = nbformat.read(file, as_version=4)
        with TemporaryDirectory() as empty:
            NotebookClient(
                notebook, timeout=1800, resources={"metadata": {"path": empty}}
            ).execute()
        print(f"{file.name}: {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
