"""Compiles the sampler of PixelCNN++: run when smoothctl is installed, or by hand.

    python -m smoothctl.architectures.pixelcnnpp.native

It needs a C++ compiler: g++, clang++ or what CXX names. Everything works without the result, which
makes sampling several times as fast.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
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
        made = {
            f"{folder}/{name}.o": (name, own) for name, own in (_X86 if x86 else _PORTABLE).items()
        }
        same = (compiler, *_FLAGS, *flags)
        _run_all(
            [*same, f"-DPROCESSOR={name}", *own, "-c", str(HERE / "sampler.cpp"), "-o", to]
            for to, (name, own) in made.items()
        )
        defined = [f'-DFINGERPRINT="{fingerprint()}"', *(["-DWITH_AVX"] if x86 else [])]
        linked = f"{folder}/{library.name}"
        last = [str(HERE / "processors.cpp"), *made, "-shared", "-o", linked]
        _run_all([[*same, *defined, *last]])
        beside = library.with_suffix(f".{os.getpid()}")  # whoever has the old one open keeps it
        shutil.copyfile(linked, beside)
        beside.replace(library)


def _compiler() -> str:
    if sys.platform == "win32":
        raise CompilerError("it is compiled on Linux and macOS alone")
    chosen = os.environ.get("CXX")
    for name in [chosen] if chosen else ["c++", "g++", "clang++"]:
        if found := shutil.which(name):
            return found
    raise CompilerError(f"there is no C++ compiler ({chosen or 'c++, g++ or clang++'})")


def _run_all(commands: Iterable[Sequence[str]]) -> None:
    """Runs compilers side by side."""
    running = [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in commands]  # noqa: S603
    said = [each.communicate()[1].strip()[:2000] for each in running]
    for process, text in zip(running, said, strict=True):
        if process.returncode:
            raise CompilerError(f"the compiler failed: {text}")
