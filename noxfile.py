"""Everything a developer runs; `nox` alone runs what CI runs, in the current environment."""

import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "docs", "tests", "plugins"]

ROOT = Path(__file__).parent
PLUGINS = sorted(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))
TARGET = ROOT / ".nox" / "plugins"
"""Where the plugins are installed, so that nothing changes in the developer's environment."""

DISTRIBUTIONS = ROOT / ".nox" / "dist"
"""Where wheel and sdist are built."""

SHARED = ["-n", "auto", "--dist", "loadfile"]
"""A process a core, which takes whole files."""


def _python(session: nox.Session, *arguments: str, **options: Any) -> None:
    """Runs a module of the environment that nox itself runs in."""
    session.run(sys.executable, "-m", *arguments, external=True, **options)


def _install_plugins(session: nox.Session) -> None:
    """Installs all plugins, and what they need besides smoothctl, afresh into TARGET."""
    shutil.rmtree(TARGET, ignore_errors=True)
    needed = {
        requirement
        for folder in PLUGINS
        for requirement in tomllib.loads((folder / "pyproject.toml").read_text())["project"].get(
            "dependencies", []
        )
        if not requirement.startswith("smoothctl")
    }
    where = ["--target", str(TARGET), "--no-deps"]
    _python(session, "pip", "install", "--quiet", *where, *map(str, PLUGINS), *sorted(needed))


def _test_plugins(session: nox.Session, *arguments: str) -> None:
    """Runs the tests of all plugins, installed together."""
    _install_plugins(session)
    environment = {"PYTHONPATH": str(TARGET), "OMP_NUM_THREADS": "1"}  # for tiny networks
    folders = [str(folder / "tests") for folder in PLUGINS]  # with files of the same names
    _python(session, "pytest", "--import-mode=importlib", *folders, *arguments, env=environment)
    files = ["tests/test_kills.py", "tests/test_results_page.py"]
    _python(session, "pytest", *files, "-k", "plugin", *arguments, env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    _python(session, "ruff", "check", ".")
    _python(session, "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types."""
    _python(session, "mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation; a warning is an error."""
    _python(session, "zensical", "build", "--strict", "--clean", *session.posargs)


@nox.session(name="cli-reference")
def cli_reference(session: nox.Session) -> None:
    """Writes docs/cli.md anew from the commands' own help."""
    _python(session, "tests.cli_reference")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the slow ones."""
    one_thread = {"OMP_NUM_THREADS": "1"}  # of tiny networks; what a core does is counted above
    _python(session, "pytest", "-m", "not slow", *SHARED, *session.posargs, env=one_thread)


@nox.session
def plugins(session: nox.Session) -> None:
    """The plugins of this repository: their types and all tests but the slow ones."""
    _test_plugins(session, "-m", "not slow", *SHARED, *session.posargs)
    sources = [str(folder / "src") for folder in PLUGINS]
    path = os.pathsep.join([*sources, str(TARGET)])
    silent = ["--follow-imports", "silent"]  # type errors of zuko are not ours
    _python(session, "mypy", *silent, *sources, env={"MYPYPATH": path})


@nox.session
def reproduce(session: nox.Session) -> None:
    """The tests that need minutes of training: the papers' claims."""
    slow = ["-m", "slow", "--timeout", "7200"]
    _python(session, "pytest", "tests", *slow, *session.posargs)
    _test_plugins(session, *slow)


@nox.session
def notebooks(session: nox.Session) -> None:
    """Runs every notebook from its first cell to its last; minutes."""
    _python(session, "tools.notebooks", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Builds and checks wheel and sdist, and takes a newcomer through the wheel's first hour."""
    shutil.rmtree(DISTRIBUTIONS, ignore_errors=True)
    _python(session, "uv", "lock", "--check")
    _python(session, "build", "--outdir", str(DISTRIBUTIONS))
    built = sorted(map(str, DISTRIBUTIONS.iterdir()))
    _python(session, "twine", "check", "--strict", *built)
    (wheel,) = DISTRIBUTIONS.glob("*.whl")
    _python(session, "tests.newcomer", str(wheel), *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Unsafe calls in the code; licence and known vulnerabilities of all that smoothctl needs."""
    _python(session, "ruff", "check", "--select", "S", ".")
    _python(session, "tools.audit", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Speeds, as ratios against a baseline in the same run."""
    _python(session, "benchmarks.training")
    _python(session, "benchmarks.images", *session.posargs)
    _python(session, "benchmarks.metrics")
    _python(session, "benchmarks.neighbours")
    _python(session, "benchmarks.scaling")
