"""Training is a pure function of its configuration, whenever it is stopped."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from smoothctl.distributed.signals import caught
from smoothctl.errors import DataError, Interrupted, RunError, TrainingError, UsageError
from smoothctl.runs.config import TrainingConfig
from smoothctl.runs.run import Run, load_run
from smoothctl.storage.weights import read_weights
from smoothctl.training.fit import Quiet, fit_baseline, fit_denoiser, fit_joint, fit_prior
from smoothctl.training.schedule import learning_rate
from tests.conftest import SMALL, TINY


def fit(out: Path, **changes: Any) -> Run:
    training = {**TINY, "checkpoint_every": 20, **changes.pop("training", {})}
    settings = {"dataset": "two-moons", "options": SMALL, "sigma": 0.3, "device": "cpu"}
    reporter = changes.pop("reporter", None)
    return fit_prior(reporter, **{**settings, "out": out, "training": training, **changes})


def weights(run: Run, stage: str = "prior") -> dict[str, torch.Tensor]:
    return read_weights(run.path / stage / "model.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class StopAt(Quiet):
    """Sends a signal to this process at a step, as a person or a scheduler would."""

    def __init__(self, step: int, signum: int = signal.SIGINT) -> None:
        self.step, self.signum, self.notes = step, signum, []

    def advance(self, step: int, loss: float) -> None:
        if step == self.step:
            os.kill(os.getpid(), self.signum)

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_same_configuration_same_weights(tmp_path: Path) -> None:
    assert same(weights(fit(tmp_path / "a")), weights(fit(tmp_path / "b")))


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    assert not same(weights(fit(tmp_path / "a")), weights(fit(tmp_path / "b", seed=1)))


def test_training_lowers_the_validation_loss(tmp_path: Path) -> None:
    run = fit(tmp_path / "a", training={"steps": 200})
    losses = [e["validation"] for e in run.stage("prior").log() if "validation" in e]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("step", [1, 33])
def test_a_signal_saves_and_the_same_command_goes_on(
    tmp_path: Path, signum: int, code: int, step: int
) -> None:
    whole = weights(fit(tmp_path / "whole"))
    with pytest.raises(Interrupted, match=f"step {step} of 60") as stopped:
        fit(tmp_path / "cut", reporter=StopAt(step, signum))
    assert stopped.value.exit_code == code
    assert not (tmp_path / "cut/prior/model.safetensors").exists()
    again = StopAt(0)
    run = fit(tmp_path / "cut", reporter=again)
    assert any(f"at step {step}" in note for note in again.notes)
    assert same(weights(run), whole)
    steps = [entry["step"] for entry in run.stage("prior").log()]
    assert steps == sorted(set(steps))


def test_best_and_log_are_also_the_same_after_a_stop(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", reporter=StopAt(31))
    cut = fit(tmp_path / "cut")
    best = [read_weights(run.path / "prior/best.safetensors")[0] for run in (whole, cut)]
    assert same(*best)

    def results(run: Run) -> list[dict[str, float]]:
        log = run.stage("prior").log()
        return [
            {k: v for k, v in e.items() if k not in ("steps_per_second", "cpu_seconds")}
            for e in log
        ]

    assert results(whole) == results(cut)


def test_leftovers_of_a_killed_write_are_removed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", reporter=StopAt(30))
    (tmp_path / "a/prior/checkpoints/.step-00000040.0badcafe.tmp").mkdir()
    (tmp_path / "a/prior/.model.safetensors.0badcafe.tmp").write_bytes(b"half")
    fit(tmp_path / "a")
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_damaged_checkpoint_is_skipped_by_name(tmp_path: Path) -> None:
    whole = weights(fit(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", reporter=StopAt(45))
    newest = sorted((tmp_path / "cut/prior/checkpoints").glob("step-*"))[-1]
    state = newest / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    witness = StopAt(0)
    run = fit(tmp_path / "cut", reporter=witness)
    assert any("Skipped the checkpoint step-00000045" in note for note in witness.notes)
    assert any("at step 40" in note for note in witness.notes)
    assert same(weights(run), whole)


def test_a_checkpoint_whose_manifest_is_absurd_is_skipped_too(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", reporter=StopAt(45))
    newest = sorted((tmp_path / "cut/prior/checkpoints").glob("step-*"))[-1]
    manifest = newest / "manifest.json"
    content = json.loads(manifest.read_text())
    content["sha256"]["x" * 5000] = "0" * 64
    manifest.write_text(json.dumps(content))
    witness = StopAt(0)
    fit(tmp_path / "cut", reporter=witness)
    assert any("Skipped the checkpoint step-00000045" in note for note in witness.notes)
    assert any("at step 40" in note for note in witness.notes)


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    run = fit(tmp_path / "a", training={"keep": 2, "checkpoint_every": 10})
    names = [p.name for p in sorted(run.stage("prior").checkpoints.iterdir())]
    assert names == ["step-00000050", "step-00000060"]


def test_a_complete_stage_is_left_alone(tmp_path: Path) -> None:
    run = fit(tmp_path / "a")
    before = (run.path / "prior/model.safetensors").stat().st_mtime_ns
    witness = StopAt(0)
    fit(tmp_path / "a", reporter=witness)
    assert (run.path / "prior/model.safetensors").stat().st_mtime_ns == before
    assert any("already complete" in note for note in witness.notes)


def test_another_configuration_is_refused_by_key_unless_overwritten(tmp_path: Path) -> None:
    fit(tmp_path / "a")
    with pytest.raises(RunError, match=r"seed: 0 → 1.*training.steps: 60 → 59"):
        fit(tmp_path / "a", seed=1, training={"steps": 59})
    run = fit(tmp_path / "a", seed=1, training={"steps": 59}, overwrite=True)
    assert run.stage("prior").config().seed == 1


class TestMoreSteps:
    """A stage that was fitted for fewer steps goes on."""

    LEVEL = MappingProxyType({"decay": "constant"})

    def test_both_parts_are_one_fit_where_the_schedule_is_the_same(self, tmp_path: Path) -> None:
        whole = fit(tmp_path / "whole", training=self.LEVEL)
        fit(tmp_path / "cut", training={**self.LEVEL, "steps": 40})
        witness = StopAt(0)
        longer = fit(tmp_path / "cut", training=self.LEVEL, reporter=witness)
        assert any("at step 40 of 60" in note for note in witness.notes)
        assert same(weights(longer), weights(whole))
        assert longer.stage("prior").config() == whole.stage("prior").config()
        steps = [entry["step"] for entry in longer.stage("prior").log()]
        assert steps == sorted(set(steps))
        assert not (tmp_path / "cut/.prior.replaced").exists()

    def test_a_cosine_that_has_ended_rises_to_where_the_longer_one_is(self, tmp_path: Path) -> None:
        fit(tmp_path / "a", training={"steps": 40, "log_every": 1})
        run = fit(tmp_path / "a", training={"log_every": 1})
        rates = [entry["learning_rate"] for entry in run.stage("prior").log()]
        assert rates[39] < 1e-4 < rates[40]
        assert rates[40] == learning_rate(40, run.stage("prior").config().training)

    @pytest.mark.parametrize("stop", [41, 55])
    def test_half_of_it_goes_on_too(self, tmp_path: Path, stop: int) -> None:
        for name in ("a", "b"):
            fit(tmp_path / name, training={"steps": 40})
        whole = weights(fit(tmp_path / "a"))
        before = weights(load_run(tmp_path / "b"))
        with pytest.raises(Interrupted):
            fit(tmp_path / "b", reporter=StopAt(stop))
        kept = tmp_path / "b/.prior.replaced"
        assert same(read_weights(kept / "model.safetensors")[0], before)
        assert "steps = 40" in (kept / "config.toml").read_text()
        assert same(weights(fit(tmp_path / "b")), whole)

    def test_half_a_stage_takes_more_steps(self, tmp_path: Path) -> None:
        whole = weights(fit(tmp_path / "whole", training=self.LEVEL))
        with pytest.raises(Interrupted):
            fit(tmp_path / "a", training={**self.LEVEL, "steps": 40}, reporter=StopAt(31))
        assert same(weights(fit(tmp_path / "a", training=self.LEVEL)), whole)

    def test_killed_before_its_configuration_was_written(self, tmp_path: Path) -> None:
        whole = fit(tmp_path / "a", training={"steps": 40})
        before = weights(whole)
        kept = tmp_path / "a/.prior.replaced"
        kept.mkdir()
        (tmp_path / "a/prior/model.safetensors").rename(kept / "model.safetensors")
        assert same(weights(fit(tmp_path / "a", training={"steps": 40})), before)

    def test_without_its_checkpoint_nothing_is_touched(self, tmp_path: Path) -> None:
        run = fit(tmp_path / "a")
        shutil.rmtree(run.stage("prior").checkpoints)
        with pytest.raises(RunError, match=r"no checkpoint of its step 60.*`init_from="):
            fit(tmp_path / "a", training={"steps": 80})
        assert load_run(tmp_path / "a").stages() == ["prior"]


class TestInitFrom:
    """A fit that starts from the weights of another run."""

    def test_it_starts_there(self, tmp_path: Path) -> None:
        first = fit(tmp_path / "a")
        file = first.stage("prior").weights_file()
        still = {"steps": 1, "learning_rate": 1e-9, "ema": 0.0}
        second = fit(tmp_path / "b", init_from=file, seed=1, training=still)
        a, b = weights(first), weights(second)
        assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert second.stage("prior").config().init_from == f"sha256:{digest}"

    def test_it_goes_on_after_a_stop(self, tmp_path: Path) -> None:
        file = fit(tmp_path / "a").stage("prior").weights_file()
        whole = weights(fit(tmp_path / "whole", init_from=file, seed=1))
        with pytest.raises(Interrupted):
            fit(tmp_path / "cut", init_from=file, seed=1, reporter=StopAt(30))
        with pytest.raises(RunError, match=r"init_from: sha256:\w+ → none"):
            fit(tmp_path / "cut", seed=1)
        assert same(weights(fit(tmp_path / "cut", init_from=file, seed=1)), whole)

    def test_weights_that_do_not_fit_are_refused_by_name(self, tmp_path: Path) -> None:
        file = fit(tmp_path / "a").stage("prior").weights_file()
        with pytest.raises(RunError, match=r"prior \(made\) that this stage cannot start from: "):
            fit(tmp_path / "b", init_from=file, options={**SMALL, "width": 17})
        assert not (tmp_path / "b/prior/config.toml").exists()

    @pytest.mark.parametrize(
        ("named", "said"),
        [
            ("none", "No such file"),
            ("a/prior", "takes a weights file, such as"),
            ("sha256:beef", "name their file by `init_from`"),
        ],
    )
    def test_what_is_no_file_is_refused(self, tmp_path: Path, named: str, said: str) -> None:
        (tmp_path / "a/prior").mkdir(parents=True)
        file = named if ":" in named else tmp_path / named
        with pytest.raises(UsageError, match=said):
            fit(tmp_path / "b", init_from=file)


def test_overwriting_keeps_the_old_stage_until_the_new_one_is_complete(tmp_path: Path) -> None:
    before = weights(fit(tmp_path / "a"))
    with pytest.raises(DataError, match="too few"):
        fit(tmp_path / "a", training={"accumulate": 1000}, overwrite=True)
    assert same(weights(load_run(tmp_path / "a")), before)
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", seed=1, overwrite=True, reporter=StopAt(30))
    assert same(read_weights(tmp_path / "a/.prior.replaced/model.safetensors")[0], before)
    again = StopAt(0)
    fit(tmp_path / "a", seed=1, overwrite=True, reporter=again)
    assert any("at step 30" in note for note in again.notes)
    assert not (tmp_path / "a/.prior.replaced").exists()
    assert load_run(tmp_path / "a").stage("prior").config().seed == 1


def test_a_start_that_failed_does_not_block_another_configuration(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        fit(tmp_path / "a", training={"learning_rate": 1e30, "clip": 0.0, "warmup": 0})
    assert fit(tmp_path / "a").stages() == ["prior"]


def test_a_signal_in_the_last_step_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="is complete") as stopped:
        fit(tmp_path / "a", reporter=StopAt(60, signal.SIGTERM))
    assert stopped.value.exit_code == 143
    assert load_run(tmp_path / "a").stages() == ["prior"]


def test_checkpoints_of_another_stage_are_not_taken(tmp_path: Path) -> None:
    whole = weights(fit(tmp_path / "a"))
    fit(tmp_path / "b", seed=1)
    shutil.rmtree(tmp_path / "a/prior/checkpoints")
    (tmp_path / "a/prior/model.safetensors").unlink()
    shutil.copytree(tmp_path / "b/prior/checkpoints", tmp_path / "a/prior/checkpoints")
    witness = StopAt(0)
    run = fit(tmp_path / "a", reporter=witness)
    assert any("another configuration" in note for note in witness.notes)
    assert same(weights(run), whole)


def test_a_damaged_log_never_stops_a_resume(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path / "a", reporter=StopAt(30))
    log = tmp_path / "a/prior/log.jsonl"
    log.write_bytes(log.read_bytes() + b'\xff\xfe\n"text"\n{"a": 1}\n{"step": "x"}\n[1]\n{"ste')
    run = fit(tmp_path / "a")
    assert run.stage("prior").log()[-1]["step"] == 60


def test_data_that_changed_is_noticed(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 2))
    np.save(tmp_path / "d.npy", rows)
    settings = {"dataset": str(tmp_path / "d.npy"), "training": {"steps": 3}}
    fit(tmp_path / "a", **settings)
    np.save(tmp_path / "d.npy", np.hstack([rows, rows]))
    with pytest.raises(DataError, match="no longer, what the prior in .* was fitted to"):
        fit_denoiser(out=tmp_path / "a", options=SMALL, training=TINY)
    with pytest.raises(RunError, match="has changed since"):
        load_run(tmp_path / "a").dataset()


@pytest.mark.parametrize("kernel", ["gaussian", "laplace", "uniform"])
def test_accumulation_gives_the_same_batch_and_noise_in_parts(tmp_path: Path, kernel: str) -> None:
    """Four parts of 32 see what one batch of 128 sees; only rounding differs."""
    training, changes = {"log_every": 1}, {"kernel": kernel, "precision": "float64"}
    one = fit(tmp_path / "a", training=training, **changes)
    four = fit(tmp_path / "b", training={**training, "accumulate": 4}, **changes)
    assert_alike(one, four, 1e-9)


def assert_alike(one: Run, other: Run, tolerance: float = 1e-5) -> None:
    """Checks that two priors have the same weights and logged the same losses."""
    a, b = weights(one), weights(other)
    assert all(torch.allclose(a[k], b[k], rtol=0, atol=tolerance) for k in a)
    logs = [run.stage("prior").log() for run in (one, other)]
    for key in ("step", "loss", "validation", "gradient_norm"):
        mine, theirs = ([entry[key] for entry in log if key in entry] for log in logs)
        assert mine == pytest.approx(theirs, abs=10 * tolerance)
        assert mine


@pytest.mark.parametrize("architecture", ["made", "realnvp", "logistic-mixture"])
def test_every_architecture_is_fitted_as_every_stage(tmp_path: Path, architecture: str) -> None:
    common = {"out": tmp_path, "training": {**TINY, "steps": 5}, "device": "cpu"}
    fit_baseline(dataset="rings", architecture=architecture, **common)
    fit_prior(dataset="rings", architecture=architecture, kernel="laplace", **common)
    run = fit_denoiser(**common)
    assert run.stages() == ["baseline", "prior", "denoiser"]
    assert run.stage("denoiser").config().architecture == architecture
    assert run.stage("denoiser").config().kernel == "laplace"


@pytest.mark.parametrize("precision", ["float64", "bf16"])
def test_precisions(tmp_path: Path, precision: str) -> None:
    if precision == "bf16":
        code = (
            "import sys; from pathlib import Path; from tests.test_training import fit;"
            "fit(Path(sys.argv[1]), precision='bf16', training={'steps': 3})"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a")],
            cwd=Path(__file__).parents[1],
            check=True,
        )
        run = load_run(tmp_path / "a")
    else:
        run = fit(tmp_path / "a", precision=precision, training={"steps": 3})
    expected = torch.float64 if precision == "float64" else torch.float32
    assert next(run.density("prior").parameters()).dtype == expected


def test_joint_factorises(tmp_path: Path) -> None:
    common = {"out": tmp_path, "training": TINY, "device": "cpu", "options": SMALL}
    run = fit_joint(dataset="two-moons", sigma=0.3, **common)
    method = run.two_step()
    assert method is not None
    assert method.denoiser is not None
    x = torch.randn(6, 2)
    together = run.density("joint").log_prob(torch.cat([x + 1, x], dim=1))
    parts = method.prior.log_prob(x + 1) + method.denoiser.log_prob(x, x + 1)
    assert torch.allclose(together, parts, atol=1e-5)
    assert method.sample(4).shape == (4, 2)


def test_a_loss_that_is_not_finite_stops_with_step_and_rows(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step \d+.*checkpoint"):
        fit(tmp_path / "a", training={"learning_rate": 1e30, "clip": 0.0, "warmup": 0})
    assert not (tmp_path / "a/prior/model.safetensors").exists()


def test_denoiser_inherits_and_refuses_a_contradiction(tmp_path: Path) -> None:
    run = fit(tmp_path / "a")
    for key, value in (("dataset", "rings"), ("sigma", 0.4), ("kernel", "laplace")):
        with pytest.raises(RunError, match=f"denoiser's {key}.*its prior's"):
            fit_denoiser(out=run.path, **{key: value})
    with pytest.raises(RunError, match="has no prior"):
        fit_denoiser(out=tmp_path / "nothing")
    with pytest.raises(UsageError, match="`out`"):
        fit_denoiser()


def test_one_run_holds_one_dataset_and_sigma(tmp_path: Path) -> None:
    fit(tmp_path / "a")
    with pytest.raises(RunError, match="baseline has dataset rings and the prior two-moons"):
        fit_baseline(out=tmp_path / "a", dataset="rings", training=TINY)
    fit_denoiser(out=tmp_path / "a", options=SMALL, training=TINY, device="cpu")
    with pytest.raises(RunError, match=r"prior has sigma 0.5 and the denoiser 0.3"):
        fit(tmp_path / "a", sigma=0.5, overwrite=True)
    assert (tmp_path / "a/prior/model.safetensors").exists()


def test_a_baseline_has_no_sigma() -> None:
    with pytest.raises(UsageError, match="no kernel, no sigma and nothing to standardise"):
        fit_baseline(dataset="rings", sigma=0.3)


def test_two_fits_of_a_stage_do_not_meet_and_two_stages_do(tmp_path: Path) -> None:
    class Intruder(Quiet):
        def advance(self, step: int, loss: float) -> None:
            if step == 7:
                who = re.escape(f"process {os.getpid()} on {socket.gethostname()}")
                with pytest.raises(RunError, match=f"a/prior is in use by {who}"):
                    fit(tmp_path / "a")
                with pytest.raises(RunError, match=f"a/prior is in use by {who}"):
                    fit(tmp_path / "a", seed=1, overwrite=True)
                settings = {"dataset": "two-moons", "options": SMALL, "device": "cpu"}
                fit_baseline(out=tmp_path / "a", training={**TINY, "steps": 3}, **settings)

    whole = weights(fit(tmp_path / "whole"))
    run = fit(tmp_path / "a", reporter=Intruder())
    assert run.stages() == ["baseline", "prior"]
    assert same(weights(run), whole)
    assert sorted(path.name for path in run.path.iterdir()) == ["baseline", "prior"]


def test_a_refused_fit_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few"):
        fit(tmp_path / "a", training={"accumulate": 1000})
    assert not (tmp_path / "a").exists()


def test_a_start_that_was_killed_in_its_first_write_is_no_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior/.config.toml.0badcafe.tmp").write_text("half")
    assert fit(tmp_path).stages() == ["prior"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_foreign_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior/thesis.txt").write_text("precious")
    with pytest.raises(RunError, match=r"not empty and holds no config.toml"):
        fit(tmp_path)
    assert (tmp_path / "prior/thesis.txt").read_text() == "precious"


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"):
        fit(tmp_path / "file" / "run")


def test_batch_larger_than_the_data(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(40, 2)))
    witness = StopAt(0)
    run = fit(
        tmp_path / "a",
        dataset=str(tmp_path / "few.npy"),
        training={"batch_size": 4096},
        reporter=witness,
    )
    assert run.stages() == ["prior"]
    assert any("A step takes 32 examples, not 4096" in note for note in witness.notes)
    with pytest.raises(DataError, match="too few for 64 parts"):
        fit(
            tmp_path / "b",
            dataset=str(tmp_path / "few.npy"),
            training={"batch_size": 4096, "accumulate": 64},
        )


class TestSchedule:
    """Learning rates are a function of the step."""

    def test_warm_up_is_linear(self) -> None:
        training = TrainingConfig(learning_rate=1.0, warmup=10, decay="constant")
        rates = [learning_rate(s, training) for s in range(12)]
        assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
        assert rates[10:] == [1.0, 1.0]

    def test_a_warm_up_may_be_a_share_of_the_steps(self) -> None:
        share = TrainingConfig(learning_rate=1.0, warmup=0.25, steps=40, decay="constant")
        steps = TrainingConfig(learning_rate=1.0, warmup=10, steps=40, decay="constant")
        assert [learning_rate(s, share) for s in range(40)] == [
            learning_rate(s, steps) for s in range(40)
        ]
        assert TrainingConfig(warmup=0.25, steps=1).warmup_steps == 0

    @pytest.mark.parametrize("steps", [10, 120, 12_000])
    def test_the_default_warm_up_ends_early_in_any_fit(self, steps: int) -> None:
        training = TrainingConfig(steps=steps)
        assert max(learning_rate(s, training) for s in range(steps // 5)) > 0.95e-3

    def test_cosine_ends_at_zero(self) -> None:
        training = TrainingConfig(learning_rate=1.0, warmup=0, steps=100)
        rates = [learning_rate(s, training) for s in range(101)]
        assert rates == sorted(rates, reverse=True)
        assert rates[50] == pytest.approx(0.5)
        assert rates[100] == pytest.approx(0)

    def test_exponential_is_the_paper_s(self) -> None:
        training = TrainingConfig(learning_rate=2e-4, warmup=0, decay="exponential")
        assert learning_rate(1000, training) == pytest.approx(2e-4 * 0.999995**1000)


def test_a_second_signal_interrupts_at_once() -> None:
    with caught() as received:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert received.signum == signal.SIGINT
        with pytest.raises(Interrupted, match="at once"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)


def test_log_lines_are_json_with_finite_numbers(tmp_path: Path) -> None:
    run = fit(tmp_path / "a", training={"clip": 0.0, "log_every": 7})
    for line in run.stage("prior").log_file.read_text().splitlines():
        entry = json.loads(line)
        assert all(math.isfinite(value) for value in entry.values())
        assert {"step", "loss", "learning_rate"} <= entry.keys()


class TestTwoProcesses:
    """Two gloo ranks by Accelerate's launcher."""

    def _launch(self, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
        launcher += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
        launcher += ["--dynamo_backend", "no", "--main_process_port", "0", "-m", "smoothctl"]
        command = ["fit-prior", "--dataset", "two-moons", "--steps", "30", "--batch-size", "128"]
        command += ["--set", "width=16", "--set", "training.log_every=1"]
        command += ["--learning-rate", "5e-3", "--set", "training.warmup=5"]
        command += ["--out", "run", "--json"]
        return subprocess.run(
            [*launcher, *command],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def test_same_losses_as_one_and_one_voice(self, tmp_path: Path) -> None:
        """Both see halves of one process's batches and noise, and rank 0 alone speaks."""
        done = self._launch(tmp_path, ACCELERATE_USE_CPU="true")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["steps"] == 30
        assert done.stderr.count("Fits the prior") == 1
        training = {"steps": 30, "log_every": 1}
        one = fit(tmp_path / "one", options={"width": 16}, training=training)
        assert_alike(one, Run(tmp_path / "run"))

    @pytest.mark.slow
    def test_ranks_that_are_alone_are_refused(self, tmp_path: Path) -> None:
        if torch.cuda.is_available():
            pytest.skip("with a GPU the two ranks find each other")
        done = self._launch(tmp_path, ACCELERATE_USE_CPU="false")
        assert done.returncode != 0
        assert "started 2 processes, but process" in done.stderr
        assert "believes that it is one of 1" in done.stderr
        assert not list(tmp_path.rglob("*.safetensors"))
