"""x̃ of images by a walk along the prior's score: where it ends, and what goes with it."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from smoothctl import load_run
from smoothctl.architectures.base import Density
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.kernels.gaussian import Gaussian
from smoothctl.rng import generator
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw, draw_frames
from smoothctl.smoothing.two_step import TwoStep
from smoothctl.smoothing.walk import WalkedPrior

SIGMA = 0.5


class ExactPrior(Density):
    """N(1, σ² + 0.1²) for each pixel, in closed form."""

    domain = "image"
    summary = "exact"

    def __init__(self) -> None:
        super().__init__((1, 3, 4))
        self.mean = nn.Parameter(torch.ones((), dtype=torch.float64))

    def log_prob(self, x: Tensor, context=None, labels=None) -> Tensor:
        normal = torch.distributions.Normal(self.mean, math.hypot(SIGMA, 0.1))
        return normal.log_prob(x).flatten(1).sum(1)

    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        raise AssertionError("the walk replaces it")


def walked(steps: int) -> TwoStep:
    return TwoStep(Gaussian(SIGMA), ExactPrior(), walk=steps)


class TestWalk:
    """Of a prior whose density is known."""

    def test_it_ends_where_the_prior_is(self) -> None:
        """Mean and variance to a few standard errors and the bias of a step of σ/2, below 2 %."""
        x_smooth = walked(60).sample_smoothed(1000, generator=generator(0))
        assert x_smooth.shape == (1000, 1, 3, 4)
        assert x_smooth.mean().item() == pytest.approx(1, abs=0.02)
        assert x_smooth.std().item() == pytest.approx(math.hypot(SIGMA, 0.1), rel=0.03)

    def test_it_starts_as_noise_over_the_data_s_range(self) -> None:
        first, *_ = WalkedPrior(ExactPrior(), SIGMA, 1)._walk(4000, None, generator(0), None)
        assert first.mean().item() == pytest.approx(0, abs=0.02)
        assert first.var().item() == pytest.approx(1 / 3 + SIGMA**2, rel=0.03)

    def test_an_image_has_its_own_noise(self) -> None:
        """However images are batched: the last 2 of 5 are those that a source skipped to draws."""
        prior = WalkedPrior(ExactPrior(), SIGMA, 4)
        whole, source = prior.sample(5, generator=generator(1)), generator(1)
        parts = [prior.sample(n, generator=source) for n in (3, 2)]
        assert torch.equal(whole, torch.cat(parts))

    def test_frames_end_at_the_sample(self) -> None:
        prior = WalkedPrior(ExactPrior(), SIGMA, 6)
        frames = prior.trajectory(3, 3, generator(2))
        assert frames.shape == (3, 3, 1, 3, 4)
        assert torch.equal(frames[-1], prior.sample(3, generator=generator(2)))
        assert not torch.equal(frames[0], frames[1])

    def test_it_completes_nothing(self) -> None:
        with pytest.raises(NotAvailable, match="completes no images"):
            walked(3).inpaint_smoothed(torch.zeros(1, 1, 3, 4), torch.ones(1, 1, 3, 4).bool())


class TestRuns:
    """A fitted prior of digits."""

    def test_samples_are_those_of_a_walk(self, digits_run: Run) -> None:
        """The seed decides; likelihoods are the prior's, and the second step is as ever."""
        run = load_run(digits_run.path, sampler={"walk": 3})
        first, again = (draw(run, "two-step", 4, seed=1) for _ in range(2))
        assert torch.equal(first.samples, again.samples)
        assert first.smoothed is not None
        plain = draw(digits_run, "two-step", 4, seed=1).smoothed
        assert plain is not None
        assert not torch.allclose(first.smoothed, plain)
        frames = draw_frames(run, "smoothed", 4, 2, seed=1)
        assert torch.allclose(frames[-1], first.smoothed, atol=1e-5)
        method = run.two_step()
        assert method is not None
        assert method.prior.tractable

    def test_the_verb(self, cli, digits_run: Run) -> None:
        given = ["-n", "3", "--set", "walk=2", "--method", "smoothed", "--out", "a.npz"]
        result = json.loads(cli("sample", digits_run.path, *given, "--json")[1])
        assert result["sampler"] == {"walk": 2}
        with np.load("a.npz") as file:
            assert file["samples"].shape == (3, 1, 8, 8)

    @pytest.mark.parametrize("steps", [-1, 1.5, True, "long", 10**7])
    def test_what_is_no_walk(self, digits_run: Run, steps: object) -> None:
        with pytest.raises(UsageError, match="number of steps"):
            load_run(digits_run.path, sampler={"walk": steps})

    def test_what_it_does_not_go_with(self, digits_run: Run, trained_run: Run, cli) -> None:
        with pytest.raises(UsageError, match="of images"):
            load_run(trained_run.path, sampler={"walk": 3})
        given = ["--method", "baseline", "--set", "walk=3", "--out", "b.npz"]
        if "baseline" in digits_run.stages():
            assert "the baseline has none" in cli("sample", digits_run.path, *given)[2]
        out = cli("inpaint", "test", digits_run.path, "-n", "1", "--set", "walk=3")
        assert (out[0], "completes no images" in out[2]) == (1, True)
