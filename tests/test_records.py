"""scores.json: several processes add to it at once, and what others wrote into it is looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smoothctl.errors import RunError
from smoothctl.evaluation.records import SCORES, append_scores, read_scores

_APPEND = """
import sys
from pathlib import Path
from smoothctl.evaluation.records import append_scores
run, name, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for count in range(number):
    append_scores(run, {"run": name, "seed": count})
"""


def test_no_entry_is_lost_when_processes_append_at_once(tmp_path: Path) -> None:
    number, names = 25, "abc"
    (tmp_path / f".{SCORES}.0123abcd.tmp").write_text("half an ent")
    processes = [
        subprocess.Popen([sys.executable, "-c", _APPEND, str(tmp_path), name, str(number)])
        for name in names
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    entries = read_scores(tmp_path)
    for name in names:
        assert [e["seed"] for e in entries if e["run"] == name] == list(range(number))
    assert [path.name for path in tmp_path.iterdir()] == [SCORES]


@pytest.mark.parametrize(
    "entries",
    [
        {},
        [1],
        [{"likelihood": {}}],
        [{"likelihood": None}],
        [{"likelihood": [1]}],
        [{"likelihood": [{"examples": "x"}]}],
        [{"samples": ["x"]}],
        [{"samples_each": "x"}],
        [{"limit": []}],
        [{"quality": {"rows": [1]}}],
        [{"quality": {"rows": {}}}],
        [{"quality": []}],
        [{"not_available": ["x"]}],
        [{"seed": 1e3}],
        [{}] * 10_001,
    ],
)
def test_what_is_no_list_of_scores_is_refused(tmp_path: Path, entries: object) -> None:
    (tmp_path / SCORES).write_text(json.dumps(entries))
    with pytest.raises(RunError, match="holds no list of scores: move it away"):
        read_scores(tmp_path)
    before = (tmp_path / SCORES).read_bytes()
    with pytest.raises(RunError, match="move it away"):
        append_scores(tmp_path, {})
    assert (tmp_path / SCORES).read_bytes() == before


def test_scores_are_not_read_or_written_through_a_link(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "other.json").write_text("[]")
    (run / SCORES).symlink_to("../other.json")
    for act in (lambda: read_scores(run), lambda: append_scores(run, {})):
        with pytest.raises(RunError, match="a link out of"):
            act()
    assert (tmp_path / "other.json").read_text() == "[]"
    assert [path.name for path in run.iterdir()] == [SCORES]
