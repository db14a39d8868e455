"""Two-sample statistics, likelihood estimates, and the σ heuristic."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from smoothctl.datasets import open_dataset
from smoothctl.datasets.arrays import ArrayDataset
from smoothctl.errors import DataError, RunError
from smoothctl.evaluation.likelihood import bounds, exact_by_quadrature, plain_likelihood
from smoothctl.evaluation.records import append_scores
from smoothctl.evaluation.scores import effort_for, score_run
from smoothctl.metrics.features import Pixels, Request
from smoothctl.metrics.image_sets import of_tensor
from smoothctl.metrics.sigma import sigma_heuristic
from smoothctl.metrics.two_sample import energy_distance, sliced_wasserstein
from smoothctl.rng import generator
from smoothctl.runs.run import Run


def _normal(n: int, shift: float = 0.0, dims: int = 2, key: str = "a") -> torch.Tensor:
    return torch.randn(n, dims, generator=generator(key, n)) + shift


class TestTwoSample:
    """Zero for equal distributions, growing with their distance, equal to SciPy's in 1-d."""

    def test_energy_distance_is_unbiased(self) -> None:
        values = [
            energy_distance(_normal(200, key=f"x{i}"), _normal(300, key=f"y{i}")) for i in range(60)
        ]
        error = np.std(values) / math.sqrt(len(values))
        assert np.mean(values) == pytest.approx(0, abs=4 * error)
        assert min(values) < 0 < max(values)

    def test_energy_distance_equals_scipy_s_squared(self) -> None:
        x, y = _normal(4000, dims=1), _normal(3000, 1.0, dims=1, key="b")
        theirs = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
        assert energy_distance(x, y) == pytest.approx(theirs, rel=0.01)

    def test_sliced_wasserstein_equals_scipy_s_in_one_dimension(self) -> None:
        x, y = _normal(500, dims=1), _normal(500, 0.7, dims=1, key="b")
        theirs = stats.wasserstein_distance(x[:, 0], y[:, 0])
        assert sliced_wasserstein(x, y) == pytest.approx(theirs, rel=1e-6)

    def test_sliced_wasserstein_of_a_shift(self) -> None:
        """A shift by a gives the mean of |a·u| over directions u: 2|a|/π in two dimensions."""
        x = _normal(2000)
        shifted = x + torch.tensor([3.0, 0.0])
        value = sliced_wasserstein(x, shifted, 2000, generator(0))
        assert value == pytest.approx(2 * 3 / math.pi, rel=0.05)

    @pytest.mark.parametrize("statistic", [energy_distance, sliced_wasserstein])
    def test_grow_with_the_distance(self, statistic) -> None:
        x = _normal(1000)
        values = [statistic(x, _normal(1000, shift, key="b")) for shift in (0.0, 0.5, 2.0)]
        assert values == sorted(values)

    @pytest.mark.parametrize("statistic", [energy_distance, sliced_wasserstein])
    def test_bad_input(self, statistic) -> None:
        x = _normal(10)
        with pytest.raises(DataError, match="not finite"):
            statistic(x, torch.full_like(x, math.nan))
        with pytest.raises(DataError, match="at least two"):
            statistic(x, x[:1])
        with pytest.raises(DataError, match="one width"):
            statistic(x, _normal(10, dims=3))


class TestSigma:
    """Median pairwise distance over 2√D."""

    def test_exact_for_small_sets(self, tmp_path: Path) -> None:
        rows = np.random.default_rng(0).normal(size=(200, 3))
        np.save(tmp_path / "a.npy", rows)
        data = ArrayDataset(str(tmp_path / "a.npy"))
        x = data.train.head()
        distances = torch.pdist(x)
        estimate = sigma_heuristic(data)
        assert estimate.exact
        assert estimate.pairs == len(distances)
        expected = np.median(distances.numpy()) / (2 * math.sqrt(3))
        assert estimate.sigma == pytest.approx(expected, rel=1e-5)

    def test_random_pairs_agree_within_their_error(self) -> None:
        found = [sigma_heuristic(open_dataset("rings"), seed) for seed in range(8)]
        sigmas = np.array([e.sigma for e in found])
        assert found[0].sigma == pytest.approx(0.886, rel=0.02)
        assert found[0].standard_error <= 0.005 * found[0].sigma
        assert sigmas.std() < 3 * found[0].standard_error

    def test_more_pairs_where_the_median_lies_in_a_gap(self) -> None:
        easy, hard = (sigma_heuristic(open_dataset(n)) for n in ("rings", "two-gaussians"))
        assert hard.pairs > 4 * easy.pairs

    def test_large_examples_are_read_a_few_at_a_time(self, tmp_path: Path) -> None:
        """Wide events take random pairs, in blocks, and agree with all pairs."""
        rows = np.random.default_rng(0).normal(size=(72, 150_000)).astype(np.float32)
        np.save(tmp_path / "a.npy", rows)
        data = ArrayDataset(str(tmp_path / "a.npy"))
        estimate = sigma_heuristic(data, tolerance=0.01)
        assert not estimate.exact
        assert estimate.pairs == 1024
        assert estimate.sigma == pytest.approx(2**0.5 / 2, rel=0.01)

    def test_equal_examples_give_an_error(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones((50, 2)))
        with pytest.raises(DataError, match="sigma 0"):
            sigma_heuristic(ArrayDataset(str(tmp_path / "a.npy")))


class TestScores:
    """All figures of a run."""

    def test_estimates(self, trained_run: Run) -> None:
        method, x = trained_run.two_step(), trained_run.dataset().test.head(400)
        assert method is not None
        estimates, tighter = bounds("m", method, x, 32, seed=0)
        by_name = {e.quantity.strip(): e for e in estimates}
        terms = ("prior term", "kernel entropy", "denoiser term")
        total = sum(by_name[name].nats for name in terms)
        assert by_name["bound, 1 draw"].nats == pytest.approx(total, abs=1e-4)
        assert by_name["bound, 32 draws"].nats == pytest.approx(-tighter.mean().item(), abs=1e-5)
        exact = exact_by_quadrature("m", method, x, tighter, 50)
        truth = method.log_prob_by_quadrature(x)
        assert exact.nats == pytest.approx(-truth.mean().item(), abs=0.05)
        assert exact.examples == 50

    def test_standard_error_is_of_the_mean(self, trained_run: Run) -> None:
        density, x = trained_run.density("baseline"), trained_run.dataset().test.head(400)
        estimate = plain_likelihood("b", density, x)
        nats = -density.log_prob(x).double()
        assert estimate.standard_error == pytest.approx(nats.std().item() / 20)

    def test_score_run(self, trained_run: Run) -> None:
        scores = score_run(
            trained_run, effort_for(trained_run, limit=300, draws=8, samples=300, quadrature=5)
        )
        assert [s.method for s in scores.samples] == [
            "true sample (floor)", "two-step", "single-step", "baseline",
        ]  # fmt: skip
        floor, *others = scores.samples
        assert all(s.off_support > floor.off_support for s in others)
        assert scores.true_entropy == pytest.approx(2.394, abs=1e-3)
        assert json.dumps(scores.to_dict())

    @pytest.mark.slow
    def test_same_seed_same_scores(self, trained_run: Run) -> None:
        one, two = (
            score_run(
                trained_run, effort_for(trained_run, limit=100, draws=4, samples=50, quadrature=0)
            )
            for _ in range(2)
        )
        assert one.likelihood == two.likelihood
        assert one.samples == two.samples

    def test_scores_are_appended(self, trained_run: Run) -> None:
        file = trained_run.path / "scores.json"
        file.unlink(missing_ok=True)
        scores = score_run(
            trained_run, effort_for(trained_run, limit=50, draws=2, samples=0, quadrature=0)
        )
        append_scores(trained_run.path, scores.to_dict())
        append_scores(trained_run.path, scores.to_dict())
        assert len(json.loads(file.read_text())) == 2
        file.write_text("{")
        with pytest.raises(RunError, match="move it away"):
            append_scores(trained_run.path, scores.to_dict())
        assert file.read_text() == "{"
        file.unlink()


def test_pixels_flatten() -> None:
    images = of_tensor("x", torch.tensor([-1.0, 1.0]).repeat(5, 3, 4, 2))
    features, probabilities = Pixels(Request(images))(images.read(0, 5))
    assert features.shape == (5, 48)
    assert features.aminmax() == (-1, 1)
    assert probabilities is None
