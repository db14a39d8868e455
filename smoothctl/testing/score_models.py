"""The contracts of score models, which have samples and scores but no likelihood."""

import pytest
import torch

from smoothctl.errors import NotAvailable
from smoothctl.rng import generator
from smoothctl.testing.contract import DTYPES, AnyDensityContract, OfImages, OfVectors

__all__ = ["ImageScoreModelContract", "ScoreModelContract"]


class _ScoreContract(AnyDensityContract):
    """What score models of vectors and of images have in common."""

    def test_the_likelihood_is_refused(self) -> None:
        """`log_prob` and `bound` say in a sentence that there is none; nothing is guessed."""
        density = self.build()
        assert not density.tractable
        assert not density.bounded
        x = torch.zeros(2, *self.shape, dtype=torch.float64).to(self.device)
        for likelihood in (density.log_prob, density.bound):
            with pytest.raises(NotAvailable, match=r"\w{3,} \w+.* "):
                likelihood(x)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_scores_have_shape_and_dtype(self, dtype: torch.dtype) -> None:
        """Scores have the shape and dtype of x, and depend on it."""
        density = self.build(dtype=dtype)
        x = torch.randn(3, *self.shape, dtype=dtype, generator=generator("data")).to(self.device)
        score = density.score_function(x)
        assert (score.shape, score.dtype) == (x.shape, dtype)
        assert score.isfinite().all()
        assert not torch.allclose(score, density.score_function(x + 0.5))

    def test_scores_do_not_depend_on_the_batch(self) -> None:
        """The score of a row is the same beside others."""
        density = self.build()
        x = torch.randn(3, *self.shape, dtype=torch.float64, generator=generator("data")).to(
            self.device
        )
        assert torch.allclose(
            density.score_function(x)[:1], density.score_function(x[:1]), atol=1e-10
        )


class ScoreModelContract(OfVectors, _ScoreContract):
    """What every score model of vectors must fulfil; set `density_class` and small `options`."""


class ImageScoreModelContract(OfImages, _ScoreContract):
    """What every score model of images must fulfil; set `density_class` and small `options`."""

    shape = (1, 8, 8)
