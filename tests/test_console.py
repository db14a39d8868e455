"""What a person sees of a fit: a plan, the time it takes, and how far it is."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.main import get_command

from smoothctl.cli import app, console
from smoothctl.cli.console import Notes
from smoothctl.reporting import flags
from smoothctl.runs.config import Unit
from smoothctl.training.reporter import Plan

BITS = Unit("bits/dim", 1 / (64 * math.log(2)))
PLAN = Plan("denoiser (pixelcnnpp)", 1_163_262, 55_000, 8, 0, 4_000, BITS, Path("run/denoiser"))
BIT = 64 * math.log(2)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr(console, "time", found)
    return found


def notes(terminal: bool) -> tuple[Notes, io.StringIO]:
    """Notes that are written into a string."""
    found, text = Notes(), io.StringIO()
    found.console = Console(file=text, force_terminal=terminal, width=200, highlight=False)
    return found, text


def said(text: io.StringIO) -> list[str]:
    return text.getvalue().splitlines()


def test_a_plan_is_a_sentence() -> None:
    assert str(PLAN) == (
        "Fits the denoiser (pixelcnnpp) into run: 1,163,262 parameters, 55,000 examples, "
        "4,000 steps of 8 (0.582 epochs)."
    )


def test_without_a_terminal_a_line_every_now_and_then(clock: Clock) -> None:
    found, text = notes(terminal=False)
    found.start(PLAN)
    for step in range(1, 4001):
        clock.now += 0.25
        found.advance(step, BIT)
        if step % 200 == 0:
            found.validated(step, 1.5 * BIT, 0.5 * BIT)
    lines = said(text)
    assert lines[0] == str(PLAN)
    assert lines[1] == "It will take about 17 min."
    shown = "validation 1.5000 bits/dim, gain from x̃ 0.5000 bits/dim"
    assert lines[-1] == f"Step 4,000 of 4,000: {shown}."
    assert 15 < len(lines) < 45


def test_a_short_fit_says_little(clock: Clock) -> None:
    found, text = notes(terminal=False)
    found.start(PLAN)
    for step in range(1, 4001):
        clock.now += 0.0005
        found.advance(step, BIT)
        if step % 200 == 0:
            found.validated(step, BIT, None)
    assert said(text) == [str(PLAN)]


def test_a_fit_that_was_stopped_counts_from_there(clock: Clock) -> None:
    found, text = notes(terminal=False)
    found.start(Plan(*list(vars(PLAN).values())[:4], 3_900, 4_000, BITS, PLAN.folder))
    for step in (3_901, 3_902, 3_903):
        clock.now += 2
        found.advance(step, BIT)
    assert said(text)[1] == "It will take about 3 min."


def test_long_steps_are_told_between_validations(clock: Clock) -> None:
    found, text = notes(terminal=False)
    found.start(PLAN)
    for step in range(1, 20):
        clock.now += 10
        found.advance(step, 2 * BIT)
    assert "Step 7 of 4,000, loss 2.0000 bits/dim; about 11.1 h to go." in said(text)


def test_a_bar_never_shows_a_loss_that_is_not_there(clock: Clock) -> None:
    found, text = notes(terminal=True)
    found.start(PLAN)
    clock.now += 1
    found.advance(1, 3 * BIT)
    found.validated(1, 1.5 * BIT, 0.25 * BIT)
    clock.now += 1
    found.advance(2, 3 * BIT)
    assert found._progress is not None
    found._progress.refresh()
    found.finish()
    assert "loss 3.0000 bits/dim" in text.getvalue()
    assert "gain from x̃ 0.2500" in text.getvalue()
    assert "0.0000" not in text.getvalue()


def test_a_score_has_no_unit() -> None:
    assert Unit("", 1.0).text(2.5) == "2.5000"


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("choose another `out`, or `overwrite` it.", "choose another --out, or --overwrite it."),
        ("choose another `architecture`.", "choose another --arch."),
        ("`init_from` takes a file", "--init-from takes a file"),
        ("or `on_nan=skip`, which", "or --on-nan skip, which"),
        ("set `training.accumulate=8` here", "set --set training.accumulate=8 here"),
        ("`standardise=False` takes one", "--set standardise=false takes one"),
        ("with `data.size=32`.", "with --data size=32."),
        ("`options.width=3`", "--set width=3"),
        ("`torch.load` and `bound` are `not` ours, `a b`", None),
    ],
)
def test_arguments_in_messages_become_flags(message: str, typed: str | None) -> None:
    assert flags.with_flags(message) == (message if typed is None else typed)


def test_every_flag_in_a_message_is_one() -> None:
    root = get_command(app)
    options = {o for verb in root.commands.values() for p in verb.params for o in p.opts}
    for name in flags._NAMES.split("|"):
        assert flags.with_flags(f"`{name}`").split()[0] in options, name


def test_notes_are_told_with_flags(capsys: pytest.CaptureFixture[str]) -> None:
    Notes().note("Another `label`.")
    assert capsys.readouterr().err == "Another --label.\n"
