"""Fits that are killed: a process that trains, forks itself, and dies where it is told to.

`python -m tests.training_child MODE FOLDER KEY=VALUE …` prints what it did as JSON. Forked children
have torch imported already; several of them share a fit over gloo, without a launcher.
"""

import json
import os
import random
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fcntl import F_GETFL, fcntl
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState

from smoothctl.errors import SmoothctlError
from smoothctl.runs.run import Run
from smoothctl.training.fit import fit_prior

_TRAINING = {"steps": 8, "batch_size": 32, "warmup": 2, "log_every": 1, "validation_limit": 64}
_TRAINING |= {"checkpoint_every": 3, "validate_every": 2, "keep": 1}
_IMAGES = {"pixelcnnpp": {"filters": 4, "blocks": 1, "mixtures": 2, "dropout": 0.5}}
_IMAGES |= {"ncsn": {"filters": 2, "noise_levels": 3, "steps": 1}}
_VECTORS = {"logistic-mixture": {"mixtures": 2}, "ncsn-mlp": {"noise_levels": 3, "steps": 1}}
NAMES = ("made", "realnvp", "logistic-mixture", "pixelcnnpp")
PLUGINS = ("ncsn", "ncsn-mlp", "zuko-nsf", "cif-realnvp")


def settings(name: str) -> dict[str, Any]:
    """Returns what a small fit of an architecture is told."""
    images = name in _IMAGES
    training = _TRAINING | ({"batch_size": 4, "validation_limit": 8} if images else {})
    options = _IMAGES[name] if images else _VECTORS.get(name, {"width": 8})
    dataset = "digits" if images else "two-moons"
    return {
        "architecture": name,
        "dataset": dataset,
        "options": options,
        "training": training,
        "sigma": None if name.startswith("ncsn") else 0.3,  # which has a σ of its own
        "device": "cpu",
    }


def fit(name: str, out: Path, overwrite: bool = False, **training: Any) -> None:
    """Fits a prior; the same command whether it starts or goes on."""
    told = settings(name)
    fit_prior(out=out, overwrite=overwrite, **{**told, "training": told["training"] | training})


def results(out: Path) -> dict[str, Any]:
    """Returns everything of a finished fit that must not depend on how often it was killed."""
    stage = Run(out).stage("prior")
    times = ("steps_per_second", "cpu_seconds")
    log = [{k: v for k, v in e.items() if k not in times} for e in stage.log()]
    weights = [stage.weights_file(which).read_bytes() for which in ("last", "best")]
    return {"log": log, "weights": weights, "files": sorted(_names(out))}


def _names(out: Path) -> Iterator[str]:
    return (str(path.relative_to(out)) for path in out.rglob("*"))


def forked(works: Sequence[Callable[[], None]]) -> list[int]:
    """Does each in a child, several as the ranks of a launch; returns their exit statuses.

    A status is negative for a signal, 99 for an error that is no sentence.
    """
    environment = {"ACCELERATE_USE_CPU": "true", "SMOOTHCTL_PATIENCE": "10"}
    if len(works) > 1:
        port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        environment |= port | {"WORLD_SIZE": str(len(works))}
    children = []
    for rank, work in enumerate(works):
        child = os.fork()
        if child == 0:
            if len(works) > 1:
                os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
            os._exit(_status(work))
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _status(work: Callable[[], None]) -> int:
    try:
        work()
    except SmoothctlError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 99
    return 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def die() -> None:
    """Ends this process as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(point: int, out: Path) -> None:
    """Makes this process die at its point-th change of the run folder.

    Points are each opening, making, renaming and removing, just before it; and each fsync: of a
    file that is being written after half of it was, of another, or of a folder.
    """
    left = point

    def count() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            path = arguments[0]
            inside = isinstance(path, str | os.PathLike) and str(out) in str(Path(path).absolute())
            relative = event in ("os.remove", "os.rmdir") and arguments[1] != -1
            if (inside or relative) and count():
                die()

    fsync = os.fsync

    def half(descriptor: int) -> None:
        if count():
            if fcntl(descriptor, F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()
        fsync(descriptor)

    os.fsync = half
    sys.addaudithook(watch)


def die_after(seconds: float) -> None:
    """Makes this process die in a while."""
    threading.Timer(seconds, die).start()


class Killed:
    """One fit that is killed until it is done, and then compared with an undisturbed one.

    Args:
        name: of the architecture.
        folder: an empty one.
        ranks: how many processes share it.
        steps: how long it is.
        overwrite: it replaces a complete stage of another seed.
        longer: it goes on with a complete stage of half as many steps.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        ranks: int,
        steps: int,
        overwrite: bool = False,
        longer: bool = False,
    ) -> None:
        self.folder, self.out, self.ranks = folder, folder / "cut", ranks
        self.fit = partial(fit, name, steps=steps)
        self.overwrite, self.kills = overwrite, 0
        self.fit(folder / "first")  # so that children find everything imported
        AcceleratorState._reset_state(reset_partial_state=True)
        if longer:
            assert forked([partial(fit, name, folder / "old", steps=steps // 2)]) == [0]
            shutil.copytree(folder / "old", folder / "whole")
        begun = time.monotonic()
        assert forked([partial(self.fit, folder / "whole")] * ranks) == [0] * ranks
        self.seconds = time.monotonic() - begun
        self.whole = results(folder / "whole")
        if overwrite:
            self.fit(folder / "old", learning_rate=0.1)
        self.fresh()

    def fresh(self) -> None:
        """Makes the folder what it is before the fit."""
        shutil.rmtree(self.out, ignore_errors=True)
        if (self.folder / "old").exists():
            shutil.copytree(self.folder / "old", self.out)

    def attempt(self, doom: Callable[[], None] = lambda: None, victim: int = 0) -> bool:
        """Runs the command once; returns whether it came to its end.

        Args:
            doom: makes a process die at some moment.
            victim: which one; a number beyond the last for all.
        """

        def work(rank: int) -> None:
            if victim in (rank, self.ranks):
                doom()
            self.fit(self.out, overwrite=self.overwrite)

        codes = forked([partial(work, rank) for rank in range(self.ranks)])
        assert set(codes) <= {0, 1, -signal.SIGKILL}, codes
        killed = codes.count(-signal.SIGKILL)
        assert killed or 1 not in codes, codes
        self.kills += killed
        return set(codes) == {0}

    def check(self) -> None:
        """Checks that the end is the one of an undisturbed fit, to the bit."""
        assert results(self.out) == self.whole


def sweep(
    folder: Path, name: str, ranks: int, stride: int, overwrite: int = 0, longer: int = 0
) -> dict[str, int]:
    """Kills a fit at every stride-th point, each from its start, and once more as it resumes.

    Returns:
        How many points and kills there were.
    """
    fit = Killed(name, folder, ranks, 8, bool(overwrite), bool(longer))
    for point in range(1, 10_000, stride):
        fit.fresh()
        doom = partial(die_at, point, fit.out)
        done = fit.attempt(doom)
        if not done:
            fit.attempt(doom)
            assert fit.attempt(), point
        fit.check()
        if done:
            return {"points": point - 1, "kills": fit.kills}
    raise AssertionError("It never came to an end.")


def creep(folder: Path, name: str, ranks: int) -> dict[str, int]:
    """Kills one fit at its first point, then at its second, … until it is done.

    Returns:
        How many kills it took.
    """
    fit = Killed(name, folder, ranks, steps=8)
    point = 1
    while not fit.attempt(partial(die_at, point, fit.out)):
        point += 1
    fit.check()
    return {"kills": fit.kills}


def at_random(folder: Path, name: str, ranks: int, steps: int, kills: int) -> dict[str, int]:
    """Kills fits at random moments, one process or all, until there were so many kills.

    Returns:
        How many kills, fits and seconds it took.
    """
    begun = time.monotonic()
    fit, dice, fits = Killed(name, folder, ranks, steps), random.Random(0), 0
    while fit.kills < kills:
        fit.fresh()
        victim = partial(dice.randint, 0, ranks if ranks > 1 else 0)
        while not fit.attempt(partial(die_after, dice.uniform(0, fit.seconds)), victim()):
            pass
        fit.check()
        fits += 1
    return {"kills": fit.kills, "fits": fits, "seconds": round(time.monotonic() - begun)}


def apart(folder: Path, steps: int) -> dict[str, float]:
    """Fits with one to four ranks, those of several twice, which must be the same to the bit.

    Returns:
        The largest difference of a loss from that of one rank, by the number of ranks.
    """
    fit("made", folder / "first")
    AcceleratorState._reset_state(reset_partial_state=True)
    whole, found = [], {}
    for ranks in (1, 2, 3, 4):
        ends = []
        for turn in ("once", "twice")[:ranks]:
            out = folder / f"{ranks}-{turn}"
            work = partial(fit, "made", out, steps=steps, batch_size=24)
            assert forked([work] * ranks) == [0] * ranks
            ends.append(results(out))
        assert ends[0] == ends[-1]
        losses = [entry["loss"] for entry in ends[0]["log"]]
        whole = whole or losses
        found[str(ranks)] = max(abs(a - b) for a, b in zip(losses, whole, strict=True))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    mode, place, *pairs = sys.argv[1:]
    given: dict[str, Any] = dict(pair.split("=") for pair in pairs)
    numbers = {key: int(value) if value.isdigit() else value for key, value in given.items()}
    modes: dict[str, Callable[..., dict[str, Any]]]
    modes = {"sweep": sweep, "creep": creep, "random": at_random, "apart": apart}
    print(json.dumps(modes[mode](Path(place), **numbers)))
