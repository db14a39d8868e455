"""`smoothctl plugins` tells every fault in a sentence, and no plugin can harm it."""

import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from smoothctl import kernels, reproduce
from smoothctl.cli.endings import Stopped, raised_signals
from smoothctl.cli.registries import rows_of
from smoothctl.registry import trials
from smoothctl.registry.listing import Plugin, Status, list_plugins
from smoothctl.registry.registry import ALLOWED_PACKAGES
from smoothctl.registry.trials import Trial
from smoothctl.runs.run import Run
from smoothctl.storage.weights import read_weights
from tests.packages import write_package

KERNEL = "from smoothctl.kernels.gaussian import Gaussian\nclass Mine(Gaussian): summary = 'mine'\n"
ABSTRACT = "from smoothctl.kernels.base import Kernel\nclass Mine(Kernel): summary = 'mine'\n"
KERNELS = "smoothctl.kernels"


def _third_parties(**options) -> list[Plugin]:
    return [p for p in list_plugins(**options) if not p.package.startswith("smoothctl")]


def _only(**options) -> Plugin:
    (plugin,) = _third_parties(**options)
    return plugin


def _cli(path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "smoothctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_built_ins_are_in_order() -> None:
    found = list_plugins()
    assert {p.group for p in found} > {"smoothctl.experiments", "smoothctl.features"}
    assert all(p.status is Status.BUILT_IN for p in found if p.package == "smoothctl")


def test_nothing_is_imported_without_check(path: Path) -> None:
    marker = path / "imported"
    code = f"open({str(marker)!r}, 'w').close()\nraise RuntimeError('boom')"
    write_package(path, "marked", {"marked.py": code}, {KERNELS: {"mine": "marked:Mine"}})
    assert _cli(path, "--help").returncode == 0
    listed = _cli(path, "plugins", "--json")
    assert listed.returncode == 0
    statuses = {(p["package"], p["status"]) for p in json.loads(listed.stdout)}
    assert ("marked", "not checked") in statuses
    code = "import sys; from smoothctl.registry.listing import list_plugins; list_plugins()"
    code += "; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
    assert not marker.exists()


@pytest.mark.parametrize(
    ("requires", "error"),
    [
        ("zuk0>=1.4", "needs zuk0>=1.4, which is not installed: run pip install 'zuk0>=1.4'"),
        ("torch>=99", "needs torch>=99, and .* is installed: run pip install 'torch>=99'"),
        ("smoothctl>=0.2,<0.3", "was written for smoothctl <0.3,>=0.2, and this is smoothctl 0.1"),
        ("this is no requirement", "has metadata that cannot be read"),
    ],
)
def test_requirements_that_do_not_hold(path: Path, requires: str, error: str) -> None:
    write_package(path, "theirs", {"theirs.py": ""}, {KERNELS: {"a": "theirs:A"}}, (requires,))
    assert _only().status is Status.BROKEN
    assert re.search(error, _only().error)


@pytest.mark.parametrize(
    "requires",
    [
        "zuk0; extra == 'test'",
        "zuk0; python_version < '3'",
        "smoothctl[test]>=0.1,<0.2",
        "torch",
        "Torch>=2",
        "zuk0 @ https://example.org/zuk0.whl ; sys_platform == 'none'",
    ],
)
def test_requirements_that_hold(path: Path, requires: str) -> None:
    write_package(path, "theirs", {"theirs.py": ""}, {KERNELS: {"a": "theirs:A"}}, (requires,))
    assert _only().status is Status.UNCHECKED


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("red\x1b[31m", "red\\u001b[31m"),
        ("two words", "two words"),
        ("a:b", "a:b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("x" * 300, "x" * 79 + "…"),
    ],
)
def test_odd_names_are_escaped_and_refused(path: Path, name: str, shown: str) -> None:
    write_package(path, "theirs", {"theirs.py": KERNEL}, {KERNELS: {name: "theirs:Mine"}})
    assert (_only().name, _only().status) == (shown, Status.BROKEN)
    assert "no plain one" in _only().error
    assert _only().error.isprintable()


def test_a_package_with_an_odd_name_is_escaped(path: Path) -> None:
    info = write_package(path, "theirs", {"theirs.py": KERNEL}, {KERNELS: {"a": "theirs:Mine"}})
    (info / "METADATA").write_text("Name: the\x1birs\nVersion: 1\x9b2\n", encoding="utf-8")
    assert (_only().package, _only().version) == ("the\\u001birs", "1\\u009b2")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("theirs", "says 'theirs' where its pyproject.toml must say 'module:Class'"),
        ("theirs:", "must say 'module:Class'"),
        ("theirs.py/Mine", "must say 'module:Class'"),
        ("..theirs:Mine", "must say 'module:Class'"),
        ("elsewhere.kernel:Mine", "a module 'elsewhere' that is not there: run pip install"),
    ],
)
def test_values_that_lead_nowhere(path: Path, value: str, error: str) -> None:
    write_package(path, "theirs", {"theirs.py": KERNEL}, {KERNELS: {"mine": value}})
    assert _only().status is Status.BROKEN
    assert error in _only().error


def test_a_mistyped_group_gets_a_near_miss(path: Path) -> None:
    points = {"smoothctl.kernel": {"mine": "theirs:Mine"}}
    write_package(path, "theirs", {"theirs.py": KERNEL}, points)
    assert _only().status is Status.BROKEN
    assert "does not read; did you mean kernels?" in _only().error


def test_one_name_of_two_packages_is_a_duplicate_of_both(path: Path) -> None:
    write_package(path, "theirs", {"theirs.py": KERNEL}, {KERNELS: {"gaussian": "theirs:Mine"}})
    found = {p.package: p for p in list_plugins() if p.name == "gaussian"}
    assert {p.status for p in found.values()} == {Status.DUPLICATE}
    assert "write theirs:gaussian" in found["theirs"].error
    assert "and 'gaussian' means this one" in found["smoothctl"].error


TWINS = KERNEL + (
    "from smoothctl.datasets.shapes import Rings\nclass Data(Rings): name = 'twins'\n"
)


@pytest.mark.parametrize("recorded", ["theirs:twins", "twins"])
def test_a_second_plugin_of_a_name_changes_nothing_of_a_run(
    path: Path, cli, monkeypatch: pytest.MonkeyPatch, recorded: str
) -> None:
    """In an older run the plain name stands, which means the one package that has it."""
    points = {KERNELS: {"twins": "twins:Mine"}, "smoothctl.datasets": {"twins": "twins:Data"}}
    write_package(path, "theirs", {"twins.py": TWINS}, points)
    fast = ["--steps", "2", "--batch-size", "16", "--device", "cpu", "--out", "run"]
    words = [*fast, "--dataset", "twins", "--kernel", "twins"]
    cli.output("fit-prior", *words, "--sigma", "0.3")
    file = Path("run/prior/config.toml")
    assert file.read_text().count('"theirs:twins"') == 2
    assert read_weights(file.with_name("model.safetensors"))[1]["kernel"] == "theirs:twins"
    file.write_text(file.read_text().replace("theirs:twins", recorded))
    assert "already complete" in cli("fit-prior", *words, "--sigma", "0.3")[2]
    cli.output("fit-denoiser", *words)
    if recorded != "twins":
        write_package(path, "others", {"others.py": "raise RuntimeError"}, points)
        assert "others:twins or theirs:twins" in cli("fit-prior", *words, "--overwrite")[2]
    cli.output("sample", "run", "-n", "3")
    page = Path(cli.output("report", "run", "--no-samples").strip()).read_text()
    assert "--dataset theirs:twins --kernel theirs:twins" in page


def test_an_architecture_with_its_package_has_the_same_folder(path: Path, cli) -> None:
    code = "from smoothctl.architectures.made import MADE\nclass Mine(MADE): pass\n"
    points = {"smoothctl.architectures": {"mine": "foldered:Mine"}}
    write_package(path, "theirs", {"foldered.py": code}, points)
    fit = ["fit-baseline", "--steps", "1", "--batch-size", "8", "--device", "cpu"]
    cli.output(*fit, "--arch", "mine")
    file = Path("runs/rings-mine/baseline/config.toml")
    assert 'architecture = "theirs:mine"' in file.read_text()
    assert "already complete" in cli(*fit, "--config", str(file))[2]
    assert "already complete" in cli(*fit, "--arch", "theirs:mine")[2]


def test_a_plugin_that_also_declares_made_leaves_runs_of_made_alone(
    trained_run: Run, path: Path, cli
) -> None:
    points = {"smoothctl.architectures": {"made": "theirs:Mine"}}
    write_package(path, "theirs", {"theirs.py": "raise RuntimeError"}, points)
    cli.output("sample", trained_run.path, "-n", "2", "--out", "a.npz")
    cli.output("fit-prior", "--arch", "made", "--steps", "1", "--batch-size", "8", "--out", "b")
    assert 'architecture = "made"' in Path("b/prior/config.toml").read_text()


def test_an_installation_that_another_one_shadows_is_no_duplicate(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {KERNELS: {"mine": "their_kernels:Mine"}}
    write_package(path, "their-kernels", {"their_kernels.py": KERNEL}, points)
    monkeypatch.syspath_prepend(str(tmp_path / "editable"))
    files = {"their_kernels.py": KERNEL}
    write_package(tmp_path / "editable", "Their_Kernels", files, points)
    assert _only().status is Status.UNCHECKED


def test_the_allow_list_hides_and_is_no_fault(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"their_kernels.py": "raise RuntimeError"}
    points = {KERNELS: {"gaussian": "their_kernels:Mine"}}
    write_package(path, "their-kernels", files, points, ("zuk0",))
    monkeypatch.setenv(ALLOWED_PACKAGES, "other")
    assert (_only(check=True).status, _only().faulty) == (Status.HIDDEN, False)
    monkeypatch.setenv(ALLOWED_PACKAGES, "other, Their_Kernels")
    assert _only().status is Status.BROKEN


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        ("entry_points.txt", b"[smoothctl.kernels]\nmine = \xff\xfe:Mine\n", "cannot be read"),
        ("entry_points.txt", b"[smoothctl.kernels]\nno equals sign\n", "cannot be read"),
        ("METADATA", b"", "metadata that cannot be read"),
        ("METADATA", b"Name: theirs\nVersion: 1.2\nRequires-Dist: \xff\xfe\n", "cannot be read"),
    ],
)
def test_unreadable_metadata(path: Path, file: str, content: bytes, error: str) -> None:
    info = write_package(path, "theirs", {"theirs.py": KERNEL}, {KERNELS: {"mine": "theirs:Mine"}})
    (info / file).write_bytes(content)
    assert (_only().package, _only().version, _only().status) == ("theirs", "1.2", Status.BROKEN)
    assert error in _only().error
    assert any(p.name == "gaussian" for p in list_plugins())


FAULTS = {
    "a-good": (KERNEL, "ok", ""),
    "b-raises": ("raise ValueError('boom \\u001b[31m')", "broken", "ValueError: boom \\u001b[31m"),
    "c-quits": ("import sys; sys.exit(0)", "broken", "cannot be imported (SystemExit: 0)"),
    "d-vanishes": ("import os; os._exit(0)", "broken", "ends the process when it is imported"),
    "e-crashes": ("import os; os.abort()", "broken", "crashes when it is imported (Aborted)"),
    "f-hangs": ("while True: pass", "broken", "takes longer than 2 s"),
    "g-prints": (f"print('hello')\n{KERNEL}", "noisy", "prints when it is imported"),
    "h-asks": (f"input()\n{KERNEL}", "broken", "EOFError"),
    "i-other": ("class Mine: pass", "broken", "is no Kernel: it is the class Mine"),
    "j-lacks": ("", "broken", "AttributeError"),
    "j-partial": (ABSTRACT, "broken", "is no whole Kernel: it lacks entropy_per_dimension, log"),
    "k-interrupts": ("raise KeyboardInterrupt", "broken", "KeyboardInterrupt"),
    "l-good": (KERNEL, "ok", ""),
}


def test_check_tells_every_fault_and_goes_on(path: Path) -> None:
    files = {f"faults/{name[2:]}.py": code for name, (code, *_) in FAULTS.items()}
    points = {name: f"faults.{name[2:]}:Mine" for name in FAULTS}
    experiments = {"odd": "faults.good:Mine"}
    groups = {KERNELS: points, "smoothctl.experiments": experiments}
    write_package(path, "faults", files, groups)
    found = {p.name: p for p in _third_parties(check=True, timeout=2)}
    assert "is no Experiment: it is the class Mine" in found.pop("odd").error
    for name, (_, status, error) in FAULTS.items():
        assert found[name].status == status, found[name]
        assert error in found[name].error, found[name]


def _interrupt() -> None:
    raise KeyboardInterrupt


def _crash() -> None:
    faulthandler.disable()  # pytest's, which would say it at length
    os.kill(os.getpid(), signal.SIGSEGV)


def _wait_for_ever() -> None:
    threading.Event().wait()


@pytest.mark.parametrize(
    ("load", "comes_back"),
    [(dict, True), (_interrupt, True), (sys.exit, True), (partial(os._exit, 0), False),
     (_crash, False), (_wait_for_ever, False)],
)  # fmt: skip
def test_a_fork_tells_what_comes_back(
    load: Callable[[], object], comes_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_GLANCE", 1)
    assert trials._comes_back(load) == comes_back


def test_a_signal_ends_a_fork_and_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    forked, fork = [], os.fork
    monkeypatch.setattr(trials.os, "fork", lambda: forked.append(fork()) or forked[0])
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped), raised_signals():
        trials._comes_back(_wait_for_ever)
    with pytest.raises(ProcessLookupError):
        os.kill(forked[0], 0)


def test_an_import_that_would_end_a_verb_is_a_sentence(path: Path, cli) -> None:
    files = {"vanishes.py": "import os; os._exit(0)"}
    write_package(path, "theirs", files, {KERNELS: {"mine": "vanishes:Mine"}})
    code, out, err = cli("fit-prior", "--kernel", "mine", "--dataset", "rings")
    assert (code, out) == (2, "")
    said = "theirs 1.2 ends the process when it is imported (exit code 0)"
    assert err.endswith(f"Error: The kernel 'mine' of {said}.\n")
    assert not Path("runs").exists()


def test_an_import_that_would_end_a_list_is_a_row(
    path: Path, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_GLANCE", 1)
    monkeypatch.setattr(trials, "_PATIENCE", 1.0)
    code = {"hangs.py": "while True: pass"}
    write_package(path, "theirs", code, {"smoothctl.experiments": {"mine": "hangs:mine"}})
    rows = json.loads(cli.output("reproduce", "--json"))
    said = "The experiment 'mine' of theirs 1.2 takes longer than 1 s to import."
    assert rows["mine"]["error"] == said
    assert rows["rings"]["error"] is None


def test_a_fork_that_does_not_come_back_is_no_proof(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it waits for a lock that a thread of this process holds."""
    held = threading.Lock()
    monkeypatch.setattr(trials, "_GLANCE", 1)
    monkeypatch.setattr(trials, "held", held, raising=False)
    monkeypatch.setattr(trials, "try_entries", lambda entries, _: [Trial(None) for _ in entries])
    code = f"from smoothctl.registry import trials\nwith trials.held: pass\n{KERNEL}"
    write_package(path, "theirs", {"locked.py": code}, {KERNELS: {"mine": "locked:Mine"}})
    with held:
        assert trials.fault_of_import(kernels.registry.find("mine")) is None


def test_what_is_imported_is_not_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(trials, "fault_of_import", lambda entry: tried.append(entry.name))
    code = {"twice.py": f"{KERNEL}Other = Mine\n"}
    write_package(path, "theirs", code, {KERNELS: {"a": "twice:Mine", "b": "twice:Other"}})
    for name in ("gaussian", "a", "a", "b"):
        kernels.load(name)
    assert tried == ["a"]


def test_a_broken_experiment_is_a_row_and_breaks_no_other(path: Path) -> None:
    code = (
        "from smoothctl.reproduce.base import Experiment, Result\n"
        "def run(*_): return Result('mine', [0], {}, [], [])\n"
        "mine = Experiment('mine', 'what mine shows', 'a paper', run)\n"
    )
    points = {"smoothctl.experiments": {"mine": "theirs:mine", "other": "theirs:other"}}
    write_package(path, "theirs", {"theirs.py": code}, points)
    rows = {row["name"]: row for row in rows_of(reproduce.registry)}
    assert rows["mine"]["summary"] == "what mine shows"
    assert "cannot be imported (AttributeError" in str(rows["other"]["error"])
    assert rows["rings"]["error"] is None


def test_strict_fails_after_printing(path: Path) -> None:
    assert _cli(path, "plugins", "--strict").returncode == 0
    write_package(path, "theirs", {"theirs.py": ""}, {KERNELS: {"mine": "theirs:A"}}, ("zuk0",))
    done = _cli(path, "plugins", "--strict")
    assert done.returncode == 1
    assert "broken: theirs 1.2, smoothctl.kernels 'mine': It needs zuk0" in done.stdout
    assert _cli(path, "plugins").returncode == 0
