"""NCSN as a density: levels, scores, samples, completions."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from smoothctl_ncsn.base import ScoreModel
from smoothctl_ncsn.density import ImageNCSN, VectorNCSN
from smoothctl_ncsn.levels import PUBLISHED_RATIO, largest_distance, ratio
from torch import Tensor

from smoothctl.errors import NotAvailable, UsageError
from smoothctl.kernels.gaussian import Gaussian
from smoothctl.rng import generator


def vectors(**options: Any) -> VectorNCSN:
    torch.manual_seed(0)
    return VectorNCSN((2,), None, None, VectorNCSN.Config(**{"width": 16, **options}))


def images(shape: tuple[int, int, int] = (1, 8, 8), **options: Any) -> ImageNCSN:
    torch.manual_seed(0)
    return ImageNCSN(shape, None, 256, ImageNCSN.Config(filters=2, **options))


def data(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator("data", *shape))


class GaussianScore(VectorNCSN):
    """The exact score of N(0, Σ) at every level, through the sampler of a model."""

    covariance = torch.tensor([[2.0, 1.2], [1.2, 1.0]])

    def network_output(self, x: Tensor, index: Tensor) -> Tensor:
        sigma = self.sigmas[index].view(-1, 1, 1)
        precision = torch.linalg.inv(self.covariance + sigma**2 * torch.eye(2))
        return -(precision @ x[:, :, None])[:, :, 0]


def gaussian(prior_sigma: float | None = None, **options: Any) -> GaussianScore:
    model = GaussianScore((2,), None, None, VectorNCSN.Config(output="raw", **options))
    x = data(2000, 2) @ torch.linalg.cholesky(GaussianScore.covariance).T
    if prior_sigma is None:
        model.initialize(x)
    else:
        model.initialize_prior(x, x, prior_sigma)
    return model


class TestLevels:
    """How they are chosen, and where they are kept."""

    def test_by_the_two_techniques(self) -> None:
        """From the largest distance, with the ratio of the dimension, to sigma_end."""
        model, x = images(), 0.5 * data(300, 1, 8, 8)
        model.initialize(x)
        assert model.sigmas[0].item() == pytest.approx(largest_distance(x), rel=1e-5)
        assert model.sigmas[-1].item() == pytest.approx(0.02)
        gamma = (model.sigmas[:-1] / model.sigmas[1:]).max().item()
        assert ratio(64) * 0.9 < gamma <= ratio(64) + 1e-5

    def test_as_published(self) -> None:
        """The preset's ten levels from 1 to 0.01 on [0, 1] are 2 to 0.02 on [−1, 1]."""
        preset = {k: v for k, v in ImageNCSN.presets["paper-mnist"].items() if "." not in k}
        model = ImageNCSN((1, 4, 4), None, 256, ImageNCSN.Config(**{**preset, "filters": 2}))
        model.initialize(data(50, 1, 4, 4))
        assert len(model.sigmas) == 10
        assert model.sigmas[0] == 2
        assert model.sigmas[-1].item() == pytest.approx(0.02)
        assert (model.sigmas[0] / model.sigmas[1]).item() == pytest.approx(PUBLISHED_RATIO)
        assert model.config.step_size * model.sigmas[-1] ** 2 == pytest.approx(4 * 2e-5)

    def test_a_uniform_start_is_uniform_on_the_images_range(self) -> None:
        model = ImageNCSN((1, 8, 8), None, 256, ImageNCSN.Config(filters=2, start="uniform"))
        start = model.start(lambda: data(500, 1, 8, 8), torch.tensor(2.0))
        quantiles = start.flatten().quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
        expected = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
        assert torch.allclose(quantiles, expected, atol=0.03)

    def test_a_prior_ends_at_the_kernel(self) -> None:
        model = vectors()
        model.initialize_prior(data(300, 2), data(300, 2), 0.3)
        assert model.sigmas[-1].item() == pytest.approx(0.3)

    def test_a_prior_needs_gaussian_noise(self) -> None:
        """The fit refuses another kernel, as test_cli shows."""
        assert vectors().required_kernel == "gaussian"

    def test_levels_must_go_down(self) -> None:
        with pytest.raises(UsageError, match="sigma_begin"):
            vectors(sigma_begin=0.1).initialize_prior(data(300, 2), data(300, 2), 0.3)

    @pytest.mark.parametrize("make", [vectors, images])
    def test_a_loaded_model_has_them(self, make: Any) -> None:
        """However many there are: the weights alone tell."""
        model, again = make(), make()
        model.initialize(data(100, *model.event_shape))
        assert len(model.sigmas) != len(again.sigmas)
        again.load_state_dict(model.state_dict())
        assert torch.equal(model.sigmas, again.sigmas)

    def test_without_data_there_are_none(self) -> None:
        with pytest.raises(UsageError, match="initialise"):
            vectors().sample(3)

    def test_each_gives_another_score(self) -> None:
        model = images(noise_levels=5)
        model.initialize(data(50, 1, 8, 8))
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        x = data(1, 1, 8, 8).expand(5, 1, 8, 8)
        scores = model.level_score(x, torch.arange(5)).flatten(1)
        assert (torch.pdist(scores) > 1e-3).all()


class TestScore:
    """What training makes of it."""

    @pytest.mark.parametrize("output", ["raw", "scaled", "residual"])
    def test_a_fit_learns_the_smoothed_score(self, output: str) -> None:
        """On correlated Gaussian data, at the last level of a prior."""
        model, source = vectors(output=output, sigma_begin=3.0, width=64), generator("fit")
        root = torch.linalg.cholesky(GaussianScore.covariance)
        model.initialize_prior(data(2000, 2) @ root.T, data(2000, 2) @ root.T, 0.5)
        adam = torch.optim.Adam(model.parameters(), lr=1e-2)
        for step in range(500):
            adam.param_groups[0]["lr"] = 1e-2 * (1 - step / 500)
            x = torch.randn(512, 2, generator=source) @ root.T
            loss = model.prior_loss(x, Gaussian(0.5).sample(x, source), 0.5, None, source).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        x = data(1000, 2) @ root.T
        true = -x @ torch.linalg.inv(GaussianScore.covariance + 0.25 * torch.eye(2))
        assert ((model.score_function(x) - true).norm() / true.norm()).item() < 0.15

    def test_a_silent_residual_network_is_a_gaussian(self) -> None:
        """With the data's mean and spread, smoothed by the level; its loss is as for unit data."""
        model, x = vectors(), 3 * data(4000, 2) + 1
        model.initialize(x)
        for parameter in model.parameters():
            parameter.data.zero_()
        for index in (0, len(model.sigmas) - 1):
            true = -(x - x.mean(0)) / (model.spread**2 + model.sigmas[index] ** 2)
            assert torch.allclose(model.level_score(x, torch.full((4000,), index)), true, rtol=1e-4)
        loss = model.training_loss(x, generator=generator("loss")).mean().item()
        assert loss == pytest.approx(0.5 * 2, rel=0.06)

    def test_the_last_level_is_the_score(self) -> None:
        model = gaussian(prior_sigma=0.5)
        x = data(5, 2)
        true = -x @ torch.linalg.inv(GaussianScore.covariance + 0.25 * torch.eye(2))
        assert torch.allclose(model.score_function(x), true, rtol=1e-3, atol=1e-5)


class TestSamples:
    """Langevin dynamics from the model's settings."""

    def test_a_prior_draws_smoothed_data(self) -> None:
        """The covariance is that of data and kernel together, with no final denoising."""
        x = gaussian(prior_sigma=0.7, steps=300, step_size=0.05).sample(
            10_000, generator=generator("x")
        )
        expected = GaussianScore.covariance + 0.49 * torch.eye(2)
        assert torch.allclose(x.T.cov(), expected, rtol=0.1)

    def test_conventions_agree_where_the_step_is_chosen(self) -> None:
        """Technique 4 knows what a step is."""
        models = [gaussian(convention=name, step_size=0.0) for name in ("paper", "image-code")]
        a, b = (model.sample(5, generator=generator("x")) for model in models)
        assert torch.allclose(a, b, atol=1e-4)

    def test_a_baseline_denoises_at_the_end(self) -> None:
        """By Tweedie's formula at the last level."""
        plain = gaussian(denoise=False, sigma_end=0.5)
        denoised = gaussian(denoise=True, sigma_end=0.5)
        x, y = (model.sample(50, generator=generator("x")) for model in (plain, denoised))
        assert torch.allclose(y, x + 0.25 * plain.score_function(x), atol=1e-5)

    def test_frames_are_evenly_spaced_states(self) -> None:
        """Of as many frames as steps, each is a state; of fewer, every other one."""
        model = gaussian(steps=4)
        total = 4 * len(model.sigmas)
        every = model.trajectory(3, total, generator("x"))
        half = model.trajectory(3, total // 2, generator("x"))
        assert torch.equal(half, every[1::2])
        with pytest.raises(UsageError, match="frames"):
            model.trajectory(3, 0)

    def test_plain_langevin_stays_at_the_last_level(self) -> None:
        """It takes as many steps, and scores the last level only."""
        model, told = gaussian(sampler="langevin", steps=3), []
        seen: list[int] = []
        score = model.network_output
        model.network_output = lambda x, i: seen.extend(i.tolist()) or score(x, i)  # type: ignore
        model.sample(2, progress=lambda *done: told.append(done))
        assert set(seen) == {len(model.sigmas) - 1}
        assert told[-1] == (3 * len(model.sigmas),) * 2

    def test_divergence_is_told(self) -> None:
        """With the step size to blame and one that may do."""
        with pytest.raises(NotAvailable, match=r"diverged.*step_size"):
            gaussian(step_size=50.0, steps=100).sample(3)


class TestCompletion:
    """NCSN algorithm 2 through the model."""

    @pytest.mark.parametrize("prior_sigma", [None, 0.3])
    def test_it_conditions_on_what_is_known(self, prior_sigma: float | None) -> None:
        """x₂ given x₁ has the conditional moments; of a prior, those of x̃."""
        model = gaussian(prior_sigma, steps=60, denoise=False, sigma_end=0.2)
        x = torch.full((20_000, 2), math.nan)
        x[:, 0] = 2.5
        found = model.inpaint(x, torch.tensor([[True, False]]), generator=generator("x"))
        covariance = GaussianScore.covariance + float(model.sigmas[-1]) ** 2 * torch.eye(2)
        slope = covariance[0, 1] / covariance[0, 0]
        assert (found[:, 0] == 2.5).all()
        assert found[:, 1].mean().item() == pytest.approx(2.5 * slope.item(), abs=0.08)
        variance = (covariance[1, 1] - slope * covariance[0, 1]).item()
        assert found[:, 1].var().item() == pytest.approx(variance, rel=0.15)

    def test_masks_may_differ_by_image(self) -> None:
        model = images((3, 4, 4), noise_levels=2, steps=1)
        model.initialize(data(50, 3, 4, 4))
        x, known = data(2, 3, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
        known[0, :, :2], known[1, :, :, 3] = True, True
        found = model.inpaint(x, known, generator=generator("x"))
        kept = known.expand_as(x)
        assert torch.equal(found[kept], x[kept])
        assert not (found[~kept] == x[~kept]).any()


def test_images_must_have_sides_to_halve() -> None:
    with pytest.raises(UsageError, match="1×9"):
        images((1, 1, 9))


def test_sliced_score_matching_needs_a_smooth_network() -> None:
    with pytest.raises(UsageError, match="silu"):
        vectors(loss="sliced")


def test_sampler_settings_leave_the_weights_alone() -> None:
    """A model with other sampler settings loads the same state."""
    model = vectors()
    model.initialize(data(50, 2))
    other = {"sampler": "langevin", "steps": 7, "step_size": 0.1, "convention": "paper"}
    config = replace(model.config, **other, denoise=False)
    changed = {*other, "denoise"}
    assert changed == ScoreModel.sampler_settings
    VectorNCSN((2,), None, None, config).load_state_dict(model.state_dict())
