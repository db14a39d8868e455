"""Verbs that lose power or are killed at any moment, and are started again on what is left.

`python -m tests.power_child cut FOLDER DRAWS TWICE VERB=MOST …` prints what it did as JSON, and so
does `python -m tests.power_child kill FOLDER VERB=STRIDE …`.
"""

import json
import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer.main
from accelerate.state import AcceleratorState

from smoothctl import cli
from smoothctl.registry import registry
from smoothctl.training.fit import fit_denoiser, fit_prior
from tests.disk import Disk, Record, Recorder, Tree, digest, read, states, write
from tests.sampling_child import small_parts
from tests.training_child import die_at, fit, forked

_HARDLY: dict[str, Any] = {"steps": 2, "batch_size": 16, "warmup": 1, "validation_limit": 16}
_HARDLY = {"training": _HARDLY | {"checkpoint_every": 2}, "device": "cpu"}
_VECTORS = "--limit 200 --draws 1,8 --samples 0 --quadrature 0 --json --quiet"
_IMAGES = "--limit 20 --draws 1,2 --samples 20 --features none --json --quiet"
_QUICK = "--dataset points.npy --steps-factor 0.0003 --out run --quiet --json"
_RINGS = "--steps-factor 0.0003 --seeds 0 --limit 20 --draws 2 --out runs --quiet --json"


@dataclass(frozen=True)
class Verb:
    """What is cut: a command in a folder.

    Args:
        arrange: makes what there is before, below the root.
        work: the command, the same whether it starts or goes on.
        once: it refuses what it has completed.
    """

    arrange: Callable[[Path], None]
    work: Callable[[Path], None]
    once: bool = False


class Failed(Exception):
    """A command line ends in an error."""


def typed(words: str, root: Path) -> None:
    """Does what a person types in the root.

    Raises:
        Failed: it ends in an error.
    """
    os.chdir(root)
    sys.argv = ["smoothctl", *words.split()]
    try:
        cli.main()
    except SystemExit as ended:
        if ended.code:
            raise Failed(ended.code) from ended


def _fitted(root: Path, **training: Any) -> None:
    fit("made", root / "run", **training)


def _replaced(root: Path) -> None:
    fit("made", root / "run", overwrite=True)


def _data(root: Path) -> None:
    np.save(root / "points.npy", np.random.default_rng(0).normal(size=(2000, 2)))


def _points(root: Path) -> None:
    """Fits both stages to vectors, hardly, and scores them."""
    _data(root)
    os.chdir(root)
    fit_prior(out=root / "run", dataset="points.npy", sigma=0.3, options={"width": 8}, **_HARDLY)
    fit_denoiser(out=root / "run", **_HARDLY)
    typed(f"score run {_VECTORS} --seed 7", root)


def _pixels(root: Path) -> None:
    """Fits both stages to images of 4×4 pixels, hardly."""
    os.chdir(root)
    np.save("pixels.npy", np.arange(40 * 16, dtype=np.uint8).reshape(40, 4, 4))
    options = {"filters": 2, "blocks": 1, "mixtures": 1, "scales": 1}
    told = {"architecture": "pixelcnnpp", "options": options, "dataset": "pixels.npy"}
    fit_prior(out=root / "run", sigma=0.3, **told, **_HARDLY)
    fit_denoiser(out=root / "run", **_HARDLY)


VERBS = {
    "fit": Verb(lambda root: None, _fitted),
    "replace": Verb(partial(_fitted, learning_rate=0.1), _replaced),
    "longer": Verb(partial(_fitted, steps=4), _fitted),
    "sample": Verb(_pixels, partial(typed, "sample run -n 40 --out images.npz --quiet"), True),
    "folder": Verb(_pixels, partial(typed, "sample run -n 20 --out images --quiet"), True),
    "score": Verb(_points, partial(typed, f"score run {_VECTORS}")),
    "quickstart": Verb(_data, partial(typed, f"quickstart {_QUICK}")),
    "reproduce": Verb(_data, partial(typed, f"reproduce rings {_RINGS}")),
    "score-images": Verb(_pixels, partial(typed, f"score run {_IMAGES}")),
}


def comparable(tree: Tree) -> dict[str, Any]:
    """Returns what must be the same at the end: all, but for times, and figures made twice."""
    return {path: _timeless(path, content) for path, content in tree.items()}


def _timeless(path: str, content: bytes | None) -> Any:
    if content is None or not path.endswith(("log.jsonl", "scores.json")):
        return content
    entries = map(json.loads, content.splitlines()) if path.endswith("l") else json.loads(content)
    times = ("steps_per_second", "cpu_seconds", "time")
    told = [{key: value for key, value in entry.items() if key not in times} for entry in entries]
    return [entry for number, entry in enumerate(told) if entry not in told[:number]]


def _visible(found: dict[str, Any]) -> dict[str, Any]:
    """Returns what is not hidden."""
    return {path: value for path, value in found.items() if "/." not in f"/{path}"}


def _recorded(verb: Verb, root: Path, file: Path) -> Record:
    """Does the command in a child, and returns the record, of which nothing is missing."""

    def recording() -> None:
        recorder = Recorder(root)
        verb.work(root)
        recorder.look()
        file.write_bytes(pickle.dumps(recorder.record))

    AcceleratorState._reset_state(reset_partial_state=True)
    assert forked([recording]) == [0]
    record: Record = pickle.loads(file.read_bytes())
    disk = Disk(record)
    for operation in record.operations:
        disk.do(operation)
    assert disk.tree() == read(root), "The record does not give the folder."
    return record


def _arranged(verb: Verb, folder: Path) -> tuple[Path, Tree]:
    """Does the command undisturbed; returns its root, and what was there before."""
    for root in (folder / "first", folder / "root"):  # after one all is imported
        root.mkdir(parents=True)
        verb.arrange(root)
        before = read(root)
        verb.work(root)
    return root, before


def cut(folder: Path, name: str, draws: int, twice: int, most: int) -> dict[str, int]:
    """Cuts a verb at each of its moments, and starts it again on what may be left.

    Args:
        folder: an empty one.
        name: of the verb.
        draws: states of each moment.
        twice: how many of the starts are recorded, cut again, and started on ten states of each.
        most: states to start it on; chosen by chance where there are more.

    Returns:
        How many operations were recorded, how many states were made of them, how many of these
        differ, and on how many the verb was started.
    """
    begun, verb, dice = time.monotonic(), VERBS[name], random.Random(0)
    root, before = _arranged(verb, folder)
    write(before, root)
    record = _recorded(verb, root, folder / "record")
    whole = comparable(read(root))
    made = list(states(record, draws))
    different = _different(made)
    chosen = dice.sample(different, min(most, len(different)))
    for tree in chosen:
        _start(verb, root, tree, whole)
    for tree in dice.sample(chosen, min(twice, len(chosen))):
        write(tree, root)
        if not verb.once or _visible(comparable(tree)) != _visible(whole):
            again = _different(list(states(_recorded(verb, root, folder / "record"), 2)))
            for other in dice.sample(again, min(10, len(again))):
                _start(verb, root, other, whole)
                chosen.append(other)
    counted = {"operations": len(record.operations), "states": len(made)}
    seconds = round(time.monotonic() - begun)
    return counted | {"different": len(different), "started": len(chosen), "seconds": seconds}


def kill(folder: Path, name: str, stride: int) -> dict[str, int]:
    """Kills a verb at every stride-th change of its folder, and once more as it goes on.

    Args:
        folder: an empty one.
        name: of the verb.
        stride: from one point to the next.

    Returns:
        How many points and kills there were.
    """
    verb, kills = VERBS[name], 0
    root, before = _arranged(verb, folder)
    whole = comparable(read(root))
    AcceleratorState._reset_state(reset_partial_state=True)
    for point in range(1, 10_000, stride):
        write(before, root)
        if _survives(verb, root, point):
            assert comparable(read(root)) == whole
            return {"points": point - 1, "kills": kills}
        kills += 1 + (not _survives(verb, root, point))
        _start(verb, root, read(root), whole)
    raise AssertionError("It never came to an end.")


def _survives(verb: Verb, root: Path, point: int) -> bool:
    """Starts a verb that dies at a change of the root; returns whether it came to its end."""

    def doomed() -> None:
        die_at(point, root)
        try:
            verb.work(root)
        except Failed:
            assert verb.once

    (code,) = forked([doomed])
    assert code in (0, -signal.SIGKILL), code
    return code == 0


def _different(trees: list[Tree]) -> list[Tree]:
    return list({digest(tree): tree for tree in trees}.values())


def _start(verb: Verb, root: Path, tree: Tree, whole: dict[str, Any]) -> None:
    """Starts a verb on a state, and checks that its end is the one of an undisturbed verb.

    One that refuses what is complete may leave what is hidden.
    """
    write(tree, root)
    sync, os.fsync = os.fsync, lambda descriptor: None  # nobody waits for the disk
    try:
        verb.work(root)
        found = comparable(read(root))
    except Failed:
        assert verb.once, sorted(tree)
        found, whole = _visible(comparable(tree)), _visible(whole)
    finally:
        os.fsync = sync
    wrong = [path for path in found.keys() | whole.keys() if found.get(path) != whole.get(path)]
    assert not wrong, f"{wrong} differ after a start on {sorted(tree)}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    small_parts()
    registry.read = cache(registry.read)  # what is installed stays the same
    typer.main.get_command = cache(typer.main.get_command)
    mode, place, *verbs = sys.argv[1:]
    chances = [int(verbs.pop(0)), int(verbs.pop(0))] if mode == "cut" else []
    counted = {}
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        for each, number in (pair.split("=") for pair in verbs):
            work = {"cut": cut, "kill": kill}[mode]
            counted[each] = work(Path(place, each), each, *chances, int(number))
    print(json.dumps(counted))
