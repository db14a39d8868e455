"""Listing imports nothing; broken, ambiguous and foreign plugins are told in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from smoothctl import kernels, reproduce
from smoothctl.errors import UsageError
from smoothctl.kernels.base import Kernel
from smoothctl.registry.registry import ALLOWED_PACKAGES, Registry
from tests.packages import write_package


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that makes an importable package with kernel entry points."""

    def add(package: str, code: str, requires: tuple[str, ...] = (), **points: str) -> None:
        root = tmp_path / package
        module = package.replace("-", "_")
        sys.modules.pop(module, None)
        write_package(
            root, package, {f"{module}.py": code}, {"smoothctl.kernels": points}, requires
        )
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


@pytest.mark.parametrize("code", ["import sys; sys.exit('bye')", "raise BaseException('bye')"])
def test_an_import_that_would_end_the_process_is_an_error(install, code: str) -> None:
    install("their-kernels", code, theirs="their_kernels:Mine")
    with pytest.raises(UsageError, match=r"their-kernels 1.2 cannot be imported .*bye"):
        kernels.load("theirs")


def test_an_interrupted_import_interrupts(install) -> None:
    install("their-kernels", "raise KeyboardInterrupt", theirs="their_kernels:Mine")
    with pytest.raises(KeyboardInterrupt):
        kernels.load("theirs")


def test_what_an_import_prints_stays_off_stdout(install, capsys) -> None:
    install("their-kernels", "print('hello')\n" + GOOD, theirs="their_kernels:Mine")
    kernels.load("theirs")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("requires", "message"),
    [
        ("smoothctl>=99", "was written for smoothctl >=99, .*pip install --upgrade their-kernels"),
        ("absent-package>=2", "needs absent-package>=2, .*run pip install 'absent-package>=2'"),
    ],
)
def test_requirements_are_checked_before_the_import(install, requires: str, message: str) -> None:
    install("their-kernels", "raise RuntimeError", (requires,), theirs="their_kernels:Mine")
    with pytest.raises(UsageError, match=f"'theirs' of their-kernels 1.2 {message}"):
        kernels.load("theirs")
    assert "their_kernels" not in sys.modules


def test_odd_names_are_refused_and_not_offered(install) -> None:
    install("their-kernels", GOOD, **{"the\x1birs": "their_kernels:Mine"})
    with pytest.raises(
        UsageError, match=r"'the\\u001birs' of their-kernels 1.2 has a name that is"
    ):
        kernels.load("the\x1birs")
    assert "the\x1birs" not in kernels.names()
    with pytest.raises(UsageError, match=r"There is no kernel 'x\\u001b'"):
        kernels.load("x\x1b")


def test_a_name_that_one_package_declares_twice_is_refused(install) -> None:
    install("their-kernels", GOOD, **{"mine": "their_kernels:Mine", "mine ": "their_kernels:Other"})
    with pytest.raises(UsageError, match=r"'mine' of their-kernels 1.2 is declared twice"):
        kernels.load("mine")


def test_experiments_are_instances_by_the_same_door() -> None:
    assert set(reproduce.names()) >= {
        "rings",
        "olympics",
        "realnvp",
        "digits",
        "inverse-u",
        "parallel-sampling",
    }
    for name in reproduce.names():
        assert reproduce.load(name).name == name
        assert reproduce.load(name).summary


def test_a_plain_name_is_smoothctls_own_whoever_else_declares_it(install) -> None:
    install("their-kernels", GOOD, gaussian="their_kernels:Mine")
    assert kernels.load("gaussian") is kernels.load("smoothctl:gaussian")
    assert kernels.load("gaussian").summary != "mine"
    assert kernels.load("their-kernels:gaussian").summary == "mine"
    assert {"gaussian", "their-kernels:gaussian"} <= set(kernels.names())
    assert kernels.registry.qualified("smoothctl:gaussian") == "gaussian"
    assert kernels.registry.qualified("Their_Kernels:gaussian") == "their-kernels:gaussian"
    assert not kernels.registry.same("gaussian", "their-kernels:gaussian")


def test_one_name_from_two_packages_needs_the_package(install, monkeypatch) -> None:
    install("their-kernels", GOOD, mine="their_kernels:Mine")
    assert kernels.registry.qualified("mine") == "their-kernels:mine"
    assert kernels.registry.same("mine", "their-kernels:mine")
    install("other-kernels", GOOD, mine="other_kernels:Mine")
    said = "write other-kernels:mine or their-kernels:mine, or name one of them in SMOOTHCTL_PLUG"
    with pytest.raises(UsageError, match=said):
        kernels.load("mine")
    assert not kernels.registry.same("mine", "their-kernels:mine")
    monkeypatch.setenv(ALLOWED_PACKAGES, "their-kernels")
    assert kernels.registry.qualified("mine") == "their-kernels:mine"


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
    empty: Registry[Kernel] = Registry(
        "smoothctl.nothing", "thing", "smoothctl.kernels.base:Kernel"
    )
    with pytest.raises(UsageError, match="There is no thing 'x'; known: none"):
        empty.load("x")


def test_registries_are_made_without_torch() -> None:
    code = (
        "import sys, smoothctl; from smoothctl import architectures, datasets, kernels;"
        "print(kernels.names()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
