"""Two small architectures of kinds that smoothctl ships none of: a score model, a latent one."""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from smoothctl.architectures.base import Density, standardise
from smoothctl.config import config
from smoothctl.errors import NotAvailable
from smoothctl.kernels.gaussian import Gaussian
from smoothctl.rng import normal, row_generators


class Walk(Density):
    """The score of a Gaussian, and samples that shrink to it step by step: no likelihood."""

    @config
    class Config:
        steps: int = Field(50, ge=1, description="steps of the sampler")

    summary = "the score of one Gaussian, fitted by denoising score matching"
    tractable = False
    conditional = False
    required_kernel = "gaussian"
    suggested_sigma = 0.25
    sampler_settings = frozenset({"steps"})
    training_defaults: ClassVar = {"steps": 50, "batch_size": 64, "warmup": 1}

    def __init__(self, event_shape, context_shape=None, levels=None, config=None):
        super().__init__(event_shape, context_shape, levels, config)
        self.mean = nn.Parameter(torch.zeros(self.event_shape))
        self.log_scale = nn.Parameter(torch.zeros(self.event_shape))

    def initialize(self, x, context=None):
        mean, sd = standardise(x)
        self.mean.data.copy_(mean)
        self.log_scale.data.copy_(sd.log())

    def log_prob(self, x, context=None, labels=None):
        raise NotAvailable("Walk has a score but no likelihood.")

    def score_function(self, x, context=None, labels=None):
        return (self.mean - x) * (-2 * self.log_scale).exp()

    def training_loss(self, x, context=None, labels=None, generator=None):
        return self.prior_loss(x, Gaussian(0.1).sample(x, generator), 0.1, labels)

    def prior_loss(self, x, x_smooth, sigma, labels=None, generator=None):
        self.check_labels(labels, len(x))
        target = (x - x_smooth) / sigma**2
        error = sigma**2 * (self.score_function(x_smooth) - target) ** 2
        return 0.5 * error.flatten(1).sum(1)

    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        self.check_labels(labels, n)
        return self.trajectory(n, 1, generator, progress)[-1]

    @torch.no_grad()
    def trajectory(self, n, frames, generator=None, progress=None):
        """The spread of a walk of k steps is too large by a share of 1/k."""
        own = row_generators(n, generator)
        z = torch.stack([normal(self.event_shape, self.mean, each) for each in own])
        ends = torch.linspace(1, self.config.steps, frames + 1).round()[1:]
        if progress is not None:
            progress(n, n)
        return torch.stack([self.mean + self.log_scale.exp() * z * (1 + 1 / k) for k in ends])

    def inpaint(self, x, known, context=None, labels=None, generator=None, progress=None):
        self.check_known(known, len(x))
        drawn = self.sample(len(x), generator=generator, progress=progress)
        return torch.where(known, x, drawn)


class Sized(Walk):
    """The same with a buffer whose length the data choose, as a score network's noise levels."""

    def __init__(self, event_shape, context_shape=None, levels=None, config=None):
        super().__init__(event_shape, context_shape, levels, config)
        self.register_buffer("seen", torch.zeros(1))

    def initialize(self, x, context=None):
        super().initialize(x)
        self.seen = torch.ones(len(x))

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        self.seen = torch.zeros_like(state_dict[prefix + "seen"])
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ImageWalk(Walk):
    """The same for images."""

    domain = "image"


class Latent(Density):
    """x = m + a u + s ε with u ~ N(0, 1) summed out by draws: a bound of a known Gaussian."""

    summary = "a Gaussian with one latent coordinate, known by a bound"
    tractable = False
    bounded = True
    training_defaults: ClassVar = {"steps": 30, "batch_size": 64, "warmup": 1}

    def __init__(self, event_shape, context_shape=None, levels=None, config=None):
        super().__init__(event_shape, context_shape, levels, config)
        self.mean = nn.Parameter(torch.zeros(self.event_shape))
        self.slope = nn.Parameter(torch.full(self.event_shape, 0.5))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def log_prob(self, x, context=None, labels=None):
        raise NotAvailable("Latent sums its latent coordinate out by draws: use bound.")

    def log_weights(self, x, context=None, labels=None, draws=1, generator=None):
        self.check_labels(labels, len(x))
        u = normal((len(x), draws, 1), x, generator)
        centre = self._centre(context)[:, None] + self.slope * u
        z = (x[:, None] - centre) * (-self.log_scale).exp()
        log_normal = -0.5 * z**2 - self.log_scale - 0.5 * math.log(2 * math.pi)
        return log_normal.sum(2)

    def exact(self, x):
        """Returns log p(x) of a model without context, (batch,)."""
        covariance = torch.outer(self.slope, self.slope)
        covariance = covariance + (2 * self.log_scale).exp() * torch.eye(len(self.slope)).to(x)
        return torch.distributions.MultivariateNormal(self.mean, covariance).log_prob(x)

    @torch.no_grad()
    def sample(self, n, context=None, labels=None, generator=None, progress=None):
        self.check_labels(labels, n)
        u, noise = (normal((n, k), self.mean, generator) for k in (1, len(self.mean)))
        return self._centre(context) + self.slope * u + self.log_scale.exp() * noise

    def _centre(self, context):
        return self.mean[None] if context is None else self.mean + context
