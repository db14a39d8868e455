"""Two hosts: two network namespaces with a cable between them and nothing else."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoothctl.runs.run import load_run
from tests.launches import ENVIRONMENT, launcher

PORT = "29500"
ADDRESSES = ("10.231.0.1", "10.231.0.2")
FIT = ["fit-prior", "--dataset", "two-moons", "--arch", "made", "--set", "width=8",
       "--batch-size", "64", "--set", "training.log_every=1",
       "--set", "training.checkpoint_every=10", "--device", "cpu"]  # fmt: skip


class Hosts:
    """Two hosts that share the file system; host k has one process, rank k."""

    def __init__(self) -> None:
        self.names = [f"smoothctl-{os.getpid()}-{k}" for k in (0, 1)]
        self.devices = [f"st{k}-{os.getpid() % 10**8}" for k in (0, 1)]

    def build(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        there = [part for k in (0, 1) for part in (self.devices[k], "netns", self.names[k])]
        ip("link", "add", *there[:3], "type", "veth", "peer", "name", *there[3:])
        for name, device, address in zip(self.names, self.devices, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    def unplug(self) -> None:
        ip("-n", self.names[1], "link", "set", self.devices[1], "down")

    def start(self, k: int, *verb: str, patience: float = 120, **options: Any) -> Any:
        """Starts host k's launcher, under a host name of its own."""
        hosts = ("--num_machines", "2", "--machine_rank", str(k))
        hosts += ("--main_process_ip", ADDRESSES[0], "--main_process_port", PORT)
        named = ["unshare", "--uts", "sh", "-c", f'hostname host-{k} && exec "$@"', "sh"]
        network = {"GLOO_SOCKET_IFNAME": self.devices[k], "SMOOTHCTL_PATIENCE": str(patience)}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[k], *named, *launcher(2, *hosts), *verb],
            env=ENVIRONMENT | network,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *verb: str) -> str:
        """Runs a verb on both and returns what the first printed; the second prints nothing."""
        both = [self.start(k, *verb) for k in (0, 1)]
        (out, err), (silent, other) = (host.communicate(timeout=240) for host in both)
        assert [host.returncode for host in both] == [0, 0], err + other
        assert silent == ""
        return out


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts(in_tmp: Path) -> Iterator[Hosts]:
    if not all(map(shutil.which, ("ip", "unshare", "hostname"))):
        pytest.skip("two hosts need the commands ip, unshare and hostname")
    made = Hosts()
    try:
        made.build()
    except subprocess.CalledProcessError as error:
        made.remove()
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    yield made
    made.remove()


def alone(*verb: str) -> str:
    """Returns what a verb prints in one process."""
    command = [sys.executable, "-m", "smoothctl", *verb]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("Error: ")]


@pytest.mark.slow
def test_two_hosts_fit_and_sample_as_one_process(hosts: Hosts) -> None:
    """The losses of all steps, to the precision of a sum in another order; then equal samples."""
    fit = [*FIT, "--steps", "30", "--json"]
    assert json.loads(hosts.run(*fit, "--out", "two"))["steps"] == 30
    alone(*fit, "--out", "one")
    two, one = ([e["loss"] for e in load_run(Path(r)).stage("prior").log()] for r in ("two", "one"))
    assert two == pytest.approx(one, rel=1e-4)
    sample = ["sample", "two", "--method", "smoothed", "-n", "300", "--device", "cpu", "--out"]
    hosts.run(*sample, "two.npz")
    alone(*sample, "one.npz")
    with np.load("two.npz") as a, np.load("one.npz") as b:
        assert all(np.array_equal(a[key], b[key]) for key in b)


@pytest.mark.slow
def test_two_hosts_score_as_one_process(hosts: Hosts) -> None:
    for stage in (FIT, ["fit-denoiser", "--set", "width=8", "--device", "cpu"]):
        alone(*stage, "--steps", "20", "--out", "r")
    score = ["score", "r", "--limit", "200", "--draws", "2,8", "--samples", "100", "--json"]
    two = json.loads(hosts.run(*score, "--device", "cpu"))
    one = json.loads(alone(*score, "--device", "cpu"))
    for ours, theirs in zip(two["likelihood"], one["likelihood"], strict=True):
        assert ours["nats"] == pytest.approx(theirs["nats"], rel=1e-6)
    assert two["samples"] == one["samples"]


@pytest.mark.slow
def test_an_unplugged_host_ends_both(hosts: Hosts) -> None:
    """Both say so when their patience is over, and the same command goes on afterwards."""
    fit = [*FIT, "--steps", "3000", "--out", "r"]
    both = [hosts.start(k, *fit, patience=5) for k in (0, 1)]
    until = time.monotonic() + 120
    while not list(Path("r/prior/checkpoints").glob("step-*")):
        assert time.monotonic() < until, "no checkpoint in two minutes"
        time.sleep(0.1)
    hosts.unplug()
    for host in both:
        err = host.communicate(timeout=60)[1]
        assert host.returncode == 1
        assert len(said(err)) == 1, err
        assert "process" in said(err)[0]
    alone(*FIT, "--steps", "3000", "--out", "r")
    assert load_run(Path("r")).stage("prior").complete


@pytest.mark.slow
def test_hosts_that_share_no_folder_are_told(hosts: Hosts, in_tmp: Path) -> None:
    for k in (0, 1):
        (in_tmp / str(k)).mkdir()
    fit = [*FIT, "--steps", "30", "--out", "r"]
    both = [hosts.start(k, *fit, cwd=in_tmp / str(k)) for k in (0, 1)]
    for host in both:
        err = host.communicate(timeout=120)[1]
        assert host.returncode == 1
        assert "host-1" in said(err)[0]
        assert "share" in said(err)[0]
