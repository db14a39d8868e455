"""`python tests/without.py PACKAGES < COMMANDS`: command lines where packages are not installed.

COMMANDS is JSON, a list of words each; so is what is printed, exit code, stdout and stderr each.
"""

import importlib.metadata
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.abc import MetaPathFinder
from io import StringIO

from smoothctl.cli import main

MODULES = {"clean-fid": "cleanfid"}


class Missing(MetaPathFinder):
    """Finds nothing of some packages: neither their modules nor what they say of themselves."""

    def __init__(self, packages: list[str]) -> None:
        self.packages, self.from_name = packages, importlib.metadata.Distribution.from_name
        self.modules = {MODULES.get(package, package) for package in packages}

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.partition(".")[0] in self.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def distribution(self, name: str) -> importlib.metadata.Distribution:
        if name in self.packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return self.from_name(name)


def run(words: list[str]) -> tuple[int, str, str]:
    sys.argv, code = ["smoothctl", *words], 0
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    missing = Missing(sys.argv[1].split(","))
    sys.meta_path.insert(0, missing)
    importlib.metadata.Distribution.from_name = missing.distribution
    print(json.dumps([run(words) for words in json.load(sys.stdin)]))
