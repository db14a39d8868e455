"""VAE: its weights are unbiased estimates of a mass, which its samples follow."""

import json
import math
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from smoothctl_rivals.vae import VAE
from torch import Tensor

from smoothctl.errors import NotAvailable, UsageError
from smoothctl.rng import generator, normal
from smoothctl.testing import CommandLine
from smoothctl.testing.contract import DTYPES, OfImages

FAST = ["--steps", "4", "--batch-size", "16", "--device", "cpu", "--set", "filters=4"]


class TestVAE(OfImages):
    """The contract of images; and, of images of two pixels with eight values, that of a bound."""

    density_class = VAE
    options: ClassVar = {"latents": 2, "filters": 4, "mixtures": 2}

    def build(self, *arguments: Any, **settings: Any) -> VAE:
        """Brings q(z|x) near to N(0, I), as training does: or a hundred draws are few."""
        density = super().build(*arguments, **settings)
        assert isinstance(density, VAE)
        for parameter in density.encoder[-1].parameters():
            parameter.data *= 0.1
        return density

    def test_the_exact_likelihood_and_the_score_are_refused(self) -> None:
        density, x = self.build(), torch.zeros(2, *self.shape).double()
        for refused in (density.log_prob, density.score_function):
            with pytest.raises(NotAvailable, match="`bound`"):
                refused(x)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_bounds_have_shape_and_dtype(self, dtype: torch.dtype) -> None:
        density = self.build(dtype=dtype)
        bound = density.bound(torch.zeros(3, *self.shape, dtype=dtype), draws=2)
        assert (bound.shape, bound.dtype) == ((3,), dtype)

    def test_bounds_repeat_and_need_the_context(self) -> None:
        density, x = self.build(conditional=True), torch.randn(4, *self.shape).double()
        a, b, c, d = (
            density.bound(x, x + shift, None, 1, generator(key))
            for key, shift in (("one", 0.1), ("one", 0.1), ("two", 0.1), ("one", -0.7))
        )
        assert torch.equal(a, b)
        assert not torch.allclose(a, c)
        assert not torch.allclose(a, d)

    def test_masses_are_unbiased(self) -> None:
        """Of all images of two pixels with eight values they add up to 1."""
        density = self.build(shape=(1, 1, 2), levels=8)
        assert _masses(density, 500).sum().item() == pytest.approx(1, abs=0.01)

    def test_samples_follow_the_mass(self) -> None:
        density = self.build(shape=(1, 1, 2), levels=8)
        x = density.sample(20_000, generator=generator("contract"))
        first, second = ((x.flatten(1) + 1) * 3.5).round().long().unbind(1)
        frequencies = torch.bincount(8 * first + second, minlength=64).double() / len(x)
        assert (frequencies - _masses(density, 500)).abs().max() < 0.015

    def test_given_a_context_too(self) -> None:
        density = self.build(shape=(1, 1, 2), levels=8, conditional=True)
        one = torch.tensor([0.3, -0.6]).double().view(1, 1, 1, 2)
        mass = _masses(density, 500, one.expand(64, 1, 1, 2))
        x = density.sample(10_000, one.expand(10_000, 1, 1, 2), None, generator("contract"))
        first, second = ((x.flatten(1) + 1) * 3.5).round().long().unbind(1)
        frequencies = torch.bincount(8 * first + second, minlength=64).double() / len(x)
        assert mass.sum().item() == pytest.approx(1, abs=0.01)
        assert (frequencies - mass).abs().max() < 0.02

    def test_a_density_on_the_reals_integrates_to_one(self) -> None:
        density, side = self.build(shape=(1, 1, 2)), torch.linspace(-12, 12, 81).double()
        points = torch.cartesian_prod(side, side).view(-1, 1, 1, 2)
        with torch.no_grad():
            estimate = density.bound(points, None, None, 20, generator("mass")).exp()
        assert (estimate.sum() * 0.3**2).item() == pytest.approx(1, abs=0.03)


def _pairs() -> Tensor:
    """Returns every image of two pixels with eight values: (64, 1, 1, 2)."""
    axis = torch.arange(8, dtype=torch.float64) * 2 / 7 - 1
    return torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)


def _masses(density: VAE, draws: int, context: Tensor | None = None) -> Tensor:
    """Returns estimates of the mass of each of `_pairs`, (64,)."""
    with torch.no_grad():
        return density.bound(_pairs(), context, None, draws, generator("masses")).exp()


@pytest.mark.slow
class TestOfOddColourImages(OfImages):
    density_class = VAE
    shape: ClassVar = (3, 5, 2)
    options: ClassVar = {"latents": 3, "filters": 2, "blocks": 0, "mixtures": 1}


def _model(shape: tuple[int, ...] = (1, 8, 8), levels: int | None = None) -> VAE:
    """Returns a model whose latent variables mean something."""
    torch.manual_seed(0)
    model = VAE(shape, None, levels, VAE.Config(latents=2, filters=4, mixtures=1)).double()
    model.initialize(torch.rand(100, *shape).double() * 2 - 1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.mark.slow
def test_more_draws_approach_one_value_from_below() -> None:
    model = _model((1, 2, 3))
    x = model.sample(200, generator=generator("data"))
    with torch.no_grad():
        means = [
            model.bound(x, None, None, k, generator("draws", k)).mean() for k in (1, 8, 64, 256)
        ]
    gaps = [b - a for a, b in pairwise(means)]
    assert gaps[0] > 0
    assert gaps[1] > 0
    assert gaps[2].abs() < gaps[0]


def test_one_draw_is_the_reconstruction_less_the_divergence() -> None:
    """Mean of the one-draw bound = E log p(x|z) − KL(q‖p), the latter in closed form."""
    model, x = _model(), torch.randn(1, 1, 8, 8).double().expand(4000, 1, 8, 8)
    with torch.no_grad():
        bound = model.bound(x, None, None, 1, generator("elbo"))
        mean, raw = model.encoder(x[:1]).chunk(2, dim=1)
        log_sd = 6 * torch.tanh(raw / 6)
        z = mean + log_sd.exp() * normal((4000, 2), x, generator("elbo"))
        reconstruction = model._log_likelihood(z, x, None)
    divergence = 0.5 * (mean**2 + (2 * log_sd).exp() - 1 - 2 * log_sd).sum()
    difference = reconstruction - bound  # log q(z|x) − log p(z), whose mean is the divergence
    error = difference.std() / 4000**0.5
    assert (difference.mean() - divergence).abs() < 4 * error + 0.01


def test_however_much_is_evaluated_at_once_the_bound_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = _model(), torch.randn(5, 1, 8, 8).double()
    with torch.no_grad():
        whole = model.bound(x, None, None, 3, generator("parts"))
        monkeypatch.setattr("smoothctl_rivals.vae._PIXEL_VALUES", 2 * 64)
        parts = model.bound(x, None, None, 3, generator("parts"))
    assert torch.allclose(whole, parts)


@pytest.mark.parametrize(("shape", "levels"), [((1, 28, 28), 256), ((3, 32, 32), None)])
def test_sides_of_real_images(shape: tuple[int, ...], levels: int | None) -> None:
    model = _model(shape, levels)
    x = model.sample(2, generator=generator("sides"))
    assert x.shape == (2, *shape)
    assert model.bound(x, draws=2, generator=generator("sides")).isfinite().all()
    assert levels is None or torch.allclose((x + 1) * 127.5, ((x + 1) * 127.5).round())


@pytest.mark.slow
def test_latent_variables_say_which_kind_an_image_is() -> None:
    """Of images that are all dark or all bright, values are not independent."""
    torch.manual_seed(0)
    kinds = torch.tensor([-1.0, 1.0]).repeat(64).view(-1, 1, 1, 1) * torch.ones(1, 4, 4)
    x = kinds + 0.2 * torch.randn(128, 1, 4, 4)
    model = VAE((1, 4, 4), config=VAE.Config(latents=2, filters=4, mixtures=1))
    model.initialize(x)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(200):
        loss = model.training_loss(x, generator=generator("fit", step)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    independent = 16 * (0.5 * math.log(2 * math.pi * math.e * 0.2**2) + math.log(2))
    assert loss.item() < independent - 4
    drawn = model.sample(400, generator=generator("drawn")).mean((1, 2, 3))
    assert (drawn.abs() > 0.7).double().mean() > 0.8
    assert 0.25 < (drawn > 0).double().mean() < 0.75


def test_a_context_of_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match="8×8 pixels"):
        VAE((1, 8, 8), (1, 4, 4))


@pytest.mark.slow
def test_a_run_of_all_stages(cli: CommandLine) -> None:
    """Both stages and a baseline, each known by a bound, and what it has not in a sentence."""
    architecture = ["--arch", "vae", "--dataset", "digits", "--out", "run"]
    cli.output("fit-baseline", *architecture, *FAST)
    cli.output("fit-prior", *architecture, *FAST)
    cli.output("fit-denoiser", "--out", "run", *FAST)
    for method in ("baseline", "two-step"):
        cli.output("sample", "run", "-n", "3", "--method", method, "--out", f"{method}.npz")
        assert np.isfinite(np.load(f"{method}.npz")["samples"]).all()
    code, _, err = cli("sample", "run", "--method", "single-step", "--out", "s.npz")
    assert code in (1, 2)
    assert "no score" in err
    few = ["--limit", "8", "--samples", "8", "--draws", "4"]
    scores = json.loads(cli.output("score", "run", *few, "--json"))
    values = [entry["bits_per_dim"] for entry in scores["likelihood"]]
    assert len(values) >= 4
    assert all(math.isfinite(value) for value in values)
    assert "already complete" in cli("fit-baseline", *architecture, *FAST)[2]


@pytest.mark.slow
def test_a_denoiser_over_another_prior(cli: CommandLine) -> None:
    """VAE draws x̃ and pixelcnnpp x: the bound of both is known."""
    fit = ["fit-prior", "--arch", "vae", "--dataset", "digits", "--out", "run", *FAST]
    cli.output(*fit)
    small = ["--set", "filters=4", "--set", "blocks=1", "--batch-size", "16", "--device", "cpu"]
    cli.output("fit-denoiser", "--arch", "pixelcnnpp", "--out", "run", *small, "--steps", "2")
    few = ["--limit", "8", "--samples", "0", "--draws", "2"]
    scores = json.loads(cli.output("score", "run", *few, "--json"))
    assert all(math.isfinite(entry["bits_per_dim"]) for entry in scores["likelihood"])
