"""Listing imports nothing; broken, ambiguous and foreign plugins are told in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from smoothctl import kernels
from smoothctl.errors import UsageError
from smoothctl.kernels.base import Kernel
from smoothctl.registry import ALLOWED_PACKAGES, Registry


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that makes an importable package with kernel entry points."""

    def add(package: str, code: str, **points: str) -> None:
        root = tmp_path / package
        module = package.replace("-", "_")
        info = root / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[smoothctl.kernels]", *lines]) + "\n")
        (root / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(str(root))

    return add


GOOD = (
    "from smoothctl.kernels.gaussian import Gaussian\nclass Mine(Gaussian):\n    summary = 'mine'\n"
)


def test_a_third_party_enters_by_the_same_door(install) -> None:
    install("their-kernels", GOOD, theirs="their_kernels:Mine")
    assert "theirs" in kernels.names()
    assert issubclass(kernels.load("theirs"), Kernel)
    entry = kernels.registry.find("theirs")
    assert (entry.package, entry.version) == ("their-kernels", "1.2")


def test_listing_imports_no_plugin(install) -> None:
    install("broken-kernels", "raise RuntimeError('boom')", broken="broken_kernels:Mine")
    assert "broken" in kernels.names()
    assert "broken_kernels" not in sys.modules


def test_a_broken_plugin_is_named_and_breaks_nothing_else(install) -> None:
    install("broken-kernels", "raise RuntimeError('boom')", broken="broken_kernels:Mine")
    with pytest.raises(UsageError, match=r"broken-kernels 1.2 cannot be imported .*boom"):
        kernels.load("broken")
    assert kernels.load("gaussian")(1.0).sigma == 1


def test_a_class_of_another_kind_is_refused(install) -> None:
    install("odd-kernels", "Mine = dict", odd="odd_kernels:Mine")
    with pytest.raises(UsageError, match="is no Kernel"):
        kernels.load("odd")


def test_one_name_from_two_packages_needs_the_package(install) -> None:
    install("their-kernels", GOOD, gaussian="their_kernels:Mine")
    with pytest.raises(UsageError, match="smoothctl:gaussian or their-kernels:gaussian"):
        kernels.load("gaussian")
    assert kernels.load("their-kernels:gaussian").summary == "mine"
    assert kernels.load("smoothctl:gaussian").summary != "mine"


def test_the_allow_list_hides_other_packages(install, monkeypatch) -> None:
    install("their-kernels", GOOD, theirs="their_kernels:Mine")
    monkeypatch.setenv(ALLOWED_PACKAGES, "")
    assert "theirs" not in kernels.names()
    assert "gaussian" in kernels.names()
    monkeypatch.setenv(ALLOWED_PACKAGES, "their-kernels")
    assert "theirs" in kernels.names()


@pytest.mark.parametrize(
    ("name", "hint"), [("gausian", "did you mean gaussian"), ("zzz", "known: .*laplace")]
)
def test_unknown_names_get_near_misses(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        kernels.load(name)


def test_an_empty_group_says_none() -> None:
    empty: Registry[Kernel] = Registry("smoothctl.nothing", "thing", lambda: Kernel)
    with pytest.raises(UsageError, match="There is no thing 'x'; known: none"):
        empty.load("x")


def test_registries_are_made_without_torch() -> None:
    code = (
        "import sys, smoothctl; from smoothctl import architectures, datasets, kernels;"
        "print(kernels.names()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
