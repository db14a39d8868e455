"""Annealed bounds: unbiased weights, both sides of the truth, and what is kept of them."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from shutil import copytree, rmtree

import pytest
import torch
from torch import Tensor

import smoothctl.smoothing.annealing as module
from smoothctl import kernels
from smoothctl.architectures.base import Density
from smoothctl.datasets import open_dataset
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.evaluation.scores import effort_for, partial_scores, score_run
from smoothctl.reporting.scores import annealing_sentence
from smoothctl.rng import generator
from smoothctl.runs.run import Run, load_run
from smoothctl.smoothing.annealing import Annealing, Schedule, annealed_bounds, tuned_schedule
from smoothctl.smoothing.batching import AT_ONCE
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.storage.partial import PartialResults
from tests.doubles import Latent

SIGMA, SPREAD = 0.5, 0.2
FEW = Annealing(temperatures=8, leapfrogs=2)


class Narrow(Density):
    """A prior that is not that of any data: N(0.3, 0.5²)."""

    summary = "narrow"

    def log_prob(self, x, context=None, labels=None):
        return torch.distributions.Normal(0.3, 0.5).log_prob(x).sum(1)

    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        noise = torch.randn(n, *self.event_shape, generator=generator, dtype=torch.float64)
        return 0.3 + 0.5 * noise


class Near(Density):
    """p(x|x̃) = N(x̃, 0.2²)."""

    summary = "near"

    def log_prob(self, x, context=None, labels=None):
        return torch.distributions.Normal(context, SPREAD).log_prob(x).sum(1)

    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        noise = torch.randn(context.shape, generator=generator, dtype=context.dtype)
        return context + SPREAD * noise


def pair(dims: int, kernel: str = "gaussian") -> TwoStep:
    return TwoStep(kernels.load(kernel)(SIGMA), Narrow((dims,)), Near((dims,), (dims,)))


def truth(x: Tensor) -> Tensor:
    """The likelihood of `pair`: N(0.3, 0.5² + 0.2²)."""
    return torch.distributions.Normal(0.3, math.hypot(0.5, SPREAD)).log_prob(x).sum(1)


def drawn(method: TwoStep, n: int) -> tuple[Tensor, Tensor]:
    """Returns x̃ and x of the model itself."""
    x_smooth = method.sample_smoothed(n, generator=generator("x̃"))
    return x_smooth, method.denoise(x_smooth, generator=generator("x"))


@pytest.fixture
def method(trained_run: Run) -> TwoStep:
    found = trained_run.two_step()
    assert found is not None
    return found


def errors(values: Tensor) -> float:
    return 4 * values.std().item() / math.sqrt(len(values))


class TestBounds:
    """Of models whose likelihood is known in closed form, or by quadrature."""

    @pytest.mark.parametrize("kernel", ["gaussian", "laplace"])
    @pytest.mark.parametrize("dims", [1, 20])
    def test_weights_are_unbiased(self, dims: int, kernel: str) -> None:
        """E w = p(x) and E 1/w = 1/p(x), for any x and any steps."""
        method, chains = pair(dims, kernel), 20_000 // dims
        x_smooth, x = (each[:1].expand(chains, -1) for each in drawn(method, 1))
        schedule = Schedule(tuple(torch.linspace(0, 1, 41).tolist()), (0.3,) * 39)
        work = Annealing(temperatures=40, leapfrogs=2)
        below = annealed_bounds(method, x, work, schedule, 0).log_weights[:, 0] - truth(x)
        assert below.exp().mean().item() == pytest.approx(1, abs=errors(below.exp()))
        if dims == 1:  # an exact draw for this one x, by rejection
            proposals = method.sample_smoothed(40 * chains, generator=generator("posterior"))
            density = torch.distributions.Normal(proposals, SPREAD).log_prob(x[:1])
            chance = torch.rand(len(density), generator=generator("chance"))
            accepted = (density - density.max())[:, 0].exp() > chance
            x_smooth = proposals[accepted][:chains]
            given = (work, schedule, 0, None, x_smooth)
            above = annealed_bounds(method, x[: len(x_smooth)], *given).log_weights[:, 0]
            ratio = (above + truth(x[: len(x_smooth)])).exp()
            assert ratio.mean().item() == pytest.approx(1, abs=errors(ratio))

    @pytest.mark.parametrize("dims", [1, 2, 20])
    def test_own_samples_are_enclosed(self, dims: int) -> None:
        """More temperatures bring the two sides together."""
        method = pair(dims)
        x_smooth, x = drawn(method, 2000)
        gaps = []
        for temperatures in (4, 32):
            work = Annealing(temperatures=temperatures)
            schedule = tuned_schedule(method, x[:200], work, 0)
            below = annealed_bounds(method, x[200:], work, schedule, 0).below - truth(x[200:])
            above = annealed_bounds(method, x[200:], work, schedule, 0, None, x_smooth[200:]).above
            above = above - truth(x[200:])
            assert below.mean().item() < errors(below)
            assert above.mean().item() > -errors(above)
            gaps.append((above - below).mean().item())
        assert gaps[1] < gaps[0] / 2

    def test_a_fitted_model_s_samples_enclose_its_quadrature(self, method: TwoStep) -> None:
        with torch.no_grad():
            x_smooth = method.sample_smoothed(400, generator=generator("x̃"))
            x = method.denoise(x_smooth, generator=generator("x"))
        exact = method.log_prob_by_quadrature(x[100:], points=61)
        work = Annealing(temperatures=20, chains=2)
        schedule = tuned_schedule(method, x[:100], work, 0)
        below = annealed_bounds(method, x[100:], work, schedule, 0).below - exact
        above = annealed_bounds(method, x[100:], work, schedule, 0, None, x_smooth[100:]).above
        assert below.mean().item() < errors(below) + 1e-3
        assert (above - exact).mean().item() > -errors(above - exact) - 1e-3
        assert (above - exact - below).mean().item() < 0.2

    def test_with_exact_stages_every_weight_is_the_truth(self) -> None:
        """The weights of the true p(x̃) and p(x|x̃) are constant, whatever the chains do."""
        from tests.test_smoothing import exact

        x = torch.randn(20, 2, generator=generator("x"), dtype=torch.float64)
        schedule = tuned_schedule(exact(), x, FEW, 0)
        found = annealed_bounds(exact(), x, FEW, schedule, 0)
        true = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
        assert torch.allclose(found.below, true, atol=1e-9)

    def test_more_chains_are_tighter(self) -> None:
        method = pair(20)
        x = drawn(method, 400)[1]
        schedule = tuned_schedule(method, x[:100], FEW, 0)
        many = annealed_bounds(method, x, replace(FEW, chains=8), schedule, 0)
        assert many.below.mean() > many.log_weights.mean()
        assert (many.effective_chains > 1).all()
        assert (many.effective_chains < 8).all()

    def test_bounded_noise(self) -> None:
        """A bound from below, and none from above: the model's x̃ lies outside the kernel."""
        method = pair(1, "uniform")
        x_smooth, x = drawn(method, 2000)
        schedule = tuned_schedule(method, x[:200], FEW, 0)
        below = annealed_bounds(method, x, FEW, schedule, 0).below - truth(x)
        assert below.isfinite().all()
        assert below.mean().item() < errors(below)
        with pytest.raises(NotAvailable, match="bounded noise"):
            annealed_bounds(method, x, FEW, schedule, 0, None, x_smooth + 10)

    def test_a_stage_that_is_bounded_alone(self, method: TwoStep) -> None:
        latent = replace(method, prior=Latent((2,)))
        with pytest.raises(NotAvailable, match="exact densities of both stages"):
            annealed_bounds(latent, torch.zeros(2, 2), FEW, Schedule((0, 1), ()), 0)


class TestWork:
    """How it is done changes nothing; what is tuned is tuned on other examples."""

    def test_schedule(self, method: TwoStep) -> None:
        x = open_dataset("two-moons").test.head(64)
        schedule = tuned_schedule(method, x, Annealing(temperatures=12), 0)
        assert (schedule.betas[0], schedule.betas[-1]) == (0, 1)
        assert all(low < high for low, high in pairwise(schedule.betas))
        assert (len(schedule.betas), len(schedule.steps)) == (13, 11)
        assert all(0 < step <= math.pi / 6 for step in schedule.steps)

    def test_free_memory_changes_nothing(self, method: TwoStep, monkeypatch) -> None:
        x, schedule = open_dataset("two-moons").test.head(30), Schedule((0, 0.5, 1), (0.3,))
        work = replace(FEW, temperatures=2, chains=3)
        whole = annealed_bounds(method, x, work, schedule, 0)
        monkeypatch.setattr(module, "rows_that_fit", lambda *_, **__: 16)
        cut = annealed_bounds(method, x, work, schedule, 0)
        assert torch.allclose(whole.log_weights, cut.log_weights, atol=1e-5)

    def test_it_goes_on_from_what_is_kept(
        self, method: TwoStep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x, schedule = open_dataset("two-moons").test.head(30), Schedule((0, 0.5, 1), (0.3,))
        monkeypatch.setattr(module, "_ROWS", {"vector": 8})
        whole = annealed_bounds(method, x, FEW, schedule, 0)
        kept = replace(AT_ONCE, partial=PartialResults(tmp_path / "parts", {"of": "this"}))
        real, calls = module._annealed, []

        def stopped(*given: object) -> object:
            calls.append(given)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "_annealed", stopped)
        with pytest.raises(KeyboardInterrupt):
            annealed_bounds(method, x, FEW, schedule, 0, execution=kept)
        again = annealed_bounds(method, x, FEW, schedule, 0, execution=kept)
        assert len(calls) == 3 + 2
        assert torch.equal(again.log_weights, whole.log_weights)


class TestVerb:
    """`score --bound`."""

    def test_both_sides(self, trained_run: Run, tmp_path: Path, cli) -> None:
        run = copytree(trained_run.path, tmp_path / "own")
        words = ["--bound", "sandwich", "--temperatures", 6, "--chains", 2, "--limit", 40]
        words += ["--samples", 0, "--draws", 2, "--json"]
        code, out, err = cli("score", run, *words)
        assert code == 0, err
        found = json.loads(out)
        names = {e["quantity"].strip(): e["nats"] for e in found["likelihood"]}
        assert names["bound, annealed"] < names["bound, 1 draw"]
        gap = names["at most, annealed"] - names["at least, annealed"]
        assert names["gap"] == pytest.approx(gap, abs=1e-5)
        figures = found["annealing"]
        assert figures["settings"]["chains"] == 2
        assert 0.5 < figures["acceptance"] <= 1
        assert figures["spread"] > 0
        assert "temperatures 6" in annealing_sentence(found)
        assert not list(run.glob(".score-*"))

    def test_compare_shows_it(self, trained_run: Run, tmp_path: Path, cli) -> None:
        run = copytree(trained_run.path, tmp_path / "own")
        words = ["--bound", "ais", "--temperatures", 4, "--limit", 10, "--samples", 0]
        words += ["--quadrature", 0]
        assert cli("score", run, *words)[0] == 0
        code, out, _ = cli("compare", run)
        assert code == 0
        assert "a bound by annealing" in out
        code, out, _ = cli("report", run, "--no-samples")
        assert code == 0
        page = (run / "report.html").read_text()
        assert "--bound ais --temperatures 4" in page
        assert "of moves accepted" in page

    def test_images_and_classes(self, class_run: Run) -> None:
        effort = effort_for(
            class_run, 3, 1, 0, bound="sandwich", annealing=Annealing(temperatures=3)
        )
        found = score_run(class_run, effort)
        bits = [e.bits_per_dim for e in found.likelihood if "annealed" in e.quantity]
        assert len(bits) == 3
        assert all(b is not None and math.isfinite(b) for b in bits)
        assert partial_scores(class_run, effort) is not None

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--temperatures", 4], "choose the bound 'ais'"),
            (["--bound", "ais", "--temperatures", 1], "--temperatures"),
            (["--bound", "ais", "--temperatures", 10**6], "'temperatures' is wrong"),
            (["--bound", "ais", "--chains", 0], "--chains"),
            (["--bound", "tight"], "tight"),
        ],
    )
    def test_what_makes_no_sense(self, trained_run: Run, cli, words: list, said: str) -> None:
        code, _, err = cli("score", trained_run.path, *words)
        assert code == 2
        assert said in err

    def test_without_a_denoiser(self, trained_run: Run, tmp_path: Path) -> None:
        alone = copytree(trained_run.path, tmp_path / "alone")
        rmtree(alone / "denoiser")
        run = load_run(alone)
        with pytest.raises(UsageError, match="no prior with a denoiser"):
            score_run(run, effort_for(run, bound="ais"))
