"""What all architectures have in common, whether or not their likelihood is known."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from smoothctl.architectures.base import Density
from smoothctl.config import as_dict, build, settings_of
from smoothctl.errors import NotAvailable, UsageError
from smoothctl.kernels.gaussian import Gaussian
from smoothctl.rng import generator, skipped
from smoothctl.testing.devices import OnDevice
from smoothctl.testing.settings import check_any_settings

__all__ = ["AnyDensityContract", "OfImages", "OfVectors"]

DTYPES = [torch.float32, torch.float64]
DEVICES = ["cuda", "mps"]


class AnyDensityContract(OnDevice, ABC):
    """The contract of `Density` but for likelihoods; subclassed by the suites of each kind."""

    density_class: ClassVar[type[Density]]
    options: ClassVar[dict[str, Any]] = {}
    sigma: ClassVar[float] = 0.3
    """The smoothing that `build` gives to a model that takes it as an input (`lowest_sigma`)."""

    perturbation: ClassVar[float] = 0.2
    """Standard deviation of what `build` adds to every weight."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The event shape that most tests use."""

    @property
    def conditional(self) -> bool:
        """Whether the architecture takes a context."""
        return self.density_class.conditional

    def build(
        self,
        conditional: bool = False,
        shape: tuple[int, ...] | None = None,
        dtype: torch.dtype = torch.float64,
        levels: int | None = None,
    ) -> Density:
        """Returns a model whose scales were initialised from data and whose weights are random."""
        shape = shape or self.shape
        torch.manual_seed(0)
        config = build(self.density_class.Config, self.options, "options")
        density = self.density_class(shape, shape if conditional else None, levels, config)
        density = density.to(dtype).at(self.sigma)
        x = 0.5 * torch.randn(500, *shape, dtype=dtype)
        density.initialize(x, x + 0.3 * torch.randn_like(x) if conditional else None)
        for parameter in density.parameters():
            parameter.data += self.perturbation * torch.randn_like(parameter)
        return density.to(self.device).eval()

    @pytest.fixture(params=["prior", "denoiser"])
    def model(self, request: pytest.FixtureRequest) -> tuple[Density, Tensor | None]:
        """The model with and without a context of four rows."""
        if request.param == "denoiser" and not self.conditional:
            pytest.skip("takes no context")
        conditional = request.param == "denoiser"
        torch.manual_seed(1)
        context = (
            torch.randn(4, *self.shape, dtype=torch.float64).to(self.device)
            if conditional
            else None
        )
        return self.build(conditional), context

    def test_shapes(self, model: tuple[Density, Tensor | None]) -> None:
        """Samples are (n, *event), losses (batch,)."""
        density, context = model
        x = density.sample(4, context, None, generator("contract"))
        assert x.shape == (4, *self.shape)
        assert density.training_loss(x, context, None, generator("contract")).shape == (4,)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtypes_are_kept(self, dtype: torch.dtype) -> None:
        """A float64 model computes in float64."""
        density = self.build(dtype=dtype)
        x = density.sample(3, generator=generator("contract"))
        assert x.dtype == density.training_loss(x, None, None, generator("contract")).dtype == dtype

    @pytest.mark.parametrize("device", DEVICES)
    def test_devices_are_kept(self, device: str) -> None:
        """A model on an accelerator computes there, also from a generator of the CPU."""
        if not getattr(torch, device).is_available():
            pytest.skip(f"no {device} here")
        density = self.build(dtype=torch.float32).to(device)
        x = density.sample(3, generator=generator("contract"))
        loss = density.training_loss(x, None, None, generator("contract"))
        assert x.device.type == loss.device.type == device

    def test_every_parameter_gets_a_gradient(self, model: tuple[Density, Tensor | None]) -> None:
        """Training reaches every weight."""
        density, context = model
        x = torch.randn(4, *self.shape, dtype=torch.float64).to(self.device)
        density.training_loss(x, context, None, generator("contract")).mean().backward()
        missing = [name for name, p in density.named_parameters() if p.grad is None]
        assert not missing

    def test_the_context_changes_samples(self) -> None:
        """Another context gives other samples; an architecture that takes none refuses one."""
        if not self.conditional:
            with pytest.raises(UsageError, match="context"):
                self.build(conditional=True)
            return
        density = self.build(conditional=True)
        x = torch.zeros(3, *self.shape, dtype=torch.float64).to(self.device)
        a, b = (density.sample(3, c, None, generator("contract")) for c in (x + 0.1, x - 0.7))
        assert not torch.allclose(a, b)

    def test_sigma_is_an_input(self, model: tuple[Density, Tensor | None]) -> None:
        """Each row may have its own; a model that knows σ asks for one, and shares its weights."""
        density, context = model
        if not density.lowest_sigma:
            assert density.at(2 * self.sigma) is density
            pytest.skip("has one sigma")
        x = density.sample(4, context, None, generator("contract"))
        levels = self.sigma * torch.tensor([1.0, 1.5, 0.9, 2.0], dtype=torch.float64)
        draws = (context, None, generator("loss"))
        mixed = density.at(levels.to(self.device)).training_loss(x, *draws)
        for row, level in enumerate(levels.tolist()):
            draws = (context, None, generator("loss"))
            alone = density.at(level).training_loss(x, *draws)
            assert torch.allclose(mixed[row], alone[row], atol=1e-9), row
        assert not torch.allclose(mixed[1:], density.training_loss(x, *draws)[1:])
        other = density.at(2 * self.sigma)
        assert [*other.parameters()] == [*density.parameters()]
        density.chosen_sigma = None
        with pytest.raises(UsageError, match="sigma"):
            density.training_loss(x, context, None, generator("loss"))

    def test_same_generator_same_samples(self, model: tuple[Density, Tensor | None]) -> None:
        """Seeds reproduce, different seeds differ, and no seed is taken from elsewhere."""
        density, context = model
        first = density.sample(4, context, None, generator("one"))
        before = torch.get_rng_state()
        again, other = (density.sample(4, context, None, generator(key)) for key in ("one", "two"))
        assert torch.equal(before, torch.get_rng_state()), "the global generator was used"
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_same_generator_same_loss(self, model: tuple[Density, Tensor | None]) -> None:
        """A training that is resumed sees the loss that it would have seen."""
        density, context = model
        x = torch.randn(4, *self.shape, dtype=torch.float64, generator=generator("data")).to(
            self.device
        )
        density.train()
        losses = []
        for _ in range(2):
            torch.manual_seed(5)  # as the training loop does for dropout
            losses.append(density.training_loss(x, context, None, generator("contract")))
        assert torch.equal(*losses)

    def test_state_survives_a_file(
        self, model: tuple[Density, Tensor | None], tmp_path: Path
    ) -> None:
        """A model restored from safetensors draws the same samples and has the same loss."""
        density, context = model
        again = self.restored(density, tmp_path)
        a, b = (m.sample(4, context, None, generator("contract")) for m in (density, again))
        assert torch.equal(a, b)
        a, b = (m.training_loss(a, context, None, generator("contract")) for m in (density, again))
        assert torch.equal(a, b)

    def restored(self, density: Density, folder: Path) -> Density:
        """Returns the model after a round trip through a weights file."""
        from smoothctl.storage.weights import read_weights, write_weights

        write_weights(folder / "m.safetensors", density.state_dict(), {"format": 1})
        tensors, _ = read_weights(folder / "m.safetensors")
        again = type(density)(
            density.event_shape, density.context_shape, density.levels, density.config
        ).to(self.device, torch.float64)
        again.load_state_dict(tensors)
        return again.eval().at(self.sigma)

    def test_frames_end_in_the_samples(self) -> None:
        """`trajectory` ends in what `sample` draws, or says why there is none."""
        density = self.build()
        try:
            frames = density.trajectory(3, 4, generator("contract"))
        except NotAvailable as reason:
            if len(str(reason)) < 20:
                raise
            return
        assert frames.shape == (4, 3, *self.shape)
        assert torch.allclose(frames[-1], density.sample(3, generator=generator("contract")))
        assert not torch.allclose(frames[0], frames[-1])

    def test_it_can_be_a_prior(self) -> None:
        """The hooks of a prior take clean data, the same smoothed, and σ."""
        density, kernel = self.build().train(), Gaussian(0.3)
        x = torch.randn(64, *self.shape, dtype=torch.float64).to(self.device)
        x_smooth = kernel.sample(x, generator("contract"))
        density.initialize_prior(x, x_smooth, kernel.sigma)
        loss = density.prior_loss(x, x_smooth, kernel.sigma, None, generator("contract"))
        assert loss.shape == (64,)
        assert loss.isfinite().all()

    def test_labels_are_refused_without_classes(self) -> None:
        """A model without classes does not ignore labels."""
        density, labels = self.build(), torch.zeros(3, dtype=torch.int64).to(self.device)
        x = torch.zeros(3, *self.shape, dtype=torch.float64).to(self.device)
        assert density.classes is None
        with pytest.raises(UsageError, match="classes"):
            density.sample(3, None, labels, generator("contract"))
        with pytest.raises(UsageError, match="classes"):
            density.training_loss(x, None, labels, generator("contract"))

    @property
    def known(self) -> Tensor:
        """A mask of two events: the first coordinate or row of pixels of both, more of one."""
        known = torch.zeros(
            2, *(1,) * (len(self.shape) == 3), *self.shape[-2:], dtype=torch.bool
        ).to(self.device)
        known[(..., 0, slice(None)) if len(self.shape) == 3 else (..., 0)] = True
        known[1, ..., :-1] = True
        return known

    def inpaint(self, x: Tensor, known: Tensor) -> Tensor:
        """Returns x with what is not known drawn; skips where an architecture says it cannot."""
        try:
            return self.build().inpaint(x, known, None, None, generator("contract"))
        except NotAvailable as reason:
            if len(str(reason)) < 20:
                raise
            pytest.skip(str(reason))

    def test_inpainting_keeps_what_is_known(self) -> None:
        """True in the mask means known, and each event has its own."""
        x, known = torch.randn(2, *self.shape, dtype=torch.float64).to(self.device), self.known
        filled, kept = self.inpaint(x, known), known.expand_as(x)
        assert torch.equal(filled[kept], x[kept])
        assert (filled != x)[~kept].all()

    def test_what_is_not_known_does_not_matter(self) -> None:
        """Not even where it is no number."""
        x, known = torch.randn(2, *self.shape, dtype=torch.float64).to(self.device), self.known
        without = x.where(known, torch.nan)
        assert torch.equal(self.inpaint(x, known), self.inpaint(without, known))

    def test_one_mask_may_be_for_all(self) -> None:
        """A mask of one event is that of every one."""
        x, known = torch.randn(2, *self.shape, dtype=torch.float64).to(self.device), self.known[1:]
        assert torch.equal(
            self.inpaint(x, known), self.inpaint(x, known.expand(2, *known.shape[1:]))
        )

    def test_a_mask_of_another_shape_is_refused(self) -> None:
        """So are numbers: indices of what is known are no mask."""
        x, known = torch.randn(2, *self.shape, dtype=torch.float64).to(self.device), self.known
        for wrong in (known[:, :0], known.to(torch.int64), known[0], torch.cat([known, known])):
            with pytest.raises(UsageError, match="mask"):
                self.inpaint(x, wrong)

    def test_progress_is_told(self) -> None:
        """Progress, where it is told, never exceeds its total."""
        told: list[tuple[int, int]] = []
        self.build().sample(2, progress=lambda *done: told.append(done))
        assert all(0 <= done <= total for done, total in told)

    def test_summary_is_a_sentence(self) -> None:
        """The list of architectures says what it is."""
        assert len(self.density_class.summary) > 20

    def test_config_is_documented(self) -> None:
        """Every setting has a default and a description, and unknown ones are refused."""
        for setting in settings_of(self.density_class.Config):
            assert setting["description"], setting["name"]
        with pytest.raises(UsageError, match="no_such_key"):
            build(self.density_class.Config, {"no_such_key": 1}, "options")
        config = self.density_class.Config()
        assert build(self.density_class.Config, as_dict(config), "options") == config

    def test_any_settings_end_in_a_sentence_or_a_loss(self) -> None:
        """Whatever is set: what cannot be made is said, and what can has a finite loss."""
        check_any_settings(self.density_class, self.options, self.shape, examples=5)

    def test_presets_are_settings(self) -> None:
        """Every value of a preset belongs to the Config or to training."""
        from smoothctl.runs.config import TrainingConfig

        for preset in self.density_class.presets.values():
            training = {k.removeprefix("training."): v for k, v in preset.items() if "." in k}
            build(TrainingConfig, training, "training")
            plain = {key: value for key, value in preset.items() if "." not in key}
            build(self.density_class.Config, plain, "options")

    def test_suited_settings_are_settings(self) -> None:
        """What suits a stage belongs to the Config, under the same names for every stage."""
        cls, names = self.density_class, set()
        for stage in ("prior", "denoiser", "baseline", "joint"):
            for epochs in (0.1, 1000.0):
                suited = cls.suited(stage, epochs, {})
                build(cls.Config, suited, "options")
                names.add(frozenset(suited))
        assert len(names) == 1

    def test_named_settings_are_settings(self) -> None:
        """What may be chosen for sampling, or is a prior's alone, belongs to the Config."""
        names = {setting["name"] for setting in settings_of(self.density_class.Config)}
        assert self.density_class.sampler_settings <= names
        assert {self.density_class.noise_setting} - {""} <= names

    def test_a_fit_helps(self) -> None:
        """A few steps of gradient descent on data lower the loss."""
        density = self.build().train()
        x = 0.5 * torch.randn(256, *self.shape, dtype=torch.float64).to(self.device) + 1
        density.initialize(x)
        adam = torch.optim.Adam(density.parameters(), lr=1e-2)
        losses = []
        for _ in range(40):
            loss = density.training_loss(x, None, None, generator("contract")).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]


class OfVectors(OnDevice):
    """Makes a contract one of vectors; set `dims` for another dimension than two."""

    dims: ClassVar[int] = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """(dims,)."""
        return (self.dims,)

    def grid(self, reach: float, points: int = 401) -> tuple[Tensor, Tensor]:
        """Returns points (n, dims) within ±reach, densest at 0, and the volume of each (n,)."""
        axis = torch.linspace(-1, 1, points, dtype=torch.float64).to(self.device)
        spread = reach * axis.sign() * axis.abs() ** 2
        widths = 2 * axis.abs() * reach * (axis[1] - axis[0])
        volumes = torch.cartesian_prod(*[widths] * self.dims).view(-1, self.dims).prod(1)
        return torch.cartesian_prod(*[spread] * self.dims).view(-1, self.dims), volumes


class OfImages(AnyDensityContract):
    """Makes a contract one of images; set `shape` for other images."""

    shape: ClassVar[tuple[int, ...]] = (1, 4, 3)

    def test_images_do_not_depend_on_the_batch(self) -> None:
        """The i-th image that is drawn from a generator is the same however they are batched."""
        density, source = self.build(), generator("contract")
        whole = density.sample(3, generator=generator("contract"))
        parts = torch.cat([density.sample(k, generator=source) for k in (1, 2)])
        assert torch.allclose(whole, parts, atol=1e-9)

    def test_an_image_takes_one_number_of_the_generator(
        self, model: tuple[Density, Tensor | None]
    ) -> None:
        """Images are skipped to by skipping one number for each: work that was stopped goes on."""
        density, context = model
        source, start = generator("contract"), 2
        whole = density.sample(4, context, None, source)
        rest = None if context is None else context[start:]
        skipping = skipped(generator("contract"), start)
        parts = density.sample(4 - start, rest, None, skipping)
        assert torch.allclose(whole[start:], parts, atol=1e-9)
        after = skipped(generator("contract"), 4).get_state()
        assert torch.equal(source.get_state(), after)
        assert torch.equal(skipping.get_state(), after)
