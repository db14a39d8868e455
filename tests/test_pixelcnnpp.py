"""PixelCNN++: the published network, autoregression, densities, and samplers that agree."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.plain_pixelcnnpp import GatedResnet, PlainPixelCNNpp
from smoothctl.architectures.pixelcnnpp import PixelCNNpp
from smoothctl.architectures.pixelcnnpp.activations import PADDINGS, concat_elu, elu_pair, gate
from smoothctl.architectures.pixelcnnpp.head import (
    Components,
    CoupledMixture,
    PixelNoise,
    draw,
    parameters_per_mixture,
)
from smoothctl.architectures.pixelcnnpp.network import Condition, Network, layers_of
from smoothctl.architectures.pixelcnnpp.samplers import CachedSampler, Canvas
from smoothctl.config import build
from smoothctl.errors import UsageError
from smoothctl.kernels.gaussian import Gaussian
from smoothctl.rng import generator

LOGISTICS = Components(-7.0)

TINY = {"blocks": 1, "filters": 4, "mixtures": 2}


def model(
    shape: tuple[int, ...],
    denoiser: bool = False,
    levels: int | None = None,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> PixelCNNpp:
    """A network with well-scaled, random weights in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = build(PixelCNNpp.Config, {**TINY, **options}, "options")
        density = PixelCNNpp(shape, shape if denoiser else None, levels, config).to(dtype)
        density = density.at(0.3)
        x = torch.rand(32, *shape, dtype=dtype) * 2 - 1
        density.initialize(x, x + 0.3 * torch.randn_like(x) if denoiser else None)
        for parameter in density.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return density.eval().requires_grad_(False)


def images(n: int, shape: tuple[int, ...], key: str = "images") -> Tensor:
    return 2 * torch.rand(n, *shape, generator=generator(key), dtype=torch.float64) - 1


def published_layers(plain: PlainPixelCNNpp) -> list[nn.Module]:
    """The layers of the plain port in the order of `Network.layers`."""

    def block(resnet: GatedResnet) -> list[nn.Module]:
        skip = [] if resnet.nin_skip is None else [resnet.nin_skip.lin]
        return [resnet.conv_input.conv, *skip, resnet.conv_out.conv]

    found = [plain.u_init.conv, plain.ul_init_above.conv, plain.ul_init_left.conv]
    stacks = [stack for scale in range(3) for stack in (plain.up_u[scale], plain.up_ul[scale])]
    stacks += [s for scale in (2, 1, 0) for s in (plain.down_u[scale], plain.down_ul[scale])]
    for stack in stacks:
        found += [layer for resnet in stack for layer in block(resnet)]
    for scale in range(2):
        found += [plain.downsize_u[scale].conv, plain.downsize_ul[scale].conv]
    for scale in (1, 0):
        found += [plain.upsize_u[scale].deconv, plain.upsize_ul[scale].deconv]
    return [*found, plain.nin_out.lin]


@torch.no_grad()
def same_weights(plain: PlainPixelCNNpp, ours: Network) -> None:
    for theirs, (layer, _) in zip(published_layers(plain), ours.layers(), strict=True):
        layer.weight = theirs.weight
        layer.bias.copy_(theirs.bias)


class TestPublishedNetwork:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_equal_weights_give_equal_outputs(self, channels: int) -> None:
        torch.manual_seed(0)
        plain = PlainPixelCNNpp(channels, blocks=2, filters=6, mixtures=2).double().eval()
        outputs = 2 * parameters_per_mixture(channels)
        ours = Network(channels, outputs, 6, 2, 3, 0.5, None).double().eval()
        same_weights(plain, ours)
        x = images(2, (channels, 16, 12))
        expected = plain(x).permute(0, 2, 3, 1)
        assert torch.allclose(ours(x), expected, atol=1e-12)

    def test_gradients_are_equal_too(self) -> None:
        torch.manual_seed(0)
        plain = PlainPixelCNNpp(1, blocks=1, filters=4, mixtures=2).double().eval()
        ours = Network(1, 6, 4, 1, 3, 0.5, None).double().eval()
        same_weights(plain, ours)
        x = images(2, (1, 8, 8))
        for network, order in ((plain, (0, 2, 3, 1)), (ours, (0, 1, 2, 3))):
            out = network(x).permute(order)
            (
                out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
            ).sum().backward()
        for theirs, (layer, _) in zip(published_layers(plain), ours.layers(), strict=True):
            assert torch.allclose(layer.bias.grad, theirs.bias.grad, atol=1e-10)

    @pytest.mark.parametrize(
        ("preset", "shape", "expected"),
        [("paper-cifar10", (3, 32, 32), 53_659_080), ("paper-mnist", (1, 28, 28), 3_369_500)],
    )
    def test_presets_have_the_published_parameters(
        self, preset: str, shape: tuple[int, ...], expected: int
    ) -> None:
        settings = PixelCNNpp.presets[preset]
        options = {k: v for k, v in settings.items() if not k.startswith("training.")}
        with torch.device("meta"):
            density = PixelCNNpp(shape, shape, 256, build(PixelCNNpp.Config, options, "options"))
            c = density.config
            plain = PlainPixelCNNpp(shape[0], c.blocks, c.filters, c.mixtures)
        assert sum(p.numel() for p in density.parameters()) == expected
        assert sum(p.numel() for p in plain.parameters()) == expected


class TestActivations:
    @pytest.mark.parametrize("padding", PADDINGS.values(), ids=PADDINGS)
    def test_concat_elu(self, padding: tuple[int, int, int]) -> None:
        x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
        y = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
        top, bottom, left, right = padding
        joined = torch.cat([x, y], 1)
        expected = nn.functional.elu(torch.cat([joined, -joined], 1))
        expected = nn.functional.pad(expected, (left, right, top, bottom))
        assert torch.allclose(concat_elu(x, y, padding=padding), expected, atol=1e-15)
        assert torch.autograd.gradcheck(lambda *p: concat_elu(*p, padding=padding), (x, y))

    def test_gate(self) -> None:
        x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
        both = torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True)
        assert torch.allclose(gate(x, both), x + nn.functional.glu(both, 1))
        assert torch.autograd.gradcheck(gate, (x, both))

    def test_extreme_values_stay_finite(self) -> None:
        x = torch.tensor([-1e30, -1e4, 0.0, 1e4, 1e30]).view(1, 1, 1, 5).requires_grad_()
        out = concat_elu(x)
        (gradient,) = torch.autograd.grad(out.sum(), x)
        assert out.isfinite().all()
        assert gradient.isfinite().all()
        assert elu_pair(torch.stack([x.detach(), -x.detach()])).isfinite().all()


class TestAutoregression:
    @pytest.mark.parametrize(
        ("shape", "options"),
        [
            ((1, 5, 6), {}),
            pytest.param((3, 4, 5), {"blocks": 2}, marks=pytest.mark.slow),
            ((2, 5, 4), {"scales": 4}),
            ((1, 4, 5), {"classes": 3}),
        ],
    )
    def test_parameters_of_a_pixel_see_earlier_pixels_only(
        self, shape: tuple[int, ...], options: dict[str, int]
    ) -> None:
        density = model(shape, **options)
        labels = torch.tensor([1]) if density.classes else None
        x = images(1, shape)
        jacobian = torch.autograd.functional.jacobian(
            lambda x: density.network(x, Condition(labels)), x
        )
        _, height, width = shape
        pixels = height * width
        # (1, H, W, P, 1, C, H, W) -> does any parameter of pixel i see any channel of pixel j?
        seen = jacobian.abs().amax(dim=(0, 3, 4, 5)).reshape(pixels, pixels) > 0
        assert not seen.triu().any()
        assert seen[-1, :-1].float().mean() > 0.5

    def test_every_earlier_pixel_is_seen_by_a_deep_network(self) -> None:
        density = model((1, 6, 6), blocks=2)
        jacobian = torch.autograd.functional.jacobian(density.network, images(1, (1, 6, 6)))
        seen = jacobian.abs().amax(dim=(0, 3, 4, 5)).reshape(36, 36) > 0
        assert torch.equal(seen, torch.ones(36, 36).tril(-1).bool())

    def test_channels_see_earlier_channels_of_their_pixel(self) -> None:
        density = model((3, 2, 2), levels=None)
        x = images(1, (3, 2, 2)).requires_grad_()
        parameters = density.network(x).detach()
        mixture = CoupledMixture.of(parameters, 3, LOGISTICS)

        def conditional(c: int, values: Tensor) -> Tensor:
            """Log p of channel c given the earlier ones: a difference of joint densities."""
            log_scales = mixture.log_scales[..., : c + 1, :]
            pairs = c * (c + 1) // 2
            joint = CoupledMixture(
                mixture.logits,
                mixture.means[..., : c + 1, :],
                log_scales,
                mixture.coupling[..., :pairs, :],
                mixture.components,
            )
            return joint.log_prob(values[..., : c + 1]).sum()

        values = x.detach().permute(0, 2, 3, 1).requires_grad_()
        for c in range(3):
            (gradient,) = torch.autograd.grad(conditional(c, values), values)
            assert (gradient[..., c + 1 :] == 0).all()
            assert (gradient[..., : c + 1] != 0).all()

    @pytest.mark.parametrize(
        ("shape", "options"),
        [
            ((1, 4, 4), {"blocks": 3, "conditioning": "stacked"}),
            ((1, 4, 4), {"blocks": 3}),
            ((1, 6, 5), {"scales": 4}),
            ((3, 5, 3), {"offset": True}),
            ((1, 5, 4), {"scales": 1, "encoder_blocks": 3}),
            ((1, 4, 5), {"classes": 3}),
        ],
    )
    def test_a_denoiser_sees_all_of_the_context_and_earlier_pixels_of_x(
        self, shape: tuple[int, ...], options: dict[str, Any]
    ) -> None:
        density = model(shape, denoiser=True, levels=None, **options)
        x, context = images(1, shape), images(1, shape, "context")
        labels = torch.tensor([1]) if density.classes else None
        pixels = shape[1] * shape[2]

        def parameters(context: Tensor, x: Tensor) -> Tensor:
            found: Tensor = density._outputs(x, context, labels)
            return found.reshape(pixels, -1)

        to_context, to_x = torch.autograd.functional.jacobian(parameters, (context, x))
        of_pixel = (1, 2, 3)  # parameters of a pixel, image, channels of x
        seen = to_context.abs().amax(dim=of_pixel).reshape(pixels, pixels) > 0
        assert seen.all()
        seen = to_x.abs().amax(dim=of_pixel).reshape(pixels, pixels) > 0
        assert not seen.triu().any()
        assert seen[-1, :-1].float().mean() > 0.5

    def test_an_encoders_features_have_the_streams_sizes(self) -> None:
        density = model((1, 7, 5), denoiser=True, scales=3, encoder_filters=6)
        assert density.encoder is not None
        features = density.encoder(images(2, (1, 7, 5)))
        assert [tuple(each.shape) for each in features] == [
            (2, 4, 7, 5),
            (2, 4, 4, 3),
            (2, 4, 2, 2),
        ]

    @pytest.mark.parametrize("rows", [1, 5, 8, 11])
    def test_skipping_known_rows_changes_nothing(self, rows: int) -> None:
        density = model((1, 12, 6), blocks=1)
        x = images(2, (1, 12, 6))
        whole, part = density.network(x), density.network(x, first_row=rows)
        assert torch.allclose(whole[:, rows:], part, atol=1e-12)


class TestDensity:
    @pytest.mark.parametrize("channels", [1, 2])
    def test_discretised_mass_sums_to_one(self, channels: int) -> None:
        levels = 256 if channels == 1 else 24
        torch.manual_seed(0)
        parameters = torch.randn(1, 3 * parameters_per_mixture(channels), dtype=torch.float64)
        mixture = CoupledMixture.of(parameters, channels, LOGISTICS)
        axis = torch.arange(levels, dtype=torch.float64) * 2 / (levels - 1) - 1
        grid = torch.cartesian_prod(*[axis] * channels).view(-1, channels)
        mass = mixture.log_prob(grid, levels).exp().sum()
        assert mass.item() == pytest.approx(1, abs=1e-9)

    def test_mass_of_all_images_sums_to_one(self) -> None:
        density = model((1, 1, 3), levels=16)
        axis = torch.arange(16, dtype=torch.float64) * 2 / 15 - 1
        x = torch.cartesian_prod(axis, axis, axis).view(-1, 1, 1, 3)
        assert density.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-9)

    def test_continuous_density_is_not_clamped(self) -> None:
        density = model((1, 2, 2))
        x = images(3, (1, 2, 2))
        x[:, :, 1, 1] = torch.tensor([1.5, 2.5, 3.5])[:, None]
        log_prob = density.log_prob(x)
        assert log_prob[0] != log_prob[1]
        assert (density.score_function(x)[:, :, 1, 1] < 0).all()

    def test_smoothed_normals_integrate_to_one_and_are_sampled(self) -> None:
        density = model((1, 1, 2), noise=0.4)
        axis = torch.linspace(-15, 15, 151, dtype=torch.float64)
        log_prob = density.log_prob(torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2))
        cells = log_prob.exp().view(151, 151) * 0.2**2
        assert cells.sum().item() == pytest.approx(1, abs=1e-5)
        x = density.sample(20_000, generator=generator("many")).flatten(1)
        for coordinate, mass in zip(x.T, (cells.sum(1), cells.sum(0)), strict=True):
            below = (coordinate[:, None] <= axis[::5] + 0.1).double().mean(0)
            assert (below - mass.cumsum(0)[::5]).abs().max() < 0.02

    def test_no_pixel_is_narrower_than_the_noise(self) -> None:
        parameters = 5 * torch.randn(1000, 3 * parameters_per_mixture(1), generator=generator("w"))
        mixture = CoupledMixture.of(parameters.double(), 1, Components(-7.0, 0.25))
        assert mixture.log_scales.exp().min() >= 0.25
        assert mixture.log_prob(torch.zeros(1000, 1)).max() <= -math.log(
            0.25 * math.sqrt(2 * math.pi)
        )

    def test_normals_are_smoothed_exactly(self) -> None:
        """With noise a factor is the integral of the same normals without it over the noise."""
        parameters = torch.randn(3 * parameters_per_mixture(1), generator=generator("w")).double()
        plain, noisy = (CoupledMixture.of(parameters, 1, Components(-7.0, s)) for s in (1e-9, 0.5))
        n = torch.linspace(-6, 6, 4001, dtype=torch.float64)
        kernel = Gaussian(0.5).log_density(n).exp() * 12 / 4000
        for x in (-1.0, 0.3, 2.0):
            smoothed = (plain.log_prob((x - n)[:, None]).exp() * kernel).sum()
            exact = noisy.log_prob(torch.tensor([x]).double()).exp()
            assert exact.item() == pytest.approx(smoothed.item(), rel=1e-6)

    def test_noise_is_in_smoothed_images_alone(self) -> None:
        with pytest.raises(UsageError, match="grid"):
            PixelCNNpp((1, 4, 4), levels=16, config=build(PixelCNNpp.Config, {"noise": 0.3}, "x"))

    def test_a_priors_loss_is_that_of_smoothed_images_and_varies_less(self) -> None:
        density, x = model((1, 2, 2), noise=0.3), images(1, (1, 2, 2)).expand(20_000, -1, -1, -1)
        x_smooth = Gaussian(0.3).sample(x, generator("smoothing"))
        plain, ours = -density.log_prob(x_smooth), density.prior_loss(x, x_smooth, 0.3)
        error = (plain - ours).std() / math.sqrt(len(x))
        assert (plain - ours).mean().abs() < 4 * error
        assert ours.std() < 0.9 * plain.std()

    def test_samples_follow_the_density(self) -> None:
        density = model((1, 1, 2), levels=8)
        axis = torch.arange(8, dtype=torch.float64) * 2 / 7 - 1
        every = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
        x = density.sample(20_000, generator=generator("many"))
        index = ((x + 1) * 3.5).round().long().flatten(1) @ torch.tensor([8, 1])
        counts = torch.bincount(index, minlength=64).double() / len(x)
        expected = density.log_prob(every).exp()
        assert (counts - expected).abs().max() < 0.015

    def test_coupled_draws_follow_the_density(self) -> None:
        torch.manual_seed(1)
        parameters = torch.randn(2 * parameters_per_mixture(2), dtype=torch.float64)
        blank = torch.zeros(50_000, 2, 1, 1, dtype=torch.float64)
        noise = PixelNoise.of_images(blank, 2, LOGISTICS, generator("draws")).at(0)
        x = draw(parameters.expand(50_000, -1), noise, LOGISTICS, levels=6)
        axis = torch.arange(6, dtype=torch.float64) * 2 / 5 - 1
        expected = CoupledMixture.of(parameters, 2, LOGISTICS).log_prob(
            torch.cartesian_prod(axis, axis), 6
        )
        index = ((x + 1) * 2.5).round().long() @ torch.tensor([6, 1])
        counts = torch.bincount(index, minlength=36).double() / len(x)
        assert (counts - expected.exp()).abs().max() < 0.01

    @pytest.mark.parametrize("denoiser", [False, True])
    def test_first_batch_sets_the_scale_of_every_layer(self, denoiser: bool) -> None:
        x = 0.1 * torch.randn(64, 1, 8, 8, generator=generator("narrow")) + 0.4
        density = PixelCNNpp((1, 8, 8), (1, 8, 8) if denoiser else None).eval()
        context = x + 0.1 * torch.randn(x.shape, generator=generator("x̃")) if denoiser else None
        density.initialize(x, context)
        outputs: dict[nn.Module, Tensor] = {}
        layers = density.network.layers()[:-1]
        if density.encoder is not None:
            layers += layers_of(density.encoder)
        for layer, _ in layers:
            layer.register_forward_hook(lambda m, i, o: outputs.update({m: o}))
        density.log_prob(x, context)
        for layer, spread in layers:
            channel = 3 if isinstance(layer, nn.Linear) else 1
            values = outputs[layer].transpose(0, channel).flatten(1)
            assert values.mean(1).abs().max() < 1e-3
            sd = values.std(1)
            assert torch.allclose(sd[sd > 0.01 * spread], torch.tensor(spread), rtol=0.02)

    def test_labels_matter_once_trained(self) -> None:
        density = model((1, 4, 4), classes=3)
        x = images(2, (1, 4, 4))
        a, b = (density.log_prob(x, labels=torch.tensor([k, k])) for k in (0, 2))
        assert not torch.allclose(a, b)

    @pytest.mark.parametrize(
        "labels", [None, torch.tensor([0]), torch.tensor([0, 3]), torch.tensor([-1, 0])]
    )
    def test_bad_labels_are_refused(self, labels: Tensor | None) -> None:
        density = model((1, 4, 4), classes=3)
        with pytest.raises(UsageError, match="abels"):
            density.log_prob(images(2, (1, 4, 4)), labels=labels)

    def test_another_context_is_refused(self) -> None:
        with pytest.raises(UsageError, match="context"):
            PixelCNNpp((1, 4, 4), (1, 8, 4))


SAMPLERS = ("naive", "auto", "cached", "parallel")

CASES = [
    ((1, 8, 8), False, {}),
    ((3, 5, 7), False, {"blocks": 2}),
    ((1, 9, 6), True, {"scales": 2}),
    pytest.param((2, 12, 11), True, {"scales": 4}, marks=pytest.mark.slow),
    ((3, 6, 5), True, {"classes": 4, "offset": True, "lowest_sigma": 0.1}),
    ((1, 7, 4), True, {"scales": 1, "encoder_blocks": 0}),
    pytest.param((1, 30, 4), True, {"encoder_filters": 3}, marks=pytest.mark.slow),
    ((1, 1, 1), True, {}),
    ((1, 9, 6), True, {"scales": 2, "conditioning": "stacked"}),
    pytest.param(
        (2, 12, 11), True, {"scales": 4, "conditioning": "stacked"}, marks=pytest.mark.slow
    ),
    ((3, 6, 5), True, {"classes": 4, "offset": True, "conditioning": "stacked"}),
    pytest.param((1, 30, 4), True, {"conditioning": "stacked"}, marks=pytest.mark.slow),
    ((1, 1, 1), True, {"conditioning": "stacked"}),
    ((1, 1, 5), False, {}),
    ((1, 6, 1), False, {}),
]


def every_way(
    device: str, run: Callable[[PixelCNNpp], Tensor], *args: Any, **options: Any
) -> list[Tensor]:
    """What each sampler draws from a model of these settings, the naive one first."""
    return [run(model(*args, **options, sampler=name).to(device)) for name in SAMPLERS]


class TestSamplers:
    @pytest.mark.parametrize(("shape", "denoiser", "options"), CASES)
    @pytest.mark.parametrize("levels", [None, 256])
    def test_all_draws_are_the_naive_ones(
        self,
        shape: tuple[int, ...],
        denoiser: bool,
        options: dict[str, Any],
        levels: int | None,
        device: str,
    ) -> None:
        labels = torch.tensor([0, 3, 1], device=device) if options.get("classes") else None
        context = 1.5 * images(3, shape).to(device) if denoiser else None
        naive, *others = every_way(
            device,
            lambda d: d.sample(3, context, labels, generator("draw")),
            *(shape, denoiser, levels),
            **options,
        )
        for drawn in others:
            assert (naive - drawn).abs().max() < 1e-9 * naive.abs().max().clamp(min=1)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
    @pytest.mark.parametrize(("shape", "denoiser", "options"), CASES)
    def test_cached_logits_are_the_forward_pass_ones(
        self,
        shape: tuple[int, ...],
        denoiser: bool,
        options: dict[str, Any],
        dtype: torch.dtype,
        tolerance: float,
        device: str,
    ) -> None:
        """Teacher-forced: every pixel is 'drawn' as given, and its parameters are compared."""
        density = model(shape, denoiser, dtype=dtype, **options).to(device)
        labels = torch.tensor([0, 3], device=device) if density.classes else None
        canvas = images(2, shape).to(device, dtype)
        context = images(2, shape, "context").to(device, dtype)
        first_row, features = 0, ()
        if density.encoder is not None:
            features = density.encoder(context)
        elif denoiser:
            canvas = torch.cat([context, canvas], dim=2)
            first_row = shape[1]
        condition = density._condition(2, labels)
        expected = density.network(canvas, condition, features=features)
        known = torch.zeros(1, 1, *canvas.shape[2:], dtype=torch.bool, device=device)
        known[:, :, :first_row] = True
        found: list[Tensor] = []
        pixels = iter(canvas[:, :, first_row:].flatten(2).unbind(2))

        class Taught(Canvas):
            def draw(self, row: int, column: int, parameters: Tensor) -> Tensor:
                found.append(parameters)
                return next(pixels)

        noise = PixelNoise.of_images(canvas[:, :, first_row:], 2, LOGISTICS, None)
        taught = Taught(
            canvas,
            known,
            noise,
            LOGISTICS,
            condition=condition,
            features=features,
            first_row=first_row,
        )
        CachedSampler()(density.network, taught)
        wanted = expected[:, first_row:].flatten(1, 2).unbind(1)
        for parameters, each in zip(found, wanted, strict=True):
            assert ((parameters - each).abs() / each.abs().clamp(min=1)).max() < tolerance

    @pytest.mark.parametrize("rows", [0, 1, 3, 6])
    @pytest.mark.parametrize("conditioning", [None, "aligned", "stacked"])
    def test_known_pixels_are_kept(self, rows: int, conditioning: str | None, device: str) -> None:
        options = {} if conditioning is None else {"conditioning": conditioning}
        x, context = (images(2, (1, 9, 6), key).to(device) for key in ("images", "context"))
        x_smooth = None if conditioning is None else context
        known = torch.zeros(2, 1, 9, 6, dtype=torch.bool, device=device)
        known[:, :, :rows] = True
        known[1, :, 5:7, 2:4] = True
        naive, *others = every_way(
            device,
            lambda d: d.inpaint(x, known, x_smooth, None, generator("c")),
            *((1, 9, 6), conditioning is not None, 16),
            **options,
        )
        for drawn in others:
            assert (naive - drawn).abs().max() < 1e-9
            assert torch.equal(drawn[known], x[known])
            assert not torch.equal(drawn[~known], x[~known])

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_what_is_not_known_does_not_matter(self, sampler: str) -> None:
        density = model((1, 4, 4), sampler=sampler)
        known = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        known[..., :2, :] = True
        x = images(2, (1, 4, 4))
        y = torch.where(known, x, torch.nan)
        a, b = (density.inpaint(z, known, None, None, generator("c")) for z in (x, y))
        assert torch.equal(a, b)

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_the_batch_size_does_not_matter(self, sampler: str) -> None:
        density = model((1, 6, 6), sampler=sampler)
        whole = density.sample(5, generator=generator("draw"))
        source = generator("draw")
        parts = torch.cat([density.sample(n, generator=source) for n in (2, 1, 2)])
        assert (whole - parts).abs().max() < 1e-9

    def test_training_mode_survives_and_dropout_is_off(self) -> None:
        density = model((1, 4, 4), dropout=0.5).train()
        a, b = (density.sample(2, generator=generator("draw")) for _ in range(2))
        assert density.training
        assert torch.equal(a, b)

    def test_progress_ends_at_the_last_row(self) -> None:
        seen: list[tuple[int, int]] = []
        density = model((1, 5, 4), denoiser=True)
        density.sample(
            1, images(1, (1, 5, 4)), None, generator("p"), lambda a, b: seen.append((a, b))
        )
        assert seen == [(row + 1, 5) for row in range(5)]

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_gradients_can_start_from_samples(self, sampler: str) -> None:
        density = model((1, 4, 4), sampler=sampler)
        x = density.sample(2, generator=generator("draw"))
        assert density.score_function(x).isfinite().all()
