"""Sweeps: what a trial is fitted with, workers that die, and the table that is the same after."""

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smoothctl.errors import RunError, UsageError
from smoothctl.runs.config import StageConfig, TrainingConfig, to_toml
from smoothctl.runs.run import load_run
from smoothctl.storage.weights import write_weights
from smoothctl.sweeps import worker
from smoothctl.sweeps.results import axes_of, outcomes
from smoothctl.sweeps.space import Choice, parse_axis
from smoothctl.sweeps.trials import Trial, add_trial, trials_in
from smoothctl.sweeps.worker import Sweep, check, settings_of, work
from smoothctl.testing import CommandLine
from smoothctl.training.fit import FitSettings, Quiet

TINY = {"steps": 40, "batch_size": 64, "learning_rate": 0.05, "validation_limit": 256}
FIXED = FitSettings(
    dataset="six-modes",
    architecture="logistic-mixture",
    sigma=0.3,
    options={"mixtures": 2},
    training=TINY,
    device="cpu",
)
AXES = ("kernel=gaussian,laplace", "seed=0,1")
_TOLD = (
    "--dataset six-modes --arch logistic-mixture --set mixtures=2 --batch-size 64 "
    "--learning-rate 0.05 --sigma 0.3 --set training.validation_limit=256 --device cpu"
)
BUT_STEPS = tuple(_TOLD.split())
FLAGS = (*BUT_STEPS, "--steps", "40")


def sweep_over(folder: Path, *texts: str, **options: Any) -> Sweep:
    return Sweep(folder, "two-step", FIXED, [parse_axis(text) for text in texts], **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over kernel and seed, to its end."""
    folder = tmp_path_factory.mktemp("sweep") / "out"
    assert work(sweep_over(folder, *AXES), Quiet()) == 0
    return folder


def pretend(
    folder: Path, over: dict[str, Any], bounds: dict[int, float], fixed: dict[str, Any]
) -> Trial:
    """Makes a trial that looks complete, with these bounds."""
    trial = add_trial(folder, "baseline", fixed, over)
    config = StageConfig(
        stage="baseline",
        dataset="six-modes",
        event_shape=(1,),
        architecture="logistic-mixture",
        training=TrainingConfig(steps=40),
    )
    stage = trial.run.stage("baseline")
    stage.path.mkdir()
    stage.config_file.write_text(to_toml(config, {}), encoding="utf-8")
    lines = (json.dumps({"step": step, "validation": bound}) for step, bound in bounds.items())
    stage.log_file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    write_weights(stage.weights_file(), {"w": torch.zeros(1)}, config.to_dict())
    return trial


def table(folder: Path) -> list[tuple[int, dict[str, Any], float | None]]:
    return [(trial.number, dict(trial.over), trial.bound()) for trial in trials_in(folder)]


def test_trials_are_runs_and_their_bound_is_eq_3(done: Path) -> None:
    """The two held-out losses less the entropy of the kernel."""
    assert [trial.state() for trial in trials_in(done)] == ["complete"] * 4
    trial = trials_in(done)[3]
    run = load_run(trial.path)
    losses = [run.stage(name).log()[-1]["validation"] for name in ("prior", "denoiser")]
    method = run.two_step()
    assert method is not None
    assert trial.bound() == pytest.approx(sum(losses) - method.kernel.entropy((1,)))
    config = run.stage("denoiser").config()
    assert (config.kernel, config.sigma, config.seed) == ("laplace", 0.3, 1)


def test_seeds_come_together_the_best_first(done: Path) -> None:
    found = outcomes(trials_in(done))
    assert [len(each.trials) for each in found] == [2] * 2
    means = [sum(each.bounds) / 2 for each in found]
    assert means == sorted(means)
    assert axes_of(trials_in(done)) == [Choice("kernel", ("gaussian", "laplace"))]


def test_a_grid_that_grows_keeps_what_was_fitted(done: Path, monkeypatch) -> None:
    begun = []
    monkeypatch.setattr(worker, "fit_stage", lambda name, settings, _: begun.append(settings))
    grown = sweep_over(done, "kernel=gaussian,laplace,uniform", "seed=0")
    assert grown.next_settings(trials_in(done)) == {"kernel": "uniform", "seed": 0}
    same = sweep_over(done, *AXES)
    assert work(same, Quiet()) == 0
    assert not begun


def test_another_sweep_is_refused(done: Path) -> None:
    other = sweep_over(done, "kernel=gaussian,laplace")
    with pytest.raises(RunError, match=r"other settings \(seed\)"):
        work(other, Quiet())
    fixed = replace(FIXED, options={"mixtures": 3})
    other = replace(sweep_over(done, *AXES), fixed=fixed)
    with pytest.raises(RunError, match=r"other settings \(options\)"):
        work(other, Quiet())


def test_settings_of_one_stage() -> None:
    over = {"prior.mixtures": 3, "denoiser.mixtures": 5, "sigma": 0.2, "steps": 7,
            "training.ema": 0.9, "denoiser.steps": 9, "arch": "made", "seed": 4}  # fmt: skip
    trial = Trial(path=Path("t"), number=0, fit="two-step", fixed={}, over=over)
    prior, denoiser = (settings_of(FIXED, trial, name) for name in ("prior", "denoiser"))
    assert (prior.architecture, prior.sigma, prior.seed) == ("made", 0.2, 4)
    assert prior.options == {"mixtures": 3}
    assert prior.training == {**TINY, "steps": 7, "ema": 0.9}
    assert (denoiser.architecture, denoiser.sigma, denoiser.kernel) == (None, None, None)
    assert denoiser.options == {"mixtures": 5}
    assert denoiser.training == {**TINY, "steps": 9, "ema": 0.9}
    assert (denoiser.seed, denoiser.out) == (4, Path("t"))


@pytest.mark.parametrize(
    "texts", [("seed=1,2", "seed=3,4"), ("sigma=1,2",), ("mixtures=2,3",), ("steps=1,2",)]
)
def test_a_setting_that_is_given_twice(tmp_path: Path, texts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="given twice"):
        check(sweep_over(tmp_path, *texts))


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_at_its_step(tmp_path: Path, done: Path) -> None:
    """Nothing of it goes through Python's ends: it dies as by kill -9, between two steps."""

    class Killed(BaseException):
        pass

    class Dying(Quiet):
        steps = 0

        def advance(self, step: int, loss: float) -> None:
            self.steps += 1
            if self.steps > 130:
                raise Killed

        def note(self, message: str) -> None:
            notes.append(message)

    notes: list[str] = []
    with pytest.raises(Killed):
        work(sweep_over(tmp_path / "out", *AXES), Dying())
    assert [trial.state() for trial in trials_in(tmp_path / "out")] == ["complete", "unfinished"]
    quiet = Dying()
    quiet.steps = -10_000
    assert work(sweep_over(tmp_path / "out", *AXES), quiet) == 0
    assert any("Resumes" in note and "0001" in note for note in notes)
    assert table(tmp_path / "out") == table(done)


def test_two_workers_share_and_none_fits_twice(tmp_path: Path, done: Path) -> None:
    """They are two processes; both wait for the other's first trial."""
    axes = [word for axis in AXES for word in ("--over", axis)]
    command = [sys.executable, "-m", "smoothctl", "sweep", *FLAGS, *axes, "--json"]
    workers = [
        subprocess.Popen([*command, "--out", "out"], cwd=tmp_path, stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    said = [each.communicate(timeout=500) for each in workers]
    assert [each.returncode for each in workers] == [0, 0], said
    assert table(tmp_path / "out") == table(done)
    begun = [line for _, err in said for line in err.splitlines() if line.startswith("Trial ")]
    assert sorted(begun) == sorted(set(begun))
    assert len(begun) == 4


@pytest.mark.slow
def test_workers_are_killed_twenty_times(tmp_path: Path) -> None:
    """Two workers, one folder, kill -9 at random: the table of an uninterrupted sweep."""
    dice = random.Random(0)
    axes = ["--over", "seed=0,1,2,3,4", "--over", "kernel=gaussian,laplace", "--steps", "400"]
    command = [sys.executable, "-m", "smoothctl", "sweep", *BUT_STEPS, *axes, "--json"]
    subprocess.run([*command, "--out", "whole"], cwd=tmp_path, check=True, capture_output=True)
    kills, lock, nowhere = [0], threading.Lock(), subprocess.DEVNULL

    def worker_that_is_killed(seed: int) -> None:
        while True:
            process = subprocess.Popen(
                [*command, "--out", "killed"], cwd=tmp_path, stdout=nowhere, stderr=nowhere
            )
            with lock:
                spared = kills[0] >= 20
                kills[0] += not spared
            try:
                if process.wait(None if spared else dice.uniform(3, 9)) == 0:
                    return
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()

    threads = [threading.Thread(target=worker_that_is_killed, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kills[0] >= 20
    assert table(tmp_path / "killed") == table(tmp_path / "whole")


def test_a_wrong_first_trial_leaves_nothing(tmp_path: Path) -> None:
    wrong = sweep_over(tmp_path / "out", "widht=2,3")
    with pytest.raises(UsageError, match="no setting 'widht'"):
        work(wrong, Quiet())
    assert not (tmp_path / "out").exists()


def test_a_trial_that_fails_is_told_and_tried_again(tmp_path: Path, cli: CommandLine) -> None:
    flags = [*FLAGS, "--over", "seed=0,-1", "--out", "out"]
    code, out, err = cli("sweep", *flags)
    assert code == 1
    assert "1 trial failed" in err
    assert "0001-seed--1 failed: " in out
    assert [trial.state() for trial in trials_in(Path("out"))] == ["complete", "failed"]
    assert cli("sweep", *flags)[0] == 0  # it is left as it is
    assert cli("sweep", *flags, "--retry")[0] == 1


def test_given_up_where_it_falls_behind(tmp_path: Path) -> None:
    """It must be behind at the same step, of five others or more."""
    axes = [parse_axis("learning_rate=1,2,3,4,5,0.0000001")]
    training = {key: value for key, value in TINY.items() if key != "learning_rate"}
    fixed = replace(FIXED, sigma=None, training={**training, "validate_every": 10})
    sweep = Sweep(tmp_path, "baseline", fixed, axes, prune=True)
    for number in range(1, 6):
        bounds = {20: -100.0 + 100 * (number > 3)}
        pretend(tmp_path, {"learning_rate": number}, bounds, sweep.told())
    assert work(sweep, Quiet()) == 0
    last = trials_in(tmp_path)[-1]
    assert (last.state(), last.pruned) == ("pruned", 20)
    assert not last.run.stage("baseline").complete


def test_optuna_suggests_within_the_range_and_learns(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="pip install 'smoothctl[sweep]'")
    from smoothctl.sweeps.suggest import importance, suggest

    axes = [parse_axis("sigma=0.01..1"), parse_axis("kernel=gaussian,laplace")]
    drawn = []
    for number in range(25):
        over = suggest("tpe", axes, trials_in(tmp_path), 0)
        bound = abs(over["sigma"] - 0.3) + (over["kernel"] == "laplace")
        assert pretend(tmp_path, over, {1: bound}, {}).number == number
        assert all(axis.holds(over[axis.key]) for axis in axes)
        drawn.append(over)
    late = drawn[15:]
    assert sum(each["kernel"] == "gaussian" for each in late) > 6
    assert sum(0.1 < each["sigma"] < 0.6 for each in late) > 5
    shares = importance(axes, trials_in(tmp_path))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares.keys() == {"sigma", "kernel"}


def test_the_table_and_the_picture(tmp_path: Path, cli: CommandLine) -> None:
    for seed in (0, 1):
        for rate in (0.1, 0.01):
            pretend(tmp_path / "out", {"rate": rate, "seed": seed}, {1: rate + seed}, {})
    out = cli.output("sweep", "--status", "--out", "out")
    rows = [line.split("│")[1:4] for line in out.splitlines() if "complete" in line]
    assert [[cell.strip() for cell in row[:2]] for row in rows] == [
        ["0.01", "0.5100 ± 0.5000"],
        ["0.1", "0.6000 ± 0.5000"],
    ]
    assert "Best: out/0001-rate-0.01-seed-0\n$ smoothctl fit-baseline" in out
    assert Path("out/sweep.png").stat().st_size > 4000
    told = json.loads(cli.output("sweep", "--status", "--out", "out", "--json"))
    assert [each["nats"] for each in told["trials"]] == [0.1, 0.01, 1.1, 1.01]
    assert told["picture"] == "out/sweep.png"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "Name what to try"),
        ("--status --out none", "no sweep in none"),
        ("--status --over sigma=1,2", "--status fits nothing"),
        ("--status --dataset rings", "--status fits nothing"),
        ("--over sigma=1,2 --trials 3", "goes with another --sampler"),
        ("--over sigma=1,2 --sampler random --points 3", "grid alone"),
        ("--over sigma=1,2 --job a=1", "goes with --jobs"),
        ("--over sigma=1,2 --fit baseline", "no kernel, no sigma"),
        ("--over seed=1,2 --jobs 1 --cluster local --job nonsense=1", "cannot be submitted"),
    ],
)
def test_what_is_refused(words: str, said: str, cli: CommandLine) -> None:
    code, out, err = cli("sweep", *words.split())
    assert (code, out) == (2, "")
    assert said in err


def test_a_foreign_trial_is_damage(tmp_path: Path, cli: CommandLine) -> None:
    for text in (
        "{",
        "[]",
        '{"format": 2}',
        '{"format": 1, "number": -1}',
        '{"format": 1, "x": 2}',
    ):
        (tmp_path / "out/a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out/a/trial.json").write_text(text)
        code, _, err = cli("sweep", "--status", "--out", "out")
        assert code == 1
        assert "trial.json" in err


def test_a_log_that_is_gone_has_no_bound(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "out")
    first = trials_in(tmp_path / "out")[0]
    first.run.stage("prior").log_file.unlink()
    assert first.bound() is None
    assert sum(len(each.bounds) for each in outcomes(trials_in(tmp_path / "out"))) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit's Popen
def test_jobs_of_a_cluster(tmp_path: Path, cli: CommandLine) -> None:
    """Workers are submitted, do what the command says, and come back after a requeue."""
    pytest.importorskip("submitit", reason="pip install 'smoothctl[sweep]'")
    flags = [*FLAGS, "--over", "seed=0,1", "--out", tmp_path / "out"]
    cli.output("sweep", *flags, "--jobs", 1, "--cluster=local", "--job", "timeout_min=2")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        states = [trial.state() for trial in trials_in(tmp_path / "out")]
        if states == ["complete"] * 2:
            break
        time.sleep(0.5)
    assert states == ["complete"] * 2


@pytest.mark.slow
def test_a_job_that_is_taken_away_saves_its_step(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="pip install 'smoothctl[sweep]'")
    from smoothctl.sweeps.jobs import Job

    out = ["--steps", "100000", "--over", "seed=0,1", "--out", str(tmp_path / "out")]
    job = Job(["sweep", *BUT_STEPS, *out, "-q"])
    thread = threading.Thread(target=job)
    thread.start()
    while not any((tmp_path / "out").glob("*/prior/log.jsonl")):
        time.sleep(0.2)
    again = job.checkpoint()
    thread.join()
    assert again.function.arguments == job.arguments
    assert trials_in(tmp_path / "out")[0].run.stage("prior").steps_done > 0
