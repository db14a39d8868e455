"""Writes packages as an installer leaves them: modules beside a dist-info folder."""

from pathlib import Path

__all__ = ["write_package"]


def write_package(
    root: Path,
    package: str,
    files: dict[str, str],
    points: dict[str, dict[str, str]],
    requires: tuple[str, ...] = (),
) -> Path:
    """Writes a package, version 1.2, into the folder `root`, and returns its dist-info folder.

    Args:
        root: a folder that stands, or is to stand, on sys.path.
        package: its name.
        files: module file -> code.
        points: entry-point group -> name -> value.
        requires: its Requires-Dist lines.
    """
    info = root / f"{package.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    head = ["Metadata-Version: 2.1", f"Name: {package}", "Version: 1.2"]
    lines = [*head, *(f"Requires-Dist: {line}" for line in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = ""
    for group, entries in points.items():
        text += f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
    (info / "entry_points.txt").write_text(text, encoding="utf-8")
    for name, code in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(code, encoding="utf-8")
    return info
