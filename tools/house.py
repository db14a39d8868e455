"""The house in figures: how far a reader walks with one x̃ and with one batch, and how large it is.

    python -m tools.house

Traces `smoothctl sample` on a small run of digits, from the verb's function to the PNG, and one
step of `smoothctl fit-prior` on rings, from the batch to the averaged weights. A call between files
is a pair (file that calls, file that is called); what runs while a module is imported does not
count. Another version is measured by `PYTHONPATH=ITS_CHECKOUT python THIS_FILE`.
"""

import ast
import contextlib
import inspect
import io
import sys
import tempfile
import tokenize
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType

import smoothctl

ROOT = Path(smoothctl.__file__).parent
STEP = ("_step", "step")
"""What the method of the training loop is called that takes one optimiser step."""


class Trace:
    """The files of smoothctl that run below a function, and the calls between them.

    Args:
        begins: whether a function is where the walk begins.
        once: the walk is the second such call alone.
    """

    def __init__(self, begins: Callable[[CodeType], bool], once: bool = False) -> None:
        self.begins, self.once, self.calls = begins, once, 0
        self.files: set[str] = set()
        self.edges: set[tuple[str, str]] = set()
        self.builds = 0
        self.crossings = self.depth = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Takes what `sys.setprofile` tells."""
        code = frame.f_code
        if event != "call" or not _is_ours(code):
            return
        stack = list(_stack(frame))
        if any(not each.co_flags & inspect.CO_OPTIMIZED for each in stack):
            return  # a module or class body: an import
        self.builds += code.co_name == "build" and _name(code) in ("config.py", "configs.py")
        starts = [i for i, each in enumerate(stack) if self.begins(each)]
        if not starts:
            return
        self.calls += starts[-1] == 0
        if self.once and self.calls != 2:
            return
        self.files.add(_name(code))
        if code.co_name == "draw" and "pixelcnnpp" in _name(code):
            self.depth = self.depth or starts[-1]
        if starts[-1] > 0 and stack[1].co_filename != code.co_filename:
            self.edges.add((_name(stack[1]), _name(code)))
            self.crossings += 1


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(str(ROOT))


def _name(code: CodeType) -> str:
    return str(Path(code.co_filename).relative_to(ROOT))


def _stack(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        if _is_ours(frame.f_code):
            yield frame.f_code
        frame = frame.f_back


def run(*arguments: str, trace: Trace | None = None) -> None:
    """Runs a command line in this process, quietly."""
    from smoothctl.__main__ import main

    sys.argv = ["smoothctl", *arguments, "--device", "cpu", "--quiet"]
    sys.setprofile(trace)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        sys.setprofile(None)


def sampling() -> Trace:
    """Returns the walk of one x̃ from `sample` to the PNG."""
    small = ["--set", "filters=4", "--set", "scales=2", "--steps", "2", "--batch-size", "4"]
    small += ["--set", "training.validation_limit=8", "--out", "digits"]
    run("fit-prior", "--dataset", "digits", *small)
    run("fit-denoiser", *small)
    trace = Trace(lambda code: _name(code) == "cli/sample.py" and code.co_name == "command")
    run("sample", "digits", "-n", "4", "--set", "sampler=cached", trace=trace)
    return trace


def training() -> Trace:
    """Returns the walk of one batch to the optimiser's step; its `builds` are the whole fit's."""
    trace = Trace(
        lambda code: _name(code).startswith("training/") and code.co_name in STEP, once=True
    )
    run("fit-prior", "--dataset", "rings", "--steps", "3", "--out", "rings", trace=trace)
    return trace


def code_lines(path: Path) -> int:
    """Returns the lines of a module that are neither blank nor comment nor docstring."""
    text = path.read_text()
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else []:
            value = getattr(child, "value", None) if isinstance(child, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                documentation.update(range(child.lineno, (child.end_lineno or 0) + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    silent.add(tokenize.ENDMARKER)
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            used.update(range(token.start[0], token.end[0] + 1))
    return len(used - documentation)


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yields name, parameters and lines of the body of each function of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            a = node.args
            names = [each.arg for each in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield node.name, len([n for n in names if n not in ("self", "cls")]), lines


def size() -> dict[str, int]:
    """Returns how large the house is."""
    modules = sorted(ROOT.rglob("*.py"))
    every = [(path, *each) for path in modules for each in functions(path)]
    commands = [lines for path, name, _, lines in every if name == "command"]
    return {
        "modules in the root": len([p for p in ROOT.glob("*.py") if p.stem != "__init__"]),
        "packages in the root": len([p for p in ROOT.iterdir() if (p / "__init__.py").is_file()]),
        "files": len(modules),
        "code lines": sum(map(code_lines, modules)),
        "functions with more than six parameters": len(
            [n for _, name, n, _ in every if n > 6 and name != "command"]
        ),
        "longest body of a command": max(commands, default=0),
    }


def figures() -> dict[str, int]:
    """Returns all figures, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        x_smooth, batch = sampling(), training()
    return {
        "files from sample to the PNG": len(x_smooth.files),
        "calls between them": len(x_smooth.edges),
        "frames above one pixel's draw": x_smooth.depth,
        "files from a batch to the step": len(batch.files),
        "calls from one of them to another": batch.crossings,
        "builds of a Config in one fit": batch.builds,
        **size(),
    }


def main(arguments: Sequence[str] = ()) -> None:
    """Prints the figures; with --files also the files of the first walk."""
    if "--files" in arguments:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for trace in (sampling(), training()):
                print(*sorted(trace.files), "", sep="\n")
                print(*(f"{a} -> {b}" for a, b in sorted(trace.edges)), "", sep="\n")
    for name, value in figures().items():
        print(f"{name:42}{value:8,}")


if __name__ == "__main__":
    main(sys.argv[1:])
