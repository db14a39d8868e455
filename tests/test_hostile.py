"""What others may have made: nothing that is read runs code, exhausts the machine or gets out."""

import json
import subprocess
import sys
from pathlib import Path

from smoothctl.files import read_weights, write_weights
from smoothctl.runs import Run

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
        "options": {"blocks": 20, "filters": 4096, "scales": 8},
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
from smoothctl.models import load_density
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


def test_a_weights_file_cannot_describe_the_machine_away(trained_run: Run, tmp_path: Path) -> None:
    """Each in one sentence, within 3 s of one core (the first takes torch's start) and 1 GB."""
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
        assert seconds < 3, values
        assert peak < 1000, values
        print(f"{seconds:.2f} s {peak} MB {said.removeprefix(path)[:150]}")
