"""Compiles the sampler of PixelCNN++: run when smoothctl is installed, or by hand.

    python -m smoothctl.architectures.pixelcnnpp.native.build

Nothing but Python and a C++ compiler (g++ or clang++, or what CXX names) is needed. Everything works
without the result, which makes sampling several times as fast.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LIBRARY", "CompilerError", "build", "fingerprint"]

HERE = Path(__file__).parent
LIBRARY = HERE / "sampler.so"

_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
_PORTABLE: dict[str, tuple[str, ...]] = {"portable": ("-DLANES=4",)}
_X86: dict[str, tuple[str, ...]] = {
    **_PORTABLE,
    "avx2": ("-DLANES=8", "-mavx2", "-mfma"),
    "avx512": ("-DLANES=16", "-mavx512f", "-mfma"),
}
"""Kind of processor -> how its sampler is compiled; which one runs is decided when it is loaded."""


class CompilerError(Exception):
    """Says why the sampler cannot be compiled here."""


def fingerprint() -> str:
    """Returns what tells one state of the sources from another."""
    digest = hashlib.sha256()
    for file in sorted([*HERE.glob("*.cpp"), *HERE.glob("*.h")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def build(library: Path = LIBRARY, flags: Sequence[str] = ()) -> None:
    """Compiles the sampler, for every kind of processor of this machine's family.

    Args:
        library: the file to write.
        flags: more flags for the compiler, such as a sanitizer's.

    Raises:
        CompilerError: there is no compiler, or it fails.
    """
    compiler = _compiler()
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for name, own in (_X86 if x86 else _PORTABLE).items():
            objects.append(f"{folder}/{name}.o")
            defined = [f"-DPROCESSOR={name}", *own]
            _run(compiler, *_FLAGS, *flags, *defined, "-c", HERE / "sampler.cpp", "-o", objects[-1])
        defined = [f'-DFINGERPRINT="{fingerprint()}"', *(["-DWITH_AVX"] if x86 else [])]
        made = f"{folder}/sampler.so"
        last = [*defined, HERE / "processors.cpp", *objects, "-shared", "-o", made]
        _run(compiler, *_FLAGS, *flags, *last)
        beside = library.with_suffix(f".{os.getpid()}")  # whoever has the old one open keeps it
        shutil.copyfile(made, beside)
        beside.replace(library)


def _compiler() -> str:
    if sys.platform == "win32":
        raise CompilerError("it is compiled on Linux and macOS alone")
    chosen = os.environ.get("CXX")
    for name in [chosen] if chosen else ["c++", "g++", "clang++"]:
        if found := shutil.which(name):
            return found
    raise CompilerError(f"there is no C++ compiler ({chosen or 'c++, g++ or clang++'})")


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise CompilerError(f"{command[0]} failed: {done.stderr.strip()[:2000]}")


if __name__ == "__main__":
    try:
        build()
    except CompilerError as error:
        sys.exit(f"The sampler is not compiled: {error}.")
