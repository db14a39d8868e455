"""No module imports upward, and heavy imports stay off the path of --help."""

import ast
from pathlib import Path

import pytest

import smoothctl

ROOT = Path(smoothctl.__file__).parent
LAYERS = [
    {"errors", "__init__"},
    {"config", "rng"},
    {"distributed"},
    {"storage"},
    {"registry"},
    {"kernels", "architectures", "datasets"},
    {"smoothing"},
    {"runs"},
    {"metrics"},
    {"training"},
    {"sweeps"},
    {"sampling"},
    {"evaluation"},
    {"reporting"},
    {"sharing"},
    {"reproduce"},
    {"cli", "api", "__main__"},
    {"testing"},
]
"""The rooms of the house, the lowest first."""

APART = [{"kernels", "architectures", "datasets"}]
"""Rooms of one layer that must not know each other."""

HEAVY = {"torch", "accelerate", "datasets", "matplotlib", "numpy", "pydantic", "safetensors"}


def _room(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "smoothctl":
        return None
    return parts[1] if len(parts) > 1 else "__init__"


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "smoothctl":
                found += [f"smoothctl.{alias.name}" for alias in node.names]
            else:
                found.append(node.module)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def _layer(room: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_imports_upward(path: Path) -> None:
    relative = path.relative_to(ROOT)
    here = relative.parts[0].removesuffix(".py")
    if here == "__init__":
        pytest.skip("re-exports lazily")
    for module in _imports(path):
        there = _room(module)
        if there is None or there.startswith("__version"):
            continue
        assert _layer(there) <= _layer(here), f"{relative} imports {module}"
        for rooms in APART:
            assert not ({here, there} <= rooms and here != there), f"{relative} imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda p: p.name)
def test_verbs_import_nothing_heavy_at_module_level(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not {str(name).split(".")[0] for name in names} & HEAVY
