"""Nothing is lost of long work: parts on disk; samples and scores that were stopped anywhere."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from smoothctl.errors import RunError
from smoothctl.rng import generator, row_generators, skipped
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling import draw as sampling
from smoothctl.sampling.draw import draw_all, samples_key
from smoothctl.smoothing import batching
from smoothctl.smoothing.batching import AT_ONCE, Execution
from smoothctl.storage.locks import hold
from smoothctl.storage.partial import PartialResults
from smoothctl.testing import CommandLine
from tests.launches import ENVIRONMENT, launcher
from tests.sampling_child import SHARD

CHILD = str(Path(__file__).with_name("sampling_child.py"))
TINY = {"steps": 3, "batch_size": 16, "warmup": 1, "validation_limit": 16}
SMALL = {"filters": 4, "blocks": 1, "mixtures": 1, "scales": 1, "classes": 10}
SCORE = ["--limit", "40", "--draws", "1,2", "--samples", "20", "--features", "none", "--json"]


@pytest.fixture
def run(class_run: Run) -> Run:
    """A run of all stages on digits by class."""
    return class_run


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `sampling_child.small_parts` does."""
    monkeypatch.setattr(sampling, "_BATCHES", 2)
    monkeypatch.setitem(batching._MOST_IMAGES, "cpu", SHARD // 2)
    monkeypatch.setitem(batching.KEPT_ROWS, "image", SHARD)
    monkeypatch.setitem(batching.KEPT_ROWS, "vector", 64 * SHARD)


@pytest.fixture
def cli(small_parts: None, cli: CommandLine) -> CommandLine:
    """The command line, whose parts are small."""
    return cli


def killed(moment: int, *words: object) -> bool:
    """Runs a command line that kills itself at a sync of a file; returns whether it came so far."""
    command = [sys.executable, CHILD, str(moment), *map(str, words)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=240, check=False)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode != 0


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as found:
        return {name: found[name] for name in found}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(a[key].tobytes() == b[key].tobytes() for key in a)


def hidden(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.name.startswith(".")]


class TestParts:
    """The store itself."""

    TENSORS = {"x": torch.tensor([0.1, -0.0, torch.nan, torch.inf]), "n": torch.arange(3)}  # noqa: RUF012

    def parts(self, folder: Path, key: object = 1) -> tuple[PartialResults, list[str], list[str]]:
        """Returns parts, what they said, and which were computed."""
        said: list[str] = []
        return PartialResults(folder / "parts", {"key": key}, said.append), said, []

    def get(self, parts: PartialResults, name: str, computed: list[str]) -> dict[str, Tensor]:
        kept = parts.get(name)
        if kept is None:
            computed.append(name)
            kept = self.TENSORS
            parts.put(name, kept)
        return kept

    def test_each_is_computed_once_and_comes_back_to_the_bit(self, tmp_path: Path) -> None:
        for _ in range(2):
            parts, said, computed = self.parts(tmp_path)
            for name in ("a", "b"):
                found = self.get(parts, name, computed)
                for key, tensor in self.TENSORS.items():
                    assert found[key].numpy().tobytes() == tensor.numpy().tobytes()
        assert (said, computed) == ([], [])
        assert parts.names() == ["a", "b"]
        parts.done()
        assert list(tmp_path.iterdir()) == []

    def test_those_of_another_key_are_removed(self, tmp_path: Path) -> None:
        parts, _, computed = self.parts(tmp_path)
        self.get(parts, "a", computed)
        self.get(parts, "b", computed)
        other, said, computed = self.parts(tmp_path, key=2)
        assert not other.has("a")
        assert parts.has("a")
        self.get(other, "a", computed)
        assert computed == ["a"]
        assert len(said) == 1
        assert "of other weights" in said[0]
        assert other.names() == ["a"]
        assert other.has("a")

    @pytest.mark.parametrize("damage", ["cut", "bit", "empty", "swapped"])
    def test_damaged_ones_are_done_again_and_said(self, tmp_path: Path, damage: str) -> None:
        parts, said, computed = self.parts(tmp_path)
        for name in ("a", "b", "c"):
            self.get(parts, name, computed)
        file = tmp_path / "parts" / "b.safetensors"
        content = bytearray(file.read_bytes())
        if damage == "cut":
            content = content[:-1]
        elif damage == "bit":
            content[-1] ^= 1
        elif damage == "empty":
            content.clear()
        else:
            content[:] = (tmp_path / "parts" / "c.safetensors").read_bytes()
        file.write_bytes(content)
        computed.clear()
        for name in ("a", "b", "c"):
            self.get(parts, name, computed)
        assert computed == ["b"]
        assert [("again" in sentence, str(file) in sentence) for sentence in said] == [(True, True)]

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "parts").write_text("a file")
        parts, _, computed = self.parts(tmp_path)
        with pytest.raises(RunError, match="Cannot write"):
            self.get(parts, "a", computed)

    def test_nothing_is_kept_unless_it_is_asked_for(self, in_tmp: Path) -> None:
        AT_ONCE.keep("a", self.TENSORS)
        assert AT_ONCE.kept("a") is None
        assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize("rows", [0, 1, 7, 300])
def test_rows_are_skipped_to(rows: int) -> None:
    seeds = [each.initial_seed() for each in row_generators(rows + 5, generator("x"))]
    rest = row_generators(5, skipped(generator("x"), rows))
    assert [each.initial_seed() for each in rest] == seeds[rows:]


class TestSamples:
    """`draw_all` and `sample` of images."""

    def test_shards_change_nothing(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """All methods; batches are cut at the same rows, as the last bits depend on that."""
        methods = ["two-step", "single-step", "smoothed", "baseline"]
        cut = draw_all(run, methods, 520, seed=2)
        monkeypatch.setattr(sampling, "_BATCHES", 1000)
        whole = draw_all(run, methods, 520, seed=2)
        for method in methods:
            for mine, theirs in zip(cut[method], whole[method], strict=True):
                assert mine is theirs or torch.equal(mine, theirs)

    def test_other_numbers_reuse_whole_shards(
        self, run: Run, tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts, drawn, really = PartialResults(tmp_path / "parts", {}), [], PartialResults.put

        def put(self: PartialResults, name: str, tensors: dict[str, Tensor]) -> None:
            drawn.append(tuple(map(int, name.split("-")[1:])))
            really(self, name, tensors)

        monkeypatch.setattr(PartialResults, "put", put)
        for n in (40, 70, 32):
            found = draw_all(run, ["two-step"], n, execution=Execution(partial=parts))["two-step"]
            fresh = draw_all(run, ["two-step"], n)["two-step"]
            assert torch.equal(found.samples, fresh.samples)
            assert torch.equal(found.labels, torch.arange(n) % 10)
        kept = [cut for number, cut in enumerate(drawn) if drawn.index(cut) == number]
        assert kept == [(0, 16), (16, 32), (32, 40), (32, 48), (48, 64), (64, 70)]
        assert len(drawn) == 3 + 3 + 0

    @pytest.mark.parametrize("moment", [1, 5, 9, 11])
    def test_a_kill_loses_at_most_a_shard(
        self, run: Run, tmp_path: Path, cli: CommandLine, moment: int
    ) -> None:
        words = ["sample", run.path, "-n", 40, "--out", tmp_path / "a.npz"]
        assert killed(moment, *words)
        code, _, err = cli(*words)
        assert code == 0, err
        assert ("Goes on at image" in err) == (moment == 5)
        assert hidden(tmp_path) == []
        assert cli(*words[:-1], tmp_path / "b.npz")[0] == 0
        assert same(arrays(tmp_path / "a.npz"), arrays(tmp_path / "b.npz"))
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_a_kill_while_a_folder_is_written(
        self, run: Run, tmp_path: Path, cli: CommandLine
    ) -> None:
        words = ["sample", run.path, "-n", 40, "--out", tmp_path / "images"]
        assert killed(50, *words)
        assert any("tmp" in name for name in hidden(tmp_path))
        assert cli(*words)[0] == 0
        assert len(list((tmp_path / "images").glob("*.png"))) == 40
        assert hidden(tmp_path) == []
        code, _, err = cli(*words)
        assert code == 1
        assert "is there already" in err

    @pytest.fixture
    def stopped(
        self, run: Run, tmp_path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> list[object]:
        """A command line that Ctrl-C stopped in its third shard of four."""
        words = ["sample", run.path, "-n", 60, "--out", tmp_path / "a.npz"]
        really = PartialResults.get

        def get(self: PartialResults, name: str) -> dict[str, Tensor] | None:
            if name.startswith(f"images-{2 * SHARD:08d}"):
                os.kill(os.getpid(), signal.SIGINT)
            return really(self, name)

        with monkeypatch.context() as patch:
            patch.setattr(PartialResults, "get", get)
            code, out, err = cli(*words)
        assert (code, out) == (130, "")
        assert "Stopped after 32 of 60 images; the same command goes on from there." in err
        assert hidden(tmp_path) == [".a.npz.parts"]
        return words

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ([], "Goes on at image 33 of 60."),
            (["--seed", 1], "Starts anew"),
            (["--label", 3], "Starts anew"),
            (["--method", "smoothed"], "Starts anew"),
        ],
    )
    def test_parts_of_other_work_are_not_taken(
        self, stopped: list[object], tmp_path: Path, cli: CommandLine, more: list, said: str
    ) -> None:
        code, _, err = cli(*stopped, *more)
        assert (code, said in err) == (0, True), err
        assert cli(*stopped[:-1], tmp_path / "b.npz", *more)[0] == 0
        assert same(arrays(tmp_path / "a.npz"), arrays(tmp_path / "b.npz"))
        assert hidden(tmp_path) == []

    def test_other_weights_are_other_work(self, run: Run, tmp_path: Path) -> None:
        copy = load_run(shutil.copytree(run.path, tmp_path / "run"))
        before = samples_key(copy)
        assert before == samples_key(run)
        with (copy.path / "denoiser" / "model.safetensors").open("ab") as file:
            file.write(b" ")
        assert samples_key(copy) != before

    def test_a_damaged_shard_is_drawn_again(
        self, stopped: list[object], tmp_path: Path, cli: CommandLine
    ) -> None:
        shard = tmp_path / ".a.npz.parts" / "images-00000000-00000016.safetensors"
        content = bytearray(shard.read_bytes())
        content[-5] ^= 16
        shard.write_bytes(content)
        code, _, err = cli(*stopped)
        assert (code, "as its file is damaged" in err) == (0, True)
        assert cli(*stopped[:-1], tmp_path / "b.npz")[0] == 0
        assert same(arrays(tmp_path / "a.npz"), arrays(tmp_path / "b.npz"))

    def test_a_full_disk_keeps_what_there_is(
        self, stopped: list[object], tmp_path: Path, cli: CommandLine, monkeypatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            code, _, err = cli(*stopped)
        assert code == 1
        assert "No space left on device" in err
        code, _, err = cli(*stopped)
        assert (code, "Goes on at image 33" in err) == (0, True)

    def test_two_processes_do_not_draw_into_one_target(
        self, run: Run, tmp_path: Path, cli: CommandLine
    ) -> None:
        with hold(tmp_path / ".a.npz.lock", "a.npz"):
            code, _, err = cli("sample", run.path, "-n", 40, "--out", tmp_path / "a.npz")
        assert code == 1
        assert "a.npz is in use by process" in err
        assert list(tmp_path.iterdir()) == []

    def test_few_images_leave_no_parts(
        self, run: Run, tmp_path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(PartialResults, "put", lambda _, name, x: x and pytest.fail(name))
        assert cli("sample", run.path, "-n", SHARD, "--out", tmp_path / "a.npz")[0] == 0
        assert hidden(tmp_path) == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "verb",
        [
            ["sample"],
            pytest.param(["denoise", "test"], marks=pytest.mark.slow),
            ["inpaint", "test"],
        ],
    )
    def test_a_kill_between_the_arrays_and_the_picture(
        self, run: Run, tmp_path: Path, cli: CommandLine, verb: list[str]
    ) -> None:
        """The same command writes both again; any other finds a file that is not its own."""
        words = [*verb, run.path, "-n", 2, "--out", tmp_path / "a.npz"]
        assert killed(6, *words)
        written = (tmp_path / "a.npz").read_bytes()
        assert not (tmp_path / "a.png").exists()
        code, _, err = cli(*words, "--seed", 1)
        assert (code, "is there already" in err) == (1, True)
        assert (tmp_path / "a.npz").read_bytes() == written
        code, _, err = cli(*words)
        assert code == 0, err
        assert (tmp_path / "a.png").exists()
        assert hidden(tmp_path) == []
        assert cli(*words[:-1], tmp_path / "b.npz")[0] == 0
        assert same(arrays(tmp_path / "a.npz"), arrays(tmp_path / "b.npz"))
        code, _, err = cli(*words)
        assert (code, "is there already" in err) == (1, True)


class TestScores:
    """`score` of a run, of images and of vectors."""

    @pytest.mark.slow
    @pytest.mark.parametrize("moment", [2, 22])
    def test_a_kill_loses_at_most_a_part(self, run: Run, cli: CommandLine, moment: int) -> None:
        words = ["score", run.path, *SCORE]
        whole = cli(*words)
        assert killed(moment, *words)
        assert any(".parts" in name for name in hidden(run.path))
        again = cli(*words)
        assert (whole[0], again[0]) == (0, 0), again[2]
        assert figures(again[1]) == figures(whole[1])
        assert hidden(run.path) == []

    def test_vectors_go_on_too(
        self, trained_run: Run, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ["score", trained_run.path, "--limit", 400, "--draws", "1,4", "--samples", 0]
        words += ["--quadrature", 1, "--json"]
        whole = cli(*words)
        write, written = PartialResults.put, []

        def stop(self: PartialResults, name: str, tensors: dict[str, Tensor]) -> None:
            if name.startswith("quadrature"):
                os.kill(os.getpid(), signal.SIGTERM)
            write(self, name, tensors)

        def note(self: PartialResults, name: str, tensors: dict[str, Tensor]) -> None:
            written.append(name.split("-")[0])
            write(self, name, tensors)

        with monkeypatch.context() as patch:
            patch.setattr(PartialResults, "put", stop)
            code, _, err = cli(*words)
        assert (code, "goes on from what it has" in err) == (143, True)
        monkeypatch.setattr(PartialResults, "put", note)
        assert figures(cli(*words)[1]) == figures(whole[1])
        assert set(written) == {"quadrature"}
        assert hidden(trained_run.path) == []
        (trained_run.path / "scores.json").unlink()


def figures(text: str) -> dict[str, object]:
    """Returns what is no time in the figures that a score printed."""
    found = json.loads(text)
    return {key: found[key] for key in ("likelihood", "samples", "not_available")}


class TestProcesses:
    """Two gloo ranks by Accelerate's launcher: what one process gives, to the bit."""

    def launch(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [*launcher()[:-2], CHILD, "0", *map(str, words), "--device", "cpu"]
        return subprocess.run(
            command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
        )

    @pytest.mark.slow
    def test_samples(self, run: Run, tmp_path: Path, cli: CommandLine) -> None:
        words = ["sample", run.path, "-n", 41, "--method", "all", "--out"]
        two = self.launch(*words, tmp_path / "two.npz")
        assert two.returncode == 0, two.stderr
        assert cli(*words, tmp_path / "one.npz")[0] == 0
        assert same(arrays(tmp_path / "two.npz"), arrays(tmp_path / "one.npz"))
        assert (tmp_path / "two.png").read_bytes() == (tmp_path / "one.png").read_bytes()
        assert two.stdout.splitlines() == [f"{tmp_path}/two.npz", f"{tmp_path}/two.png"]
        assert hidden(tmp_path) == []

    def test_scores(self, run: Run, cli: CommandLine) -> None:
        two, one = (
            self.launch("score", run.path, *SCORE),
            cli("score", run.path, *SCORE),
        )
        assert two.returncode == 0, two.stderr
        shared, alone = figures(two.stdout), figures(one[1])
        assert shared["samples"] == alone["samples"]
        for mine, theirs in zip(shared["likelihood"], alone["likelihood"], strict=True):
            assert mine["nats"] == pytest.approx(theirs["nats"], rel=1e-6)
        assert hidden(run.path) == []

    @pytest.mark.slow
    def test_annealed_scores(self, trained_run: Run, cli: CommandLine) -> None:
        words = ["score", trained_run.path, "--limit", 9000, "--draws", 1, "--samples", 0]
        words += ["--bound", "sandwich", "--temperatures", 3, "--quadrature", 0, "--json"]
        two, one = self.launch(*words), cli(*words)
        assert two.returncode == 0, two.stderr
        shared, alone = json.loads(two.stdout), json.loads(one[1])
        for mine, theirs in zip(shared["likelihood"], alone["likelihood"], strict=True):
            assert mine["nats"] == pytest.approx(theirs["nats"], rel=1e-6, abs=1e-6)
        assert hidden(trained_run.path) == []
        (trained_run.path / "scores.json").unlink()

    @pytest.mark.slow
    def test_scores_of_vectors(self, trained_run: Run, cli: CommandLine) -> None:
        words = ["score", trained_run.path, "--limit", 400, "--draws", 4, "--samples", 9]
        words += ["--quadrature", 0, "--json"]
        two, one = self.launch(*words), cli(*words)
        assert two.returncode == 0, two.stderr
        assert figures(two.stdout)["samples"] == figures(one[1])["samples"]
        assert hidden(trained_run.path) == []
        (trained_run.path / "scores.json").unlink()


@pytest.mark.slow
def test_kills_anywhere(run: Run, tmp_path: Path, cli: CommandLine) -> None:
    """Two dozen kills at random syncs, of work that others had begun."""
    pick = random.Random(0)
    sample = ["sample", run.path, "-n", 70, "--method", "all", "--out"]
    whole = cli(*sample, tmp_path / "whole.npz")
    scored = cli("score", run.path, *SCORE)
    assert (whole[0], scored[0]) == (0, 0)
    kills = 0
    while kills < 24:
        target = tmp_path / f"{kills}.npz"
        for words in ([*sample, target], ["score", run.path, *SCORE]):
            for _ in range(pick.randint(1, 3)):
                if not killed(pick.randint(1, 14), *words):
                    break
                kills += 1
        code, _, err = cli(*sample, target, *["--overwrite"] * target.exists())
        assert code == 0, err
        assert same(arrays(target), arrays(tmp_path / "whole.npz"))
        assert hidden(tmp_path) == []
        assert figures(cli("score", run.path, *SCORE)[1]) == figures(scored[1])
        assert hidden(load_run(run.path).path) == []
