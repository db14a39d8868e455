"""Copies this plugin under a name of your own: python plugins/template/new.py NAME."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
PARTS = ("pyproject.toml", "README.md", "src", "tests")


def copy(name: str, folder: Path) -> Path:
    """Writes the plugin smoothctl-NAME into a new folder of that name and returns it.

    Args:
        name: in lower case, such as "wave" or "my-flow"; the entries become NAME-mixture, ...
        folder: where the new folder is made.
    """
    if not NAME.fullmatch(name) or len(name) > 40:
        sys.exit(f"The name {name!r} must be lower-case words joined by '-', such as my-flow.")
    new = folder / f"smoothctl-{name}"
    if new.exists():
        sys.exit(f"{new} is there already: take another name, or remove it.")
    new.mkdir(parents=True)
    for source in sorted(path for part in PARTS for path in files(HERE / part)):
        text = source.read_text(encoding="utf-8")
        text = text.replace("smoothctl_template", module(name)).replace("template-", f"{name}-")
        target = new / str(source.relative_to(HERE)).replace("smoothctl_template", module(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("smoothctl-template", f"smoothctl-{name}"), encoding="utf-8")
    return new


def files(path: Path) -> list[Path]:
    """Returns a file, or those of a folder that people write."""
    return [path] if path.is_file() else [p for p in path.rglob("*") if p.suffix == ".py"]


def module(name: str) -> str:
    """Returns the name that Python imports."""
    return f"smoothctl_{name.replace('-', '_')}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    print(f"{copy(sys.argv[1], Path())} is yours: cd into it, and pip install -e '.[test]'")
