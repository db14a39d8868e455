"""What others may have made: nothing that is read runs code, exhausts the machine or gets out."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smoothctl.errors import RunError, UsageError
from smoothctl.reporting.page import report
from smoothctl.runs import run as runs
from smoothctl.runs.run import Run, build_density, load_run
from smoothctl.storage.files import verify_manifest
from smoothctl.storage.weights import read_weights, write_weights

OPTIONS = [
    {"width": 10**9},
    {"width": 60_000, "layers": 900},
    {"layers": 10**9},
    {"mixtures": 10**30},
    {"mixtures": 1000, "width": 65_536},
    {"order_seed": 10**200},
    {"order": "random", "width": 60_000},
    {"width": -1},
    {"width": [1] * 1000},
    {"width": {"a": 1}},
    {"output_gain": 1e300, "layers": 1000},
    {"min_log_scale": float("nan")},
]
CONFIGS = [
    {"event_shape": [1, 100_000, 100_000]},
    {"event_shape": [10**6, 10**6]},
    {"event_shape": [4_000_000]},
    {"event_shape": [10**400]},
    {"event_shape": []},
    {"event_shape": [0]},
    {"event_shape": [-2]},
    {"event_shape": "x"},
    {"levels": 10**12},
    {"levels": 1},
    {"levels": -(10**290)},
    {"sigma": 1e400},
    {"architecture": "../../etc/passwd"},
    {"architecture": "x" * 5000},
    {"stage": "joint", "event_shape": [4_000_000]},
    {"architecture": "realnvp", "options": {"couplings": 256, "layers": 20, "width": 65_536}},
    {"architecture": "logistic-mixture", "options": {"mixtures": 10_000}, "event_shape": [4**10]},
    {
        "architecture": "pixelcnnpp",
        "event_shape": [3, 8, 8],
        "options": {"blocks": 12, "filters": 4096, "scales": 8},
    },
    {"architecture": "pixelcnnpp", "event_shape": [3, 8, 8], "options": {"blocks": 10**9}},
    {"architecture": "pixelcnnpp", "event_shape": [3, 8, 8], "options": {"classes": 10**12}},
    {"architecture": "pixelcnnpp", "event_shape": [4**10, 2, 2]},
]
HOSTILE = [*CONFIGS, *({"options": options} for options in OPTIONS)]

_LOAD = """
import json, resource, sys, time
import torch
from smoothctl.errors import SmoothctlError
from smoothctl.runs.models import load_density
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    start = time.process_time()
    try:
        load_density(path)
        said = "loaded"
    except SmoothctlError as error:
        said = str(error)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps([said, time.process_time() - start, peak]))
"""


@pytest.mark.slow
def test_a_weights_file_cannot_describe_the_machine_away(trained_run: Run, tmp_path: Path) -> None:
    """Each in one sentence, within 5 s of one core (the first takes torch's start) and 1 GB."""
    tensors, metadata = read_weights(trained_run.stage("prior").weights_file())
    for number, values in enumerate(HOSTILE):
        write_weights(tmp_path / f"{number}", tensors, {**metadata, **values})
    paths = [str(tmp_path / f"{number}") for number in range(len(HOSTILE))]
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *paths], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for values, path, (said, seconds, peak) in zip(HOSTILE, paths, found, strict=True):
        assert said != "loaded", values
        assert "\n" not in said
        assert len(said) < 1000, said
        assert seconds < 5, values
        assert peak < 1000, values
        print(f"{seconds:.2f} s {peak} MB {said.removeprefix(path)[:150]}")


@pytest.fixture
def copy(trained_run: Run, tmp_path: Path) -> Run:
    """A copy of the shared run that a test may damage, its name hostile too."""
    path = tmp_path / "-a run\n'ä\"; $(touch x)"
    shutil.copytree(trained_run.path, path)
    return Run(path)


INNER = ["config.toml", "log.jsonl", "model.safetensors", "best.safetensors", "checkpoints"]


@pytest.mark.parametrize("name", INNER)
def test_links_out_of_a_run_are_refused(copy: Run, tmp_path: Path, name: str) -> None:
    """Each file, though its content is what belongs there; and a stage's whole folder."""
    stage = copy.stage("prior")
    (stage.path / name).rename(tmp_path / name)
    (stage.path / name).symlink_to(tmp_path / name)
    with pytest.raises(RunError, match="is a link out of"):
        run = load_run(copy.path, weights="best" if name.startswith("best") else "last")
        run.density("prior")
        stage.config()
        stage.log()
        list(stage.checkpoints.iterdir())
    (stage.path / name).unlink()
    (tmp_path / name).rename(stage.path / name)
    load_run(copy.path).density("prior")
    stage.path.rename(tmp_path / "stage")
    stage.path.symlink_to(tmp_path / "stage")
    with pytest.raises(RunError, match="is a link out of"):
        load_run(copy.path)


def test_a_run_may_be_reached_by_a_link(copy: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy.path)
    assert load_run(tmp_path / "link").density("prior").event_shape == (2,)


def test_a_link_in_a_checkpoint_is_not_followed(copy: Run, tmp_path: Path) -> None:
    newest = sorted(copy.stage("prior").checkpoints.iterdir())[-1]
    (newest / "state.safetensors").rename(tmp_path / "state")
    (newest / "state.safetensors").symlink_to(tmp_path / "state")
    with pytest.raises(RunError, match="is a link out of"):
        verify_manifest(newest)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("legacy", [True, False], ids=["pickle", "zip"])
def test_nothing_in_a_run_is_unpickled(copy: Run, tmp_path: Path, legacy: bool) -> None:
    """A payload for every file: weights, and a checkpoint whose manifest is right."""
    ran, stage = tmp_path / "ran", copy.stage("prior")
    torch.save(Payload(ran), tmp_path / "payload", _use_new_zipfile_serialization=not legacy)
    torch.load(tmp_path / "payload", weights_only=False).close()  # it would work
    ran.unlink()
    content = (tmp_path / "payload").read_bytes()
    for path in stage.path.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            path.write_bytes(content)
    for manifest in stage.checkpoints.glob("*/manifest.json"):
        digest = hashlib.sha256(content).hexdigest()
        text = json.dumps({"format": 1, "sha256": {"state.safetensors": digest}})
        manifest.write_text(text)
        verify_manifest(manifest.parent, "state.safetensors")
    weights = [stage.weights_file("last"), stage.weights_file("best")]
    for file in (*weights, *stage.checkpoints.glob("*/state.safetensors")):
        with pytest.raises(RunError, match="it could run code and is never read"):
            read_weights(file)
    with pytest.raises(RunError, match="no text"):
        stage.config()
    assert stage.log() == []
    assert not ran.exists()


class TestLog:
    """log.jsonl gives numbers, whatever is in it."""

    def test_foreign_lines(self, copy: Run) -> None:
        lines = [
            *('{"step": 1, "loss": 2.0, "x": [[]], "y": "z", "t": true}', "[" * 4000, "null"),
            *('{"step": true}', '{"step": -1}', '{"step": 1e3}', '{"step": 3', "é\0"),
            *('{"step": 2' + "0" * 300 + "}", '{"step": 5, "loss": 1' + "0" * 900 + "}"),
            *('{"step": 6, "a": "' + "x" * 5000 + '"}', '{"step": 7, "loss": NaN}'),
        ]
        copy.stage("prior").log_file.write_text("\n".join(lines))
        log = copy.stage("prior").log()
        assert [entry["step"] for entry in log] == [1, 7]
        assert log[0] == {"step": 1, "loss": 2.0}

    @pytest.mark.parametrize("losses", [(1.6e308,), (-1.6e308, 1.6e308), (0.0, 1e-320)])
    def test_losses_that_no_chart_can_show(self, copy: Run, losses: tuple[float, ...]) -> None:
        lines = [json.dumps({"step": k, "loss": loss}) for k, loss in enumerate(losses)]
        copy.stage("prior").log_file.write_text("\n".join(lines))
        report(copy, samples=False)

    def test_a_log_that_is_too_long_counts_from_its_end(self, copy: Run, monkeypatch) -> None:
        monkeypatch.setattr(runs, "_LONGEST_LOG", 1000)
        lines = "".join(f'{{"step": {step}}}\n' for step in range(10_000))
        copy.stage("prior").log_file.write_text(lines)
        steps = [entry["step"] for entry in copy.stage("prior").log()]
        assert steps == list(range(10_000 - len(steps), 10_000))
        assert 10 < len(steps) < 100


def test_a_model_beyond_this_machine_s_memory_is_not_begun(trained_run: Run) -> None:
    config = trained_run.stage("prior").config()
    for options in ({"width": 60_000, "layers": 900}, {"width": 60_000}):
        start = time.process_time()
        with pytest.raises(UsageError, match=r"training it takes [\d,]+ GiB, and this machine has"):
            build_density(replace(config, options={**config.options, **options}))
        assert time.process_time() - start < 5
