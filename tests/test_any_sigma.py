"""Models that take σ as an input: one fit for every σ of a range, chosen when it is used."""

import json
import math
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
import torch

from smoothctl import fit_baseline, fit_denoiser, fit_joint, fit_prior, load_run
from smoothctl.cli.console import Notes
from smoothctl.distributed.processes import ALONE
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.evaluation.learned_sigma import learned_sigma
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.training.batches import BatchSchedule
from smoothctl.training.settings import FitSettings, resolve

LOW, HIGH = 0.1, 0.6
TINY = {"steps": 40, "batch_size": 64, "warmup": 1, "validation_limit": 64}
OPTIONS = {"mixtures": 2, "width": 16, "layers": 2, "lowest_sigma": LOW}


@pytest.fixture(scope="module")
def ranged(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on two-moons that knows σ from 0.1 to 0.6."""
    out = tmp_path_factory.mktemp("runs") / "ranged"
    longer = {**TINY, "steps": 500, "batch_size": 256}
    fit_prior(dataset="two-moons", sigma=HIGH, out=out, options=OPTIONS, training=longer)
    return fit_denoiser(out=out, training=TINY)


class TestFits:
    """What a fit sees, and what it refuses."""

    def schedule(self, tmp_path: Path) -> BatchSchedule:
        settings = FitSettings(
            dataset="two-moons",
            architecture="made",
            sigma=HIGH,
            out=tmp_path,
            options=OPTIONS,
            training=TINY,
        )
        plan = resolve("prior", settings, Notes(quiet=True))
        return BatchSchedule(plan, False, ALONE, torch.device("cpu"))

    def test_each_example_has_its_own(self, tmp_path: Path) -> None:
        """Log-uniform over the range, new in every step; the noise is the kernel's times σ."""
        batches = self.schedule(tmp_path)
        sigmas = batches.sigmas(20_000, 0)
        assert sigmas is not None
        share = (sigmas / LOW).log() / math.log(HIGH / LOW)
        assert share.min() >= 0
        assert share.max() <= 1
        assert share.mean().item() == pytest.approx(0.5, abs=0.02)
        assert not torch.equal(sigmas, batches.sigmas(20_000, 1))
        (batch,) = batches.micro_batches(3)
        assert batch.sigma is not None
        ratio = (batch.x_smooth - batch.x) / batch.sigma[:, None]
        assert ratio.std().item() == pytest.approx(1, abs=0.2)

    def test_however_a_step_is_cut(self, tmp_path: Path) -> None:
        batches = self.schedule(tmp_path)
        (whole,) = batches.micro_batches(5)
        batches.rows = 24
        parts = list(batches.micro_batches(5))
        assert len(parts) == 3
        for name in ("x", "x_smooth", "sigma"):
            joined = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(joined, getattr(whole, name)), name

    def test_the_denoiser_inherits_the_range(self, ranged: Run) -> None:
        assert ranged.stage("denoiser").config().options["lowest_sigma"] == LOW

    def test_another_architecture_inherits_it_too(self, ranged: Run, tmp_path: Path) -> None:
        out = copytree(ranged.path, tmp_path / "other")
        rmtree(out / "denoiser")
        run = fit_denoiser(out=out, architecture="realnvp", training={**TINY, "steps": 2})
        assert run.stage("denoiser").config().options["lowest_sigma"] == LOW

    @pytest.mark.parametrize("lowest", [HIGH, 2.0])
    def test_a_range_that_is_none(self, tmp_path: Path, lowest: float) -> None:
        options = {**OPTIONS, "lowest_sigma": lowest}
        with pytest.raises(UsageError, match="below the largest"):
            fit_prior(dataset="two-moons", sigma=HIGH, out=tmp_path / "run", options=options)

    def test_stages_without_one(self, tmp_path: Path) -> None:
        common: dict[str, Any] = {"dataset": "two-moons", "out": tmp_path / "run"}
        with pytest.raises(UsageError, match="baseline has no sigma"):
            fit_baseline(**common, options=OPTIONS, training=TINY)
        with pytest.raises(NotAvailable, match="joint model has one sigma"):
            fit_joint(**common, sigma=HIGH, options=OPTIONS, training=TINY)

    def test_it_goes_on_to_the_same_weights(self, ranged: Run, tmp_path: Path) -> None:
        out = tmp_path / "resumed"
        common: dict[str, Any] = {"dataset": "two-moons", "sigma": HIGH, "out": out}
        half = {**TINY, "steps": 20, "decay": "constant"}
        fit_prior(**common, options=OPTIONS, training=half)
        longer = fit_prior(**common, options=OPTIONS, training={**half, "steps": 40})
        once = tmp_path / "once"
        whole = fit_prior(
            **{**common, "out": once}, options=OPTIONS, training={**half, "steps": 40}
        )
        a, b = (run.density("prior").state_dict() for run in (longer, whole))
        assert all(torch.equal(a[name], b[name]) for name in a)


class TestUse:
    """σ is chosen when a run is opened."""

    def test_kernel_and_stages_have_the_chosen_one(self, ranged: Run) -> None:
        x = ranged.dataset().test.head(50)
        for sigma in (LOW, 0.25, HIGH):
            method = load_run(ranged.path, sampler={"sigma": sigma}).two_step()
            assert method is not None
            assert method.kernel.sigma == sigma
            assert method.prior.chosen_sigma == method.checked_denoiser().chosen_sigma == sigma  # type: ignore[union-attr]
            assert method.bound(x).total.isfinite().all()
        default = ranged.two_step()
        assert default is not None
        assert default.kernel.sigma == HIGH

    def test_the_right_one_is_the_likelier(self, ranged: Run) -> None:
        """x̃ of either end is likelier by the model of its own σ than by that of the other."""
        methods = {
            sigma: load_run(ranged.path, sampler={"sigma": sigma}).two_step()
            for sigma in (LOW, HIGH)
        }
        x = ranged.dataset().test.head(4000)
        for sigma, other in ((LOW, HIGH), (HIGH, LOW)):
            right, wrong = methods[sigma], methods[other]
            assert right is not None
            assert wrong is not None
            x_smooth = right.kernel.sample(x, generator(sigma == LOW))
            assert right.prior.log_prob(x_smooth).mean() > wrong.prior.log_prob(x_smooth).mean()

    def test_verbs(self, ranged: Run, cli) -> None:
        words = ["--limit", 20, "--samples", 20, "--quadrature", 2, "--draws", 2, "--json"]
        code, out, err = cli("score", ranged.path, "--sigma", 0.2, *words)
        assert code == 0, err
        small = json.loads(out)
        assert small["sampler"] == {"sigma": 0.2}
        entropy = {e["quantity"].strip(): e["nats"] for e in small["likelihood"]}["kernel entropy"]
        assert entropy == pytest.approx(-2 * math.log(0.2 * math.sqrt(2 * math.pi * math.e)))
        code, out, err = cli("compare", ranged.path)
        assert "sigma=0.2" in out
        for verb in (["sample", ranged.path, "-n", 9], ["denoise", "test", ranged.path, "-n", 3]):
            assert cli(*verb, "--sigma", LOW)[0] == 0
        code, out, err = cli("inpaint", "test", ranged.path, "-n", 3, "--sigma", 0.3)
        assert code == 0, err

    @pytest.mark.parametrize("sigma", [0.05, 0.7, "soon", True])
    def test_one_that_it_does_not_know(self, ranged: Run, sigma: object) -> None:
        with pytest.raises(UsageError, match=r"knows sigma 0\.1 to 0\.6, not"):
            load_run(ranged.path, sampler={"sigma": sigma})

    def test_a_run_of_one_sigma(self, trained_run: Run, tmp_path: Path, cli) -> None:
        own = copytree(trained_run.path, tmp_path / "own")
        assert cli("sample", own, "-n", 4, "--sigma", 0.3)[0] == 0
        code, _, err = cli("sample", own, "-n", 4, "--sigma", 0.2)
        assert code == 2
        assert "knows sigma 0.3, not 0.2" in err


class TestLearned:
    """σ by the bound, of those that a run knows (ARDS section 3.3)."""

    def test_it_is_where_the_bound_is_best(self, ranged: Run) -> None:
        """No σ of a grid is better by more than what a grid of its own leaves."""
        found = learned_sigma(ranged)
        assert (found.lowest, found.highest) == (LOW, HIGH)
        view = ranged.dataset().train
        x = view.batch(0, 0, 0, found.examples)

        def loss(sigma: float) -> float:
            method = load_run(ranged.path, sampler={"sigma": sigma}).two_step()
            assert method is not None
            return -float(method.bound(x, None, generator(0, "learned")).total.mean())

        others = [loss(LOW * (HIGH / LOW) ** (i / 10)) for i in range(11)]
        assert found.nats <= min(others) + 1e-3
        assert found.nats == pytest.approx(loss(found.sigma), abs=2e-3)
        assert learned_sigma(ranged) == found

    def test_the_verb_says_it(self, ranged: Run, cli) -> None:
        result = json.loads(cli("sigma-heuristic", "--learned", ranged.path, "--json")[1])
        assert result["dataset"] == "two-moons"
        assert result["learned"]["sigma"] == learned_sigma(ranged).sigma
        out = cli("sigma-heuristic", "--learned", ranged.path)[1]
        assert "learned by the bound" in out

    def test_what_makes_no_sense(self, ranged: Run, trained_run: Run, cli, tmp_path: Path) -> None:
        def said(*arguments: object) -> str:
            return str(cli("sigma-heuristic", *arguments)[2])

        assert "know one sigma alone" in said("--learned", trained_run.path)
        assert "--dataset rings; or --learned RUN" in said()
        assert "drop --data" in said("--learned", ranged.path, "--data", "size=4")
        out = copytree(ranged.path, tmp_path / "prior")
        rmtree(out / "denoiser")
        assert "fit a denoiser first" in said("--learned", out)
