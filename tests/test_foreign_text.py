"""What others wrote changes nothing but what is read, on a terminal and on the page."""

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smoothctl.cli.console import Notes
from smoothctl.cli.endings import DEBUG, fail
from smoothctl.errors import RunError, escaped
from smoothctl.reporting.tables import Bold, Table, left, print_table
from smoothctl.runs.run import Run

FEW = settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
RED, FORGED = "\x1b]0;title\x07\x1b[31m", "a\nError: b"
CONTROLS = "\0\a\b\t\n\r\x1b\x7f\x85\x9b\u061c\u200e\u2028\u2029\u202e\u2066\u2069\ufeff\U000e0041"
ODD = st.text(
    st.one_of(
        st.sampled_from(CONTROLS),
        st.characters(categories=["Cc", "Cf", "L", "N", "P", "Zl", "Zp", "Zs"]),
    ),
    max_size=12,
)
BROKEN = st.text(st.one_of(st.characters(), st.sampled_from(CONTROLS + "\ud800\udc80\udfff")))
NAMES = st.text(st.sampled_from("aσ\a\n\x1b\x7f\x9b\u2028\u202e\udcff"), min_size=1, max_size=12)


def is_plain(text: str) -> bool:
    """Whether a text holds nothing that a terminal obeys, but ends of lines."""
    return all(c in "\n" or c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


@given(BROKEN)
def test_escaped_is_one_line_that_can_be_read_back(text: str) -> None:
    shown = escaped(text)
    assert is_plain(shown)
    assert "\n" not in shown
    assert escaped(shown) == shown
    if not {'"', "\\"} & set(text):
        assert json.loads(f'"{shown}"') == json.loads(json.dumps(text))


@pytest.mark.parametrize("text", ["x̃ = x + σ·ε", "Größe 日本語 𝔵 👍", "a\u00a0b\u3000c", r"C:\x1b"])
def test_what_people_write_stays(text: str) -> None:
    assert escaped(text) == text


@given(BROKEN)
@settings(FEW, max_examples=30)
def test_tables_notes_and_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(DEBUG, "1")
    print_table(Table(text, left(text, "b"), [[[text, Bold(text)]]], [text]))
    Notes().note(text)
    with pytest.raises(SystemExit):
        fail(RunError(text))
    assert all(map(is_plain, capsys.readouterr()))


@pytest.fixture
def remake(trained_run: Run, in_tmp: Path) -> Callable[..., Path]:
    """Makes a run, replacing the one before, in whose files somebody else wrote a text."""

    def run(name: str, text: str) -> Path:
        shutil.rmtree("runs", ignore_errors=True)
        folder = Path("runs") / name
        shutil.copytree(trained_run.path, folder)
        for file in folder.glob("*/config.toml"):
            content = tomlkit.parse(file.read_text()) | {"dataset": text, "preset": text}
            file.write_text(tomlkit.dumps(content), encoding="utf-8")
            with file.with_name("log.jsonl").open("a") as log:
                log.write(json.dumps({"step": 60, text: 1.0, "loss": text}) + "\n")
        (folder / "scores.json").write_text(json.dumps([_record(text)]))
        return folder

    return run


def _record(text: str) -> dict[str, Any]:
    """A scoring with a text wherever one may stand."""
    figures = {"nats": 1.0, "standard_error": 0.1, "examples": 9}
    return {
        **dict.fromkeys(("time", "smoothctl", "dataset"), text),
        "weights": "last",
        "likelihood": [{"model": m, "quantity": text, **figures} for m in (text, "two-step")],
        "samples": [{"method": text, "energy_distance": 0.5}],
        "quality": {
            **dict.fromkeys(("features", "reference"), text),
            "warnings": [text],
            "rows": [{"samples": text, "count": 3, "frechet_distance": 2.0}],
        },
        "not_available": {text: text},
    }


@given(NAMES, ODD)
@example("a", RED)
@example(RED, FORGED)
@FEW
def test_the_files_and_the_name_of_a_run(
    remake: Callable[..., Path], cli: Any, name: str, text: str
) -> None:
    run = remake(name, text)
    for words in (["compare", run], ["compare", run, "--json"], ["compare", run, "--markdown"],
                  ["score", run, "--limit", "1"], ["sample", run, "-n", "1"],
                  ["sample", run / text.replace("\0", "")], ["score", run, text]):  # fmt: skip
        code, out, err = cli(*words)
        assert is_plain(out + err), words
        errors = [line for line in err.split("\n") if line.startswith("Error: ")]
        assert len(errors) == (code != 0), words
        if "--json" in words and code == 0:
            assert json.loads(out)[0]["rows"][0]["model"] in (text, "two-step")


def test_the_page(remake: Callable[..., Path], cli: Any) -> None:
    run = remake(RED, CONTROLS + RED + FORGED)
    code, out, err = cli("report", run, "--no-samples")
    assert code == 0, err
    assert is_plain(out + err)
    assert out == f"{escaped(str(run / 'report.html'))}\n"
    assert is_plain((run / "report.html").read_text(encoding="utf-8"))


def test_the_holder_of_a_lock(trained_run: Run, cli: Any, in_tmp: Path) -> None:
    shutil.copytree(trained_run.path, "mine")
    lock = {"host": RED + FORGED, "pid": 1}
    Path("mine/samples").mkdir(exist_ok=True)
    Path("mine/samples/.a.npz.lock").write_text(json.dumps(lock))
    _, out, err = cli("sample", "mine", "-n", "1", "--out", "mine/samples/a.npz")
    assert "from process 1 on \\u001b]0;title" in err
    assert is_plain(out + err)


def test_wrong_words_on_the_command_line(cli: Any) -> None:
    for words in ([RED], ["score", f"--{RED}"], ["sample", "-n", RED], ["score", "a", FORGED]):
        code, out, err = cli(*words)
        assert code == 2
        assert is_plain(out + err)
        assert err.count("\n") == 1


def test_a_name_that_is_no_text_is_printed(trained_run: Run, cli: Any, in_tmp: Path) -> None:
    name = os.fsdecode(b"\xff.npz")
    out = cli.output("sample", trained_run.path, "-n", "2", "--out", name)
    assert out.splitlines()[0] == "\\udcff.npz"
    assert Path(name).is_file()
