"""Columns of different spreads: σ in units of each one's, everything else in data units."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from smoothctl import kernels
from smoothctl.cli import main  # noqa: F401
from smoothctl.datasets import open_dataset
from smoothctl.errors import RunError, UsageError
from smoothctl.kernels.scaled import Scaled
from smoothctl.metrics.sigma import sigma_heuristic
from smoothctl.metrics.spreads import differ, spreads
from smoothctl.rng import generator
from smoothctl.runs.run import load_run
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from tests.conftest import SMALL, TINY

SCALE = (0.01, 1.0, 300.0)


@pytest.fixture(params=["gaussian", "laplace", "uniform"])
def scaled(request: pytest.FixtureRequest) -> Scaled:
    kernel = kernels.build(request.param, 0.4, SCALE)
    assert isinstance(kernel, Scaled)
    return kernel


def rows(n: int = 1000) -> Tensor:
    return torch.randn(n, 3, dtype=torch.float64, generator=generator("rows")) * torch.tensor(SCALE)


class TestKernel:
    """Smoothing x by it is standardising x, smoothing that, and going back."""

    def test_noise_is_that_of_standardised_data(self, scaled: Scaled) -> None:
        x, s = rows(), scaled.scale
        ours = scaled.sample(x, generator("noise"))
        theirs = s * scaled.kernel.sample(x / s, generator("noise"))
        assert torch.allclose(ours, theirs)
        spread = scaled.noise(torch.zeros(100_000, 3), generator("spread")).std(0)
        assert torch.allclose(spread.double(), scaled.deviations(x), rtol=0.02)

    def test_densities_have_the_jacobian(self, scaled: Scaled) -> None:
        x, s = rows(), scaled.scale
        x_smooth = scaled.sample(x, generator("noise"))
        theirs = scaled.kernel.log_prob(x_smooth / s, x / s) - s.log().sum()
        assert torch.allclose(scaled.log_prob(x_smooth, x), theirs)

    def test_entropy_is_the_mean_of_minus_log_prob(self, scaled: Scaled) -> None:
        x = rows(50_000)
        drawn = -scaled.log_prob(scaled.sample(x, generator("noise")), x)
        error = drawn.std().item() / math.sqrt(len(x))
        assert drawn.mean().item() == pytest.approx(scaled.entropy((3,)), abs=5 * error + 1e-9)

    def test_posterior_mean_of_a_gaussian(self) -> None:
        """For x ~ N(0, s²) and Gaussian noise of σ s it is x̃/(1 + σ²)."""
        kernel = Scaled(kernels.build("gaussian", 0.4), SCALE)
        s, x_smooth = kernel.scale, rows(20)

        def log_prob(x: Tensor) -> Tensor:
            return (-0.5 * (x / s) ** 2 / (1 + 0.4**2)).sum(1)

        expected = x_smooth / (1 + 0.4**2)
        assert torch.allclose(kernel.posterior_mean(x_smooth, log_prob), expected)
        score = -x_smooth / s**2 / (1 + 0.4**2)
        assert torch.allclose(kernel.posterior_mean_from_score(x_smooth, score), expected)

    def test_without_scales_it_is_the_kernel_itself(self) -> None:
        assert type(kernels.build("laplace", 0.3)) is kernels.load("laplace")

    @pytest.mark.parametrize("scale", [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0)])
    def test_a_scale_that_is_none_is_refused(self, scale: tuple[float, ...]) -> None:
        with pytest.raises(UsageError, match="scale"):
            kernels.build("gaussian", 0.3, scale)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of two clusters whose columns have spreads from 0.01 to 300, and a constant."""
    path = tmp_path_factory.mktemp("table") / "rows.npy"
    side = np.random.default_rng(0).integers(0, 2, (2000, 1)) * 4 - 2
    noise = np.random.default_rng(1).normal(size=(2000, 3))
    np.save(path, np.hstack([(side + noise) * SCALE, np.full((2000, 1), 7.0)]))
    return path


class TestFits:
    """What a fit does with such a table."""

    def fit(self, table: Path, out: Path, **changes):
        settings = {"dataset": str(table), "options": SMALL, "device": "cpu", **changes}
        return fit_prior(out=out, training=TINY, **settings)

    def test_spreads(self, table: Path) -> None:
        scale = spreads(open_dataset(str(table)))
        assert scale[:3] == pytest.approx([2.236 * s for s in SCALE], rel=0.1)
        assert scale[3] == scale[1]
        assert differ(scale)
        assert not differ(spreads(open_dataset("olympics")))

    def test_a_constant_column_makes_no_difference(self, tmp_path: Path) -> None:
        columns = np.random.default_rng(0).normal(size=(100, 2)) * 0.01
        np.save(tmp_path / "rows.npy", np.hstack([columns, np.full((100, 1), 5.0)]))
        assert not differ(spreads(open_dataset(str(tmp_path / "rows.npy"))))
        np.save(tmp_path / "same.npy", np.full((100, 2), 5.0))
        assert spreads(open_dataset(str(tmp_path / "same.npy"))) == (1.0, 1.0)

    def test_by_default_sigma_is_in_units_of_each_column(self, table: Path, tmp_path: Path) -> None:
        config = self.fit(table, tmp_path / "a").stage("prior").config()
        assert config.scale == spreads(open_dataset(str(table)))
        assert config.sigma is not None
        assert 0.1 < config.sigma < 1
        estimate = sigma_heuristic(open_dataset(str(table)), scale=config.scale)
        assert config.sigma == pytest.approx(estimate.sigma, rel=0.01)

    def test_it_can_be_left(self, table: Path, tmp_path: Path) -> None:
        config = self.fit(table, tmp_path / "a", standardise=False).stage("prior").config()
        assert config.scale is None
        assert config.sigma is not None
        assert config.sigma > 10

    @pytest.mark.slow
    def test_the_units_of_the_data_change_nothing_but_a_constant(
        self, table: Path, tmp_path: Path
    ) -> None:
        """A column in other units is the same fit; its log-density has the Jacobian."""
        factor = np.array([4.0, 1.0, 0.5, 1.0])  # powers of two round alike
        other = tmp_path / "other.npy"
        np.save(other, np.load(table) * factor)
        methods = []
        for name, file in [("a", table), ("b", other)]:
            run = self.fit(file, tmp_path / name, precision="float64", sigma=0.5)
            fit_denoiser(out=run.path, training=TINY, device="cpu")
            methods.append(load_run(run.path).two_step())
        x = torch.from_numpy(np.load(table)[:50])
        bounds = [
            method.bound(y, generator=generator("bound")).total
            for method, y in zip(methods, (x, x * torch.from_numpy(factor)), strict=True)
        ]
        gap = bounds[0] - bounds[1]
        assert gap.mean().item() == pytest.approx(np.log(factor).sum(), abs=0.01)
        samples = [method.sample(100, generator=generator("draw")) for method in methods]
        assert torch.allclose(samples[0] * torch.from_numpy(factor), samples[1], rtol=1e-2, atol=1)

    def test_samples_are_in_data_units(self, table: Path, tmp_path: Path) -> None:
        run = self.fit(table, tmp_path / "a")
        fit_denoiser(out=run.path, training={**TINY, "steps": 200}, device="cpu")
        drawn = load_run(run.path).two_step().sample(2000, generator=generator("draw"))
        ratio = drawn.std(0)[:3] / torch.tensor(spreads(open_dataset(str(table)))[:3])
        assert ((ratio > 0.6) & (ratio < 1.7)).all(), ratio

    def test_a_denoiser_takes_its_priors(self, table: Path, tmp_path: Path) -> None:
        run = self.fit(table, tmp_path / "a")
        denoiser = fit_denoiser(out=run.path, training=TINY, device="cpu").stage("denoiser")
        assert denoiser.config().scale == run.stage("prior").config().scale
        with pytest.raises(RunError, match="contradicts the prior"):
            fit_denoiser(out=run.path, training=TINY, standardise=False, overwrite=True)

    def test_a_baseline_has_nothing_to_standardise(self, table: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="nothing to standardise"):
            fit_baseline(dataset=str(table), out=tmp_path / "b", standardise=True)

    def test_nor_have_images(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="Images have one scale"):
            fit_prior(dataset="digits", out=tmp_path / "b", standardise=True)


def test_on_the_command_line(cli, table: Path) -> None:
    flags = ["--steps", 5, "--batch-size", 32, "--set", "width=8", "--json"]
    code, out, err = cli("fit-prior", "--dataset", table, *flags, "--out", "a")
    assert code == 0, err
    assert "--set standardise=false takes one for all" in err
    assert json.loads(out)["sigma"] < 1
    code, out, err = cli("fit-prior", "--config", "a/prior/config.toml", "--out", "a")
    assert "already complete" in err
    assert code == 0
    off = ["--set", "standardise=false"]
    code, out, err = cli("fit-prior", "--dataset", table, *flags, *off, "--out", "b")
    assert json.loads(out)["sigma"] > 10
    code, _, err = cli("fit-prior", "--dataset", table, "--set", "standardise=1", "--out", "c")
    assert code == 2
    assert "standardise is true or false" in err


def test_quadrature_is_in_data_units() -> None:
    """∫ p(x̃) p(x|x̃) dx̃ with a prior and a denoiser that are known: N(0, s²) smoothed."""
    from smoothctl.architectures.logistic import LogisticMixture
    from smoothctl.smoothing.two_step import TwoStep

    torch.manual_seed(0)
    prior, denoiser = (LogisticMixture((2,), c).double() for c in (None, (2,)))
    x = torch.randn(200, 2, dtype=torch.float64) * torch.tensor([0.05, 20.0])
    kernel = kernels.build("gaussian", 0.5, (0.05, 20.0))
    x_smooth = kernel.sample(x, generator("x"))
    prior.initialize(x_smooth)
    denoiser.initialize(x, x_smooth)
    method = TwoStep(kernel, prior.eval(), denoiser.eval())
    exact = method.log_prob_by_quadrature(x[:5])
    bound = method.importance_weighted_bound(x[:5], 20_000, generator=generator("k"))
    assert torch.allclose(exact, bound, atol=0.05)
