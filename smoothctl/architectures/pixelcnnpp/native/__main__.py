"""Compiles the sampler by hand; see build.py."""

import sys

from smoothctl.architectures.pixelcnnpp.native.build import CompilerError, build
from smoothctl.architectures.pixelcnnpp.native.library import processors

try:
    build()
except CompilerError as error:
    sys.exit(f"The sampler is not compiled: {error}.")
sys.stdout.write(f"Compiled; this processor runs {' and '.join(processors())}.\n")
