"""The command line, for the tests of it."""

from smoothctl.testing import cli

__all__ = ["cli"]
