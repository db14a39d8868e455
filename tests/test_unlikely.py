"""Models without an exact likelihood, score models and latent ones, through every verb."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from smoothctl.architectures.made import MADE
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.evaluation.likelihood import latent_bounds
from smoothctl.kernels.gaussian import Gaussian
from smoothctl.kernels.laplace import Laplace
from smoothctl.rng import generator
from smoothctl.runs.run import load_run
from smoothctl.sampling.draw import draw, draw_frames
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.testing import (
    BoundedDensityContract,
    ImageScoreModelContract,
    ScoreModelContract,
)
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_prior
from tests.doubles import ImageWalk, Latent, Sized, Walk


class TestWalk(ScoreModelContract):
    density_class = Walk


class TestSized(ScoreModelContract):
    density_class = Sized


class TestImageWalk(ImageScoreModelContract):
    density_class = ImageWalk


class TestLatent(BoundedDensityContract):
    density_class = Latent


@pytest.fixture(autouse=True)
def _plugin(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the doubles as an installed package would."""
    info = tmp_path_factory.mktemp("site") / "doubles-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: doubles\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[smoothctl.architectures]\nwalk = tests.doubles:Walk\n"
        "image-walk = tests.doubles:ImageWalk\nlatent = tests.doubles:Latent\n"
        "sized = tests.doubles:Sized\n"
    )
    monkeypatch.syspath_prepend(str(info.parent))


def fitted(domain: str = "vector") -> Walk:
    torch.manual_seed(0)
    walk = (Walk if domain == "vector" else ImageWalk)((2,) if domain == "vector" else (1, 8, 8))
    x = torch.randn(4096, *walk.event_shape)
    walk.initialize_prior(x, Gaussian(0.5).sample(x, generator(0)), 0.5)
    return walk.eval()


class TestScoreModels:
    def test_a_single_step_is_tweedie_s(self) -> None:
        walk, x_smooth = fitted(), torch.randn(50, 2)
        found = TwoStep(Gaussian(0.5), walk).single_step(x_smooth)
        assert torch.allclose(found, x_smooth + 0.25 * walk.score_function(x_smooth))
        assert torch.allclose(found, x_smooth / 1.25, atol=0.1)  # the data are standard normal

    def test_a_single_step_needs_gaussian_noise(self) -> None:
        with pytest.raises(NotAvailable, match="Laplace"):
            TwoStep(Laplace(0.5), fitted()).single_step(torch.zeros(3, 2))

    def test_quadrature_needs_densities(self) -> None:
        with pytest.raises(NotAvailable, match="exact densities"):
            TwoStep(Gaussian(0.5), fitted(), MADE((2,), (2,))).log_prob_by_quadrature(
                torch.zeros(3, 2)
            )

    def test_the_suggested_sigma_is_taken_unless_one_is_chosen(self, in_tmp: Path) -> None:
        common = {"dataset": "rings", "architecture": "walk", "device": "cpu"}
        run = fit_prior(**common, out="a")
        assert run.stage("prior").config().sigma == 0.25
        assert (
            "sigma = 0.25 # suggested by the architecture"
            in Path("a/prior/config.toml").read_text()
        )
        run = fit_prior(**common, out="b", sigma=0.4)
        assert run.stage("prior").config().sigma == 0.4

    def test_its_own_kernel_only(self, in_tmp: Path) -> None:
        with pytest.raises(UsageError, match="`kernel=gaussian`"):
            fit_prior(dataset="rings", architecture="walk", kernel="laplace", out="a", device="cpu")
        assert not Path("a/prior/model.safetensors").exists()

    def test_it_can_be_no_denoiser(self, in_tmp: Path) -> None:
        fit_prior(dataset="rings", architecture="walk", out="a", device="cpu")
        with pytest.raises(UsageError, match="takes no context"):
            fit_denoiser(architecture="walk", out="a", device="cpu")
        run = fit_denoiser(out="a", training={"steps": 5}, device="cpu")
        assert run.stage("denoiser").config().architecture == "made"
        method = run.two_step()
        assert method.sample(4, generator=generator(1)).shape == (4, 2)

    def test_settings_of_the_sampler(self, in_tmp: Path) -> None:
        fit_baseline(dataset="rings", architecture="walk", out="a", device="cpu")
        long, short = (load_run("a", sampler={"steps": k}) for k in (50, 1))
        a, b = (draw(run, "baseline", 6).samples for run in (long, short))
        assert torch.equal(a, draw(load_run("a"), "baseline", 6).samples)
        mean = long.density("baseline").mean
        assert torch.allclose(b - mean, (a - mean) * 2 / 1.02, atol=1e-5)
        for sampler, words in [({"step": 3}, "did you mean steps"), ({"steps": 0}, "'steps' is")]:
            with pytest.raises(UsageError, match=words):
                load_run("a", sampler=sampler).density("baseline")

    def test_frames(self, in_tmp: Path) -> None:
        fit_baseline(dataset="rings", architecture="walk", out="a", device="cpu")
        run = load_run("a")
        frames = draw_frames(run, "baseline", 5, 3, seed=4)
        assert torch.equal(frames[-1], draw(run, "baseline", 5, seed=4).samples)
        with pytest.raises(UsageError, match="smoothed, baseline or two-step"):
            draw_frames(run, "single-step", 5, 3)

    @pytest.mark.slow
    def test_every_verb(self, cli) -> None:
        tiny = ("--device", "cpu", "--quiet")
        assert cli("fit-prior", "--dataset", "rings", "--arch", "walk", "--out", "r", *tiny)[0] == 0
        code, out, _ = cli("fit-denoiser", "--out", "r", "--steps", 5, *tiny, "--json")
        assert code == 0
        assert json.loads(out)["architecture"] == "made"
        code, _, _ = cli(
            "sample", "r", "--method", "smoothed", "--frames", 3, "-n", 50, "--set", "steps=9"
        )
        assert code == 0
        stem = Path("r/samples/smoothed-3-frames-steps=9-seed0-50")
        assert np.load(stem.with_suffix(".npz"))["frames"].shape == (3, 50, 2)
        assert stem.with_suffix(".png").is_file()
        code, out, err = cli("score", "r", "--limit", 50, "--samples", 50, "--set", "steps=9")
        assert code == 0, err
        assert "two-step bound" in out
        assert "has neither a likelihood" in out.replace("\n", " ")
        (entry,) = json.loads(Path("r/scores.json").read_text())
        assert entry["sampler"] == {"steps": 9}
        assert entry["likelihood"] == []
        assert {s["method"] for s in entry["samples"]} >= {"two-step", "single-step"}
        assert "steps=9" in cli("compare", "r")[1]
        assert cli("report", "r")[0] == 0
        assert cli("denoise", "test", "r", "-n", 2)[0] == 0

    def test_images(self, cli) -> None:
        common = ("--device", "cpu", "--quiet", "--out", "d")
        assert cli("fit-prior", "--dataset", "digits", "--arch", "image-walk", *common)[0] == 0
        assert cli("inpaint", "test", "d", "-n", 2, "--draws", 1)[0] == 0
        found = np.load("d/samples/inpainted-test-bottom-half-single-step-1-draws-seed0.npz")
        kept = np.broadcast_to(found["known"], found["images"].shape)
        assert (found["samples"][:, 0][kept] == found["images"][kept]).all()
        assert cli("sample", "d", "--method", "smoothed", "--frames", 4)[0] == 0
        assert np.load("d/samples/smoothed-4-frames-seed0-8.npz")["frames"].shape == (4, 8, 1, 8, 8)

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["--frames", 3], 2, "not of 'single-step'"),
            (["--frames", 3, "--method", "smoothed", "--label", 1], 2, "--frames goes with"),
            (["--frames", 0], 2, "--frames"),
            (["--set", "stepz=3"], 2, "did you mean steps"),
            (["--set", "steps=three"], 2, "'steps' is wrong"),
            (["--set", "steps=3", "--set", "steps=4"], 2, "given twice"),
        ],
    )
    def test_sentences(self, cli, arguments, code, words) -> None:
        cli("fit-prior", "--dataset", "rings", "--arch", "walk", "--out", "r", "--quiet")
        found, out, err = cli("sample", "r", *arguments)
        assert (found, out) == (code, "")
        assert words in err
        assert "Traceback" not in err

    def test_one_go_has_no_frames(self, cli) -> None:
        small = ("--steps", 2, "--out", "m", "--quiet", "--device", "cpu")
        cli("fit-prior", "--dataset", "rings", "--arch", "made", *small)
        code, _, err = cli("sample", "m", "--method", "smoothed", "--frames", 2)
        assert code == 1
        assert "no intermediate samples" in err


class TestLatentModels:
    @pytest.fixture
    def latent(self) -> Latent:
        return Latent((2,)).double().eval().requires_grad_(False)

    def test_bounds_approach_the_likelihood(self, latent: Latent) -> None:
        x = latent.sample(4000, generator=generator("x"))
        exact = -latent.exact(x).mean().item()
        found = latent_bounds("latent", latent, x, [4, 256], seed=0)
        assert [e.quantity for e in found] == [
            "bound, 1 draw",
            "bound, 4 draws",
            "bound, 256 draws",
        ]
        loose, middle, tight = (e.nats for e in found)
        assert loose > middle > tight > exact
        assert tight == pytest.approx(exact, abs=0.01)

    def test_progress_and_seed(self, latent: Latent) -> None:
        told: list[tuple[int, int]] = []
        x = latent.sample(10, generator=generator("x"))
        a = latent_bounds("latent", latent, x, 2, 3, lambda *done: told.append(done))
        assert a == latent_bounds("latent", latent, x, [2], 3)
        assert a != latent_bounds("latent", latent, x, [2], 4)
        assert told == [(1, 2), (2, 2)]

    def test_two_latent_stages_bound_the_mixture(self) -> None:
        """The prior is that of x̃, the denoiser shifts by its context: p(x) is a Gaussian."""
        torch.manual_seed(1)
        kernel, dims = Gaussian(0.3), 2
        prior, denoiser = Latent((dims,)).double(), Latent((dims,), (dims,)).double()
        denoiser.slope.data.fill_(0.1)
        denoiser.log_scale.data.fill_(math.log(0.4))
        method = TwoStep(kernel, prior.requires_grad_(False), denoiser.requires_grad_(False))
        x = method.sample(3000, generator=generator("x"))
        covariance = sum(
            torch.outer(stage.slope, stage.slope) + (2 * stage.log_scale).exp() * torch.eye(dims)
            for stage in (prior, denoiser)
        ).double()
        exact = torch.distributions.MultivariateNormal(prior.mean, covariance).log_prob(x).mean()
        one = method.bound(x, generator=generator("one")).total.mean()
        few, many = method.importance_weighted_bounds(
            x, [8, 512], generator=generator("many")
        ).mean(1)
        assert one < few < many < exact
        assert many == pytest.approx(exact.item(), abs=0.02)

    def test_scores_of_a_run(self, in_tmp: Path) -> None:
        from smoothctl.evaluation.scores import effort_for, score_run

        common = {"dataset": "rings", "out": "a", "device": "cpu"}
        fit_baseline(**common, architecture="latent")
        fit_prior(**common, architecture="latent")
        fit_denoiser(out="a", device="cpu")
        scores = score_run(
            load_run("a"), effort_for(load_run("a"), limit=100, draws=[2, 8], samples=0)
        )
        found = [(e.model, e.quantity.strip()) for e in scores.likelihood]
        assert found == [
            ("baseline", "bound, 1 draw"),
            ("baseline", "bound, 2 draws"),
            ("baseline", "bound, 8 draws"),
            ("two-step", "bound, 1 draw"),
            ("two-step", "prior term"),
            ("two-step", "kernel entropy"),
            ("two-step", "denoiser term"),
            ("two-step", "bound, 2 draws"),
            ("two-step", "bound, 8 draws"),
        ]
        with pytest.raises(NotAvailable, match="sums its latent coordinate"):
            load_run("a").two_step().check_single_step()

    def test_the_gain_is_of_x_smooth_not_of_what_the_loss_draws(
        self, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that is blind gains nothing, though its loss draws."""
        monkeypatch.setattr(Latent, "_centre", lambda latent, _: latent.mean[None])
        common = {"out": "a", "training": {"steps": 2}, "device": "cpu"}
        fit_prior(dataset="rings", **common)
        run = fit_denoiser(architecture="latent", **common)
        assert run.stage("denoiser").log()[-1]["gain"] == 0


def test_shapes_may_be_chosen_from_data(tmp_path: Path) -> None:
    """Also where settings are so large that shapes are looked at before memory is taken."""
    fit_baseline(
        dataset="rings",
        architecture="sized",
        out=tmp_path / "run",
        options={"steps": 20_000},
        training={"steps": 2},
        device="cpu",
    )
    assert len(load_run(tmp_path / "run").density("baseline").seen) > 1
