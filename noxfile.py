"""Everything a developer runs; `nox` alone runs what CI runs, in the current environment."""

import sys

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "docs", "tests"]


def _python(session: nox.Session, *arguments: str) -> None:
    """Runs a module of the environment that nox itself runs in."""
    session.run(sys.executable, "-m", *arguments, external=True)


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
    _python(session, "mkdocs", "build", "--strict", "--quiet", *session.posargs)


@nox.session(name="cli-reference")
def cli_reference(session: nox.Session) -> None:
    """Writes docs/cli.md anew from the commands' own help."""
    _python(session, "tests.cli_reference")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the slow ones."""
    _python(session, "pytest", "-m", "not slow", *session.posargs)


@nox.session
def reproduce(session: nox.Session) -> None:
    """The tests that need minutes of training: the papers' claims."""
    _python(session, "pytest", "tests", "-m", "slow", "--timeout", "7200", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Speeds, as ratios against a baseline in the same run."""
    _python(session, "benchmarks.training")
    _python(session, "benchmarks.images", *session.posargs)
    _python(session, "benchmarks.metrics")
    _python(session, "benchmarks.neighbours")
