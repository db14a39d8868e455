"""`python tests/without.py PACKAGES WORDS…`: the command line where packages are missing."""

import importlib.metadata
import sys
from importlib.abc import MetaPathFinder

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


if __name__ == "__main__":
    missing = Missing(sys.argv.pop(1).split(","))
    sys.meta_path.insert(0, missing)
    importlib.metadata.Distribution.from_name = missing.distribution
    main()
