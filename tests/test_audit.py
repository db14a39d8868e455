"""The audit: which packages, which licences, and what it says where nothing could be audited."""

import subprocess
import sys
from email.message import Message
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

from tools import audit

ROOT = Path(__file__).parents[1]


class Package(Distribution):
    """A package with the given metadata."""

    def __init__(self, **metadata: str) -> None:
        self.message = Message()
        for key, value in {"Name": "p", "Version": "1", **metadata}.items():
            self.message[key.replace("_", "-")] = value

    @property
    def metadata(self) -> Any:
        return self.message

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        return path


def test_what_is_needed_directly_and_not() -> None:
    names = set(audit.needed())
    assert {"torch", "typer", "sympy", "networkx"} <= names  # torch needs sympy
    assert not {"smoothctl", "pytest", "mypy"} & names
    assert {"pytest", "mypy"} <= set(audit.needed(extras=["dev"]))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"License_Expression": "MIT AND Zlib"}, "MIT AND Zlib"),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: BSD License"}, "BSD-3-Clause"),
        ({"License": "Apache License\nVersion 2.0 …"}, "Apache-2.0"),
        ({"License": "GPL-3.0"}, "GPL-3.0"),
        ({}, "unknown"),
    ],
)
def test_licence(metadata: dict[str, str], expected: str) -> None:
    assert audit.licence(Package(**metadata)) == expected


@pytest.mark.parametrize(
    ("expression", "fine"),
    [("MIT", True), ("MIT AND Zlib", True), ("GPL-3.0 OR MIT", True), ("(MIT)", True),
     ("GPL-3.0", False), ("MIT AND GPL-3.0", False), ("unknown", False)],
)  # fmt: skip
def test_allowed(expression: str, fine: bool) -> None:
    assert audit.allowed(expression) is fine


def test_licences_of_this_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.print_licences(audit.needed()), capsys.readouterr().out
    assert not audit.print_licences({"p": Package(License_Expression="AGPL-3.0")})
    assert "NOT ON THE LIST" in capsys.readouterr().out
    assert audit.print_licences({"nvidia-p": Package(License="NVIDIA")})


def test_vulnerabilities(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = {"a": Package(), "b": Package()}
    faults = [{"id": "PYSEC-1", "fix_versions": ["2"]}]
    answers = {"a": {"version": "1", "vulns": []}, "b": {"version": "1", "vulns": faults}}
    monkeypatch.setattr(audit, "audited", lambda some: [{"name": n, **answers[n]} for n in some])
    assert not audit.print_vulnerabilities(packages)
    assert "b 1: PYSEC-1, fixed by 2" in capsys.readouterr().out
    faults.clear()
    assert audit.print_vulnerabilities(packages)
    answers["b"] = {"skip_reason": "not on PyPI"}
    assert not audit.print_vulnerabilities(packages)
    assert "Not audited, as PyPI does not have them: b." in capsys.readouterr().out
    answers["a"] = {"skip_reason": "no network"}
    assert not audit.print_vulnerabilities(packages)
    assert "reaches no database" in capsys.readouterr().out


def test_unsafe_calls_are_found() -> None:
    """`nox -s audit`, and lint with all other rules, ask this of the whole repository."""
    unsafe = "import pickle, subprocess\npickle.loads(a)\neval(b)\nsubprocess.run(c, shell=True)\n"
    command = [sys.executable, "-m", "ruff", "check", "--select", "S", "--output-format=concise"]
    command += ["--stdin-filename", "smoothctl/unsafe.py", "-"]
    done = subprocess.run(command, input=unsafe, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert {"S301", "S307", "S602"} <= set(done.stdout.split())
