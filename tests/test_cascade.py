"""Denoisers of several steps: exact ones give the truth, and one fit does every step."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smoothctl import fit_denoiser, fit_prior, kernels, load_run
from smoothctl.architectures.any_sigma import AnySigma
from smoothctl.architectures.base import Density
from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.config import config
from smoothctl.errors import NotAvailable, RunError, UsageError
from smoothctl.rng import forked, generator, row_generators
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw, draw_frames
from smoothctl.smoothing.annealing import Annealing, annealed_bounds, tuned_schedule
from smoothctl.smoothing.cascade import Cascade, ImageCascade
from smoothctl.smoothing.latent import Latent
from smoothctl.smoothing.two_step import TwoStep

SIGMAS = (0.2, 0.5, 0.9)
TINY = {"steps": 20, "batch_size": 64, "warmup": 1, "validation_limit": 64}
OPTIONS = {"mixtures": 2, "width": 12, "layers": 2}


class ExactPrior(Density):
    """Of N(0, 1) smoothed by the widest σ."""

    summary = "exact"
    deviation = math.sqrt(1 + SIGMAS[-1] ** 2)

    def log_prob(self, x: Tensor, context=None, labels=None) -> Tensor:
        return torch.distributions.Normal(0, self.deviation).log_prob(x).sum(1)

    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        noise = torch.randn(n, *self.event_shape, generator=generator, dtype=torch.float64)
        return self.deviation * noise


class NarrowPrior(ExactPrior):
    """Another one, of which x̃ is drawn."""

    deviation = 0.6


class ExactSteps(Density):
    """p(x_{k−1} | x_k) of N(0, 1) data: x_{k−1} is their Gaussian regression."""

    summary = "exact"

    @config
    class Config(AnySigma):
        """σ as an input."""

    def _given(self, context: Tensor) -> tuple[Tensor, Tensor]:
        assert self.chosen_sigma is not None
        high = self.chosen_sigma.view(-1, 1).expand(len(context), 1)
        lower = dict(zip(SIGMAS, (0.0, *SIGMAS), strict=False))
        low = torch.tensor([[lower[s]] for s in high.flatten().tolist()], dtype=torch.float64)
        share = (1 + low**2) / (1 + high**2)
        return share * context, ((1 + low**2) * (1 - share)).sqrt()

    def log_prob(self, x: Tensor, context=None, labels=None) -> Tensor:
        return torch.distributions.Normal(*self._given(context)).log_prob(x).sum(1)

    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        mean, deviation = self._given(context)
        return mean + deviation * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)


class Completing(ExactSteps):
    """The same, which keeps what each step is told of its target."""

    told: list[Tensor]

    def inpaint(self, x, known, context=None, labels=None, generator=None, progress=None):
        self.told.append(x)
        return x.where(known, self.sample(len(x), context, labels, generator))


def exact(dims: int = 2, sigmas: tuple[float, ...] = SIGMAS) -> TwoStep:
    network = ExactSteps((dims,), (dims,), config=ExactSteps.Config(lowest_sigma=sigmas[0]))
    kernel = kernels.load("gaussian")(sigmas[-1])
    return TwoStep(kernel, ExactPrior((dims,)), Cascade(network, sigmas))


class TestExact:
    """Three steps of N(0, 1), each as it is."""

    @pytest.mark.parametrize("dims", [1, 3])
    def test_every_weight_is_the_truth(self, dims: int) -> None:
        """p(x_K) Π p(x_{k−1}|x_k) / q of a path is p(x), whatever the path."""
        x = torch.randn(50, dims, generator=generator("x"), dtype=torch.float64)
        truth = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
        for draws in (1, 5):
            found = exact(dims).importance_weighted_bound(x, draws, generator=generator(draws))
            assert torch.allclose(found, truth, atol=1e-9)

    def test_the_loss_is_the_bound_on_average(self) -> None:
        denoiser, kernel = exact().checked_denoiser(), exact().kernel
        x = torch.randn(1, 2, generator=generator("x"), dtype=torch.float64).expand(100_000, -1)
        widest = kernel.sample(x[:1], generator("x̃")).expand(100_000, -1)
        loss = denoiser.training_loss(x, widest, None, generator("loss"))
        bound = denoiser.bound(x, widest, None, 1, generator("bound"))
        error = (loss.std() + bound.std()).item() / math.sqrt(len(x))
        assert loss.mean().item() == pytest.approx(-bound.mean().item(), abs=4 * error)

    def test_samples_follow_the_data(self) -> None:
        x = exact().sample(40_000, generator=generator("s"))
        assert x.mean(0).abs().max() < 0.03
        assert torch.allclose(x.var(0), torch.ones(2, dtype=torch.float64), atol=0.04)

    def test_a_path_has_every_level(self) -> None:
        """x̃ at each σ has the variance of the data and of its noise."""
        method = exact()
        denoiser = method.checked_denoiser()
        assert isinstance(denoiser, Cascade)
        x_smooth = method.sample_smoothed(40_000, generator=generator("x̃"))
        path = denoiser.path(40_000, x_smooth, None, generator("path"))
        wanted = [1 + sigma**2 for sigma in (*reversed(SIGMAS), 0.0)]
        assert [x.var().item() for x in path] == pytest.approx(wanted, rel=0.04)

    def test_annealing_goes_through_all_levels(self) -> None:
        """With exact steps its weights are the truth; with another prior it encloses that."""
        method, work = exact(), Annealing(temperatures=16, leapfrogs=2)
        x = torch.randn(40, 2, generator=generator("x"), dtype=torch.float64)
        schedule = tuned_schedule(method, x, work, 0)
        truth = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
        assert torch.allclose(annealed_bounds(method, x, work, schedule, 0).below, truth)
        narrow = replace(method, prior=NarrowPrior((2,)))
        x, latent = Latent(narrow).sample(2000, None, generator("x̃"), generator("path"))
        assert latent.shape == (2000, 3, 2)
        wide = 1 + SIGMAS[-1] ** 2  # x = x̃/wide + noise of variance 1 − 1/wide
        deviation = math.sqrt(NarrowPrior.deviation**2 / wide**2 + 1 - 1 / wide)
        truth = torch.distributions.Normal(0, deviation).log_prob(x).sum(1)
        schedule = tuned_schedule(narrow, x[:200], work, 0)
        below = annealed_bounds(narrow, x, work, schedule, 0).below - truth
        above = annealed_bounds(narrow, x, work, schedule, 0, None, latent).above - truth
        for gap in (-below, above):
            assert gap.mean().item() > -4 * gap.std().item() / math.sqrt(len(x))
        assert (above - below).mean().item() < 0.4

    def test_a_completion_smooths_what_is_known(self) -> None:
        """Of each level it is x + σ ε; what is not known is drawn given all of x̃."""
        network = Completing((2,), (2,), config=Completing.Config(lowest_sigma=SIGMAS[0]))
        network.told = []
        x = torch.tensor([[2.0, math.nan]], dtype=torch.float64).expand(20_000, -1)
        known = torch.tensor([[True, False]])
        widest = torch.randn(20_000, 2, generator=generator("x̃"), dtype=torch.float64)
        widest = widest * torch.tensor([SIGMAS[-1], ExactPrior.deviation])
        widest = widest + torch.tensor([2.0, 0.0])
        filled = Cascade(network, SIGMAS).inpaint(x, known, widest, None, generator("fill"))
        assert (filled[:, 0] == 2).all()
        assert filled[:, 1].mean().item() == pytest.approx(0, abs=0.03)
        assert filled[:, 1].var().item() == pytest.approx(1, abs=0.04)
        *levels, last = [told[:, 0] for told in network.told]
        assert (last == 2).all()
        assert [level.mean().item() for level in levels] == pytest.approx([2, 2], abs=0.02)
        wanted = list(reversed(SIGMAS[:-1]))
        assert [level.std().item() for level in levels] == pytest.approx(wanted, rel=0.04)

    def test_what_it_has_not(self) -> None:
        denoiser = exact().checked_denoiser()
        with pytest.raises(NotAvailable, match="`bound`"):
            denoiser.log_prob(torch.zeros(2, 2), torch.zeros(2, 2))
        with pytest.raises(NotAvailable, match="context"):
            denoiser.sample(2)
        assert denoiser.at(0.3) is denoiser


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on two-moons whose denoiser goes through two levels."""
    out = tmp_path_factory.mktemp("runs") / "cascade"
    fit_prior(dataset="two-moons", sigma=0.6, out=out, options=OPTIONS, training=TINY)
    return fit_denoiser(out=out, options={"sigmas": [0.1, 0.3]}, training=TINY)


class TestFits:
    """From the settings to samples."""

    def test_loaded_again_it_is_the_same(self, run: Run, cli) -> None:
        x = run.dataset().test.head(20)
        bounds = []
        for _ in range(2):
            method = load_run(run.path).two_step()
            assert method is not None
            denoiser = method.checked_denoiser()
            assert isinstance(denoiser, Cascade)
            assert denoiser.sigmas == (0.1, 0.3, 0.6)
            bounds.append(method.bound(x, generator=generator(0)).total)
        assert torch.equal(*bounds)
        words = ["--limit", 20, "--samples", 20, "--draws", "1,4"]
        code, out, err = cli("score", run.path, *words)
        assert code == 0, err
        assert "bound, 4 draws" in out
        assert cli("sample", run.path, "-n", 9, "--method", "all")[0] == 0
        words += ["--bound", "sandwich", "--temperatures", 4]
        code, out, err = cli("score", run.path, *words)
        assert code == 0, err
        assert "at least, annealed" in out

    def test_levels_as_frames(self, run: Run, cli) -> None:
        """From x̃ at the widest σ to the samples that are drawn without frames."""
        frames = draw_frames(run, "two-step", 30, 4, seed=3)
        assert frames.shape == (4, 30, 2)
        drawn = draw(run, "two-step", 30, seed=3)
        assert torch.equal(frames[-1], drawn.samples)
        assert drawn.smoothed is not None
        assert torch.equal(frames[0], drawn.smoothed)
        assert torch.equal(draw_frames(run, "two-step", 30, 1, seed=3)[0], drawn.samples)
        code, _, err = cli("sample", run.path, "--method", "two-step", "-n", 9, "--frames", 4)
        assert code == 0, err
        code, _, err = cli("sample", run.path, "--method", "two-step", "-n", 9, "--frames", 5)
        assert (code, "have 4 states" in err) == (2, True)

    def test_columns_of_other_spreads(self, tmp_path: Path) -> None:
        """The levels are in units of each column's spread, as σ is."""
        import numpy as np

        table = np.random.default_rng(0).normal(size=(300, 2)) * [1, 100]
        np.save(tmp_path / "table.npy", table)
        common: dict[str, Any] = {"out": tmp_path / "run", "training": TINY}
        fit_prior(dataset=str(tmp_path / "table.npy"), sigma=0.5, options=OPTIONS, **common)
        run = fit_denoiser(options={"sigmas": [0.2]}, **common)
        method = run.two_step()
        assert method is not None
        path = method.checked_denoiser()._path(  # type: ignore[attr-defined]
            torch.zeros(4000, 2), method.kernel.sample(torch.zeros(4000, 2)), None
        )
        ratio = path[1].std(0) / method.kernel.deviations(path[1])
        assert torch.allclose(ratio, torch.tensor(0.4), rtol=0.1)

    @pytest.mark.parametrize(
        ("stage", "options", "said"),
        [
            ("prior", {"sigmas": [0.1]}, "steps of a denoiser"),
            ("denoiser", {"sigmas": [0.6]}, "below the prior's, 0.6"),
            ("denoiser", {"sigmas": [0.3, 0.1]}, "positive and ascend"),
            ("denoiser", {"sigmas": [0.0, 0.1]}, "positive and ascend"),
            ("denoiser", {"sigmas": 65}, "at most 64, not 65"),
            ("denoiser", {"sigmas": -1}, "at most 64, not -1"),
            ("denoiser", {"sigmas": 0.2}, "a list, such as"),
            ("denoiser", {"sigmas": True}, "a list, such as"),
            ("denoiser", {"sigmas": ["a"]}, "a list, such as"),
            ("denoiser", {"sigmas": [0.1], "lowest_sigma": 0.1}, "exclude each other"),
        ],
    )
    def test_what_makes_no_sense(
        self, run: Run, tmp_path: Path, stage: str, options: dict[str, Any], said: str
    ) -> None:
        if stage == "prior":
            with pytest.raises(UsageError, match=said):
                fit_prior(dataset="two-moons", sigma=0.6, out=tmp_path / "run", options=options)
            return
        with pytest.raises(UsageError, match=said):
            fit_denoiser(out=run.path, options=options, training=TINY)

    def test_how_many_and_none(self, tmp_path: Path) -> None:
        """Each is a third of the one above, and written down; 0 is one step, as by default."""
        common: dict[str, Any] = {"out": tmp_path / "run", "training": TINY}
        fit_prior(dataset="two-moons", sigma=0.6, options=OPTIONS, **common)
        run = fit_denoiser(options={"sigmas": 0}, **common)
        assert run.stage("denoiser").config().options["sigmas"] == []
        run = fit_denoiser(options={"sigmas": 2}, overwrite=True, **common)
        assert run.stage("denoiser").config().options["sigmas"] == [0.0666667, 0.2]
        again = fit_denoiser(options={"sigmas": [0.0666667, 0.2]}, **common)
        assert again.stage("denoiser").config() == run.stage("denoiser").config()

    def test_other_noise(self, tmp_path: Path) -> None:
        common: dict[str, Any] = {"out": tmp_path / "run", "training": TINY}
        fit_prior(dataset="two-moons", sigma=0.6, kernel="laplace", options=OPTIONS, **common)
        with pytest.raises(UsageError, match="Gaussian noise"):
            fit_denoiser(options={"sigmas": [0.2]}, **common)

    def test_other_steps_are_another_denoiser(self, run: Run) -> None:
        with pytest.raises(RunError, match="sigmas"):
            fit_denoiser(out=run.path, options={"sigmas": [0.2]}, training=TINY)


class TestImages:
    """Of values on a grid, whose last step has a mass."""

    def cascade(self) -> ImageCascade:
        torch.manual_seed(0)
        settings = PixelCNNpp.Config(blocks=1, filters=4, mixtures=2, scales=1, lowest_sigma=0.2)
        network = PixelCNNpp((1, 4, 4), (1, 4, 4), 256, settings).double().eval()
        return ImageCascade(network, (0.2, 0.5))

    def test_the_last_step_has_a_mass(self) -> None:
        cascade, x = self.cascade(), torch.zeros(6, 1, 4, 4).double()
        assert cascade.step(1).levels == 256
        assert cascade.step(2).levels is None
        assert cascade.network.levels == 256
        grid = (x * 127.5).round() / 127.5
        loss = cascade.training_loss(grid, x + 0.3, None, generator("loss"))
        assert loss.isfinite().all()
        assert cascade.bound(grid, x + 0.3, None, 2, generator("b")).shape == (6,)

    def test_images_do_not_depend_on_the_batch(self) -> None:
        cascade, x_smooth = self.cascade(), torch.randn(5, 1, 4, 4).double()
        whole = cascade.sample(5, x_smooth, None, generator("images"))
        source = generator("images")
        parts = [cascade.sample(len(part), part, None, source) for part in x_smooth.split(2)]
        assert torch.equal(whole, torch.cat(parts))

    def test_completions_are_samples_where_nothing_is_known(self) -> None:
        cascade, x = self.cascade(), torch.zeros(5, 1, 4, 4).double()
        x_smooth = torch.randn(5, 1, 4, 4, generator=generator("x̃")).double()
        known = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        drawn = cascade.inpaint(x, known, x_smooth, None, generator("images"))
        assert torch.equal(drawn, cascade.sample(5, x_smooth, None, generator("images")))
        known[..., 2:, :] = True
        kept, source = known.expand_as(x), generator("images")
        whole = cascade.inpaint(x, known, x_smooth, None, generator("images"))
        parts = [
            cascade.inpaint(x[:n], known, x_smooth[at : at + n], None, source)
            for at, n in ((0, 2), (2, 3))
        ]
        assert torch.equal(whole, torch.cat(parts))
        assert torch.equal(whole[kept], x[kept])
        assert not torch.equal(whole, drawn.where(~kept, x))


def test_forked_sources_are_functions_of_the_row() -> None:
    whole = [row_generators(5, part) for part in forked(5, generator("a"), 2)]
    source = generator("a")
    cut = [[row_generators(n, part) for part in forked(n, source, 2)] for n in (2, 3)]
    for part in range(2):
        seeds = [row.initial_seed() for row in whole[part]]
        assert seeds == [row.initial_seed() for rows in cut for row in rows[part]]
    assert whole[0][0].initial_seed() != whole[1][0].initial_seed()
