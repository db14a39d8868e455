"""Draws images of many shapes by the compiled sampler in a given file; the child of a sanitizer."""

import sys
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from smoothctl.architectures.pixelcnnpp.compiled import CompiledSampler
from smoothctl.architectures.pixelcnnpp.native.library import processors
from tests.test_compiled import assert_agree, choices, network

LIBRARY = Path(sys.argv[1])


@settings(max_examples=60, deadline=None, database=None)
@given(options=choices(), n=st.integers(1, 18))
def check(options: dict[str, Any], n: int) -> None:
    density = network(**options)
    for kind in processors(LIBRARY):
        assert_agree(density, CompiledSampler(kind, LIBRARY), n)


if __name__ == "__main__":
    check()
