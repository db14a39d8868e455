"""Every example in README and docs runs; the command reference names every option."""

import re
import shlex
from pathlib import Path

import pytest

from smoothctl import reproduce
from smoothctl.cli import app
from smoothctl.testing import CommandLine

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)

FEWER = {
    "score": "--limit 40 --draws 2 --samples 40 --quadrature 2",
    "sweep": "--steps 3 --batch-size 16 --points 2 --set training.validation_limit=16 --device cpu",
    "fit": "--steps 3 --batch-size 16 --set training.validation_limit=16 --device cpu",
}
"""What makes each verb quick; later flags win."""

IMAGES = {"digits", "photos", "pixelcnnpp"}
"""What an example fits a network of images to, or with; a small one is quick."""

LONG = {"how-to.md", "python.md", "reference.md", "sweeps.md", "tutorial.md"}
EACH = [pytest.param(p, marks=[pytest.mark.slow] * (p.name in LONG)) for p in PAGES]


def _examples(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def _run_command(line: str, cli: CommandLine) -> None:
    words = shlex.split(line)
    if words[1] == "quickstart":  # test_cli has it
        return
    if words[1] == "reproduce" and len(words) > 2:  # test_reproduce has each of them
        assert words[2] in reproduce.names(), line
        return
    extra = next((flags for verb, flags in FEWER.items() if words[1].startswith(verb)), "")
    if {"--help", "--reference", "--status"} & set(words):
        extra = ""
    if IMAGES & set(words) and not any(word.startswith("filters=") for word in words):
        extra += " --set filters=4" if words[1] in ("fit-prior", "fit-baseline") else ""
    if "--bound" in words:
        extra += " --temperatures 3"
    if words[-2:] == ["--samples", "0"]:
        extra = extra.replace("--samples 40", "")
    code, _, err = cli(*words[1:], *extra.split())
    assert not code, f"'{line}' exits with {code}: {err}"


@pytest.mark.parametrize("page", EACH, ids=lambda p: p.name)
def test_examples_run(page: Path, cli: CommandLine, capsys) -> None:
    if page.name == "cli.md":
        pytest.skip("usage lines, not examples")
    for kind, code in _examples(page):
        if kind == "python":
            code = code.replace('"steps": 300', '"steps": 4, "validation_limit": 64')
            exec(compile(code, page.name, "exec"), {"__name__": "example"})
            continue
        for line in code.splitlines():
            if line.startswith("$ smoothctl"):
                _run_command(line.removeprefix("$ "), cli)
    capsys.readouterr()


def test_the_command_reference_names_every_verb_and_option() -> None:
    from typer.main import get_command

    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    root = get_command(app)
    for name, command in root.commands.items():
        assert f"## `smoothctl {name}`" in text
        section = text.split(f"## `smoothctl {name}`")[1].split("\n## ")[0]
        for parameter in getattr(command, "params", []):
            for option in getattr(parameter, "opts", []):
                if option.startswith("--"):
                    assert option in section, f"{name} {option}: run nox -s cli-reference"


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^python3 -m venv .*bin/smoothctl quickstart$", text, re.MULTILINE)
    assert re.search(r"^python3 -m venv .*bin/nox$", text, re.MULTILINE)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} -> {target}"
